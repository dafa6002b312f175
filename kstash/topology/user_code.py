"""How functions of users are called in labels and errors, and where they were declared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any


def function_name(function: Callable[..., Any]) -> str:
    """The short name of a user's function, for labels: `split`, `lambda`, `Parser`."""
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def function_place(function: Callable[..., Any]) -> str:
    """`name at file:line` of a user's function, or its name where Python knows no line."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    name = function_name(inner)
    return name if code is None else f"{name} at {code.co_filename}:{code.co_firstlineno}"


def user_location() -> str:
    """`file:line` of the innermost caller outside of the library."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        is_application = module.startswith(("kstash.apps.", "kstash.connectors."))
        if is_application or not (module == "kstash" or module.startswith("kstash.")):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"

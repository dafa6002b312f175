"""How functions of users are called in labels and errors, and where they were declared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from kstash.escape import short_repr

NO_RESULTS: Final = (str, bytes, bytearray, memoryview, dict)
"""Types that are iterables, but no results: each character, byte or key of one would become one."""


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


def check_results(function: Callable[..., Any], made: Any) -> None:
    """Refuse what a user's function returned in the place of a list of results.

    Raises:
        TypeError: it is no iterable, or one of `NO_RESULTS` or of their subclasses.
    """
    kind = type(made)
    is_iterable = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    if not is_iterable or issubclass(kind, NO_RESULTS):
        raise TypeError(
            f"{function_place(function)} returned {short_repr(made)} as results: return a list of "
            "results, such as [result], or [] for none"
        )

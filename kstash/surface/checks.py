"""Checks of what a program is declared with: names, functions and serdes."""

from __future__ import annotations

import dis
import re
from collections.abc import Callable
from functools import partial
from inspect import (
    Signature,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
    signature,
)
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Literal

from kstash.errors import ConfigError, TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde
from kstash.settings.config import NAME_PATTERN
from kstash.topology.user_code import function_place, user_location

TOPIC_PATTERN = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}\Z")


_YIELDING = frozenset({"flat_map", "flat_map_values", "flat_map_records"})
"""Verbs that use what a generator function yields."""

_CALLED_ONLY = frozenset({"peek", "on_ready", "on_end", "process"})
"""What uses nothing of what its function returns."""

_CONSTANT = ("LOAD_CONST", "RETURN_CONST")


def check_name(name: str, location: str | None) -> None:
    """Refuse a name that cannot stand in a topic or a folder.

    Raises:
        TopologyError: with the location of the user's code.
    """
    _check("name", name, NAME_PATTERN, 100, location)


_SEVERAL_TOPICS = {
    "stream": "give topics one by one, as stream('a', 'b')",
    "to": "call to() once for each topic",
}
"""By the verb that was given a collection of topics, what to do."""


def check_topic(verb: Literal["stream", "to"], name: object, location: str | None) -> None:
    """Refuse a topic name that Kafka would refuse.

    Raises:
        TopologyError: with the location of the user's code.
    """
    if isinstance(name, list | tuple | set | frozenset):
        raise TopologyError(
            f"{verb} takes the name of a topic, not {short_repr(name)}: {_SEVERAL_TOPICS[verb]}",
            location,
        )
    _check("topic", name, TOPIC_PATTERN, 249, location)


def check_application(argument: str, name: str | None, location: str | None) -> None:
    """Refuse what cannot be the id of an application; None stands for none given.

    Raises:
        TopologyError: with the location of the user's code.
    """
    if name is not None:
        _check(f"{argument}=", name, NAME_PATTERN, 100, location)


def check_function(
    verb: str,
    function: object,
    location: str | None,
    *takes: str,
    instead: str = "flat_map takes generators",
) -> None:
    """Refuse what cannot be called as it will be, before the first record is.

    Args:
        verb: what needs the function.
        function: the user's.
        location: of the user's code.
        takes: what it is called with, by position; names for people.
        instead: of a generator function, what to do.

    Raises:
        TopologyError: with the location of the user's code.
    """
    if not callable(function):
        hint = ""
        if isinstance(function, str) and takes == ("value",):
            hint = f": what stands there by a name is lambda value: value[{function!r}]"
        raise TopologyError(f"{verb} needs a function, not {short_repr(function)}{hint}", location)
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    if not isinstance(inner, type | FunctionType | MethodType | BuiltinFunctionType):
        inner = inner.__call__
    name = function_place(function)
    if iscoroutinefunction(inner) or isasyncgenfunction(inner):
        raise TopologyError(
            f"{verb} needs a plain function, and {name} is async: nobody would await it. What is "
            "asked of a network may be another thing in a replay: do it before the input topic, or "
            "after the output",
            location,
        )
    if isgeneratorfunction(inner) and verb not in _YIELDING:
        raise TopologyError(
            f"{verb} needs a function that returns, and {name} is a generator (it has a yield), "
            f"which would run nothing: {instead}",
            location,
        )
    _check_arity(verb, function, name, takes, location)
    if verb not in _CALLED_ONLY and isinstance(inner, FunctionType) and _forgets_return(inner):
        raise TopologyError(
            f"{verb} uses what {name} returns, and it returns nothing: is a `return` forgotten? "
            "(If null is meant, say so by a lambda: `lambda value: None`)",
            location,
        )


def _forgets_return(function: FunctionType) -> bool:
    """Whether all that a function can return is None; one that always raises returns nothing."""
    if function.__name__ == "<lambda>" or isgeneratorfunction(function):
        return False
    ends = 0
    before = None
    for step in dis.get_instructions(function):
        if step.opname in ("RETURN_VALUE", "RETURN_CONST"):
            returned = step if step.opname == "RETURN_CONST" else before
            if returned is None or returned.opname not in _CONSTANT:
                return False
            if returned.argval is not None:
                return False
            ends += 1
        before = step
    return ends > 0


def _check_arity(
    verb: str,
    function: Callable[..., object],
    name: str,
    takes: tuple[str, ...],
    location: str | None,
) -> None:
    try:
        # Not what a decorator wraps: it may take other arguments than that.
        found = signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # of some that are written in C nobody knows
    try:
        found.bind(*takes)
    except TypeError as error:
        needed = ", ".join(takes)
        hint = ""
        if takes == ("value",) and _takes_two(found):
            hint = "; who needs the key puts records() before it, which makes each value a Record"
        raise TopologyError(
            f"{verb} calls its function as f({needed}), and {name} takes {found}: {error}{hint}",
            location,
        ) from None


def _takes_two(found: Signature) -> bool:
    try:
        found.bind("key", "value")
    except TypeError:
        return False
    return True


def check_run(
    until: object,
    closes_windows: object,
    workers: object,
    on_ready: object,
    on_end: object,
) -> None:
    """Refuse what `App.run` cannot be called with, before anything is connected.

    Raises:
        ConfigError: `until`, `closes_windows` or `workers` is something else.
        TopologyError: a function that cannot be called as it will be.
    """
    if until not in (None, "end", "drain"):
        raise ConfigError(f"until is 'end', 'drain' or None, not {short_repr(until)}", "until")
    if type(closes_windows) is not bool:
        raise ConfigError(
            f"closes_windows is True or False, not {short_repr(closes_windows)}", "closes_windows"
        )
    if closes_windows and until != "end":
        raise ConfigError(
            "closes_windows is for a run that ends: give until='end' with it (on the command line "
            "--until end), or leave it out, and windows close as time passes",
            "closes_windows",
        )
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ConfigError(
            f"workers is {short_repr(workers)}: give a number of processes, 1 or more", "workers"
        )
    location = user_location()
    if on_ready is not None:
        check_function("on_ready", on_ready, location)
    if on_end is not None:
        check_function("on_end", on_end, location, "state")


def check_serde(
    argument: str, serde: object, location: str | None, *, is_needed: bool = False
) -> None:
    """Refuse what is no serde, or one whose functions cannot work; None stands for none given.

    Raises:
        TopologyError: with the location of the user's code.
    """
    if serde is None and not is_needed:
        return
    if not isinstance(serde, Serde):
        raise TopologyError(
            f"{argument}= takes a serde such as kstash.text, not {short_repr(serde)}", location
        )
    if not isinstance(serde.name, str) or not serde.name:
        raise TopologyError(
            f"{argument}= has a serde named {short_repr(serde.name)}: its name is a text, "
            "not empty",
            location,
        )
    check_function(f"serde {serde.name!r}: serialize", serde.serialize, location, "value")
    check_function(f"serde {serde.name!r}: deserialize", serde.deserialize, location, "data")


def check_number(argument: str, number: object, location: str | None) -> None:
    """Refuse what is no number of things, 1 or more.

    Raises:
        TopologyError: with the location of the user's code.
    """
    if type(number) is not int or number < 1:
        raise TopologyError(
            f"{argument} is a whole number, 1 or more, not {short_repr(number)}", location
        )


def check_choice(
    argument: str, value: object, choices: tuple[str, ...], location: str | None
) -> None:
    """Refuse a word that is none of those there are.

    Raises:
        TopologyError: naming them.
    """
    if value not in choices:
        words = " or ".join(map(repr, choices))
        raise TopologyError(f"{argument} is {words}, not {short_repr(value)}", location)


def _check(
    what: str, name: object, pattern: re.Pattern[str], length_max: int, location: str | None
) -> None:
    if not isinstance(name, str):
        hint = "; a serde is given as key= or value=" if isinstance(name, Serde) else ""
        raise TopologyError(
            f"{what} is a text such as 'orders', not {short_repr(name)}, which is of type "
            f"{type(name).__name__}{hint}",
            location,
        )
    if not pattern.match(name):
        raise TopologyError(
            f"{what} {name!r} is not allowed: 1 to {length_max} letters, digits, dots, "
            "underscores or hyphens",
            location,
        )

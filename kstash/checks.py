"""Checks of what a program is declared with: names, functions and serdes."""

from __future__ import annotations

import re

from kstash.config import NAME_PATTERN
from kstash.errors import TopologyError
from kstash.serdes import Serde

TOPIC_PATTERN = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}\Z")


def check_name(name: str, location: str | None) -> None:
    """Refuse a name that cannot stand in a topic or a folder.

    Raises:
        TopologyError: with the location of the user's code.
    """
    _check("name", name, NAME_PATTERN, 100, location)


def check_topic(name: str, location: str | None) -> None:
    """Refuse a topic name that Kafka would refuse.

    Raises:
        TopologyError: with the location of the user's code.
    """
    _check("topic", name, TOPIC_PATTERN, 249, location)


def check_function(verb: str, function: object, location: str | None) -> None:
    """Refuse what cannot be called.

    Raises:
        TopologyError: with the location of the user's code.
    """
    if not callable(function):
        raise TopologyError(f"{verb} needs a function, not {function!r}", location)


def check_serde(argument: str, serde: object, location: str | None) -> None:
    """Refuse what is no serde; None stands for none given.

    Raises:
        TopologyError: with the location of the user's code.
    """
    if serde is not None and not isinstance(serde, Serde):
        raise TopologyError(
            f"{argument}= takes a serde such as kstash.text, not {serde!r}", location
        )


def _check(
    what: str, name: object, pattern: re.Pattern[str], length_max: int, location: str | None
) -> None:
    if not isinstance(name, str) or not pattern.match(name):
        raise TopologyError(
            f"{what} {name!r} is not allowed: 1 to {length_max} letters, digits, dots, "
            "underscores or hyphens",
            location,
        )

"""Fields of JSON that came out of a topic: a value of another type is refused, not converted."""

from __future__ import annotations

from typing import Any

from kstash.errors import WireCorruptError

NUMBER_MAX = (1 << 63) - 1
"""The highest offset there can be; positions, sequences and times are below it too."""

TAG_MAX = (1 << 64) - 1
"""What is no offset may fill 64 bits, as tags of applications and sums of hashes do."""


def number(value: Any, number_max: int = NUMBER_MAX) -> int:
    """An integer of 0 to `number_max`.

    Raises:
        WireCorruptError: it is none.
    """
    if type(value) is not int or not 0 <= value <= number_max:
        raise WireCorruptError(f"{_shown(value)} in place of a number of 0 to {number_max}")
    return value


def tag(value: Any) -> int:
    """An integer of 64 bits; raises as `number`."""
    return number(value, TAG_MAX)


def signed(value: Any) -> int:
    """An integer of 64 bits with a sign.

    Raises:
        WireCorruptError: it is none.
    """
    if type(value) is not int or not -NUMBER_MAX <= value <= NUMBER_MAX:
        raise WireCorruptError(f"{_shown(value)} in place of a number of 64 bits with a sign")
    return value


def text(value: Any) -> str:
    """Text that can be written as UTF-8.

    Raises:
        WireCorruptError: it is none.
    """
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise WireCorruptError(f"{_shown(value)} in place of text")
    return value


def flag(value: Any) -> bool:
    """True or False.

    Raises:
        WireCorruptError: it is neither.
    """
    if not isinstance(value, bool):
        raise WireCorruptError(f"{_shown(value)} in place of true or false")
    return value


def _shown(value: Any) -> str:
    # Not its `repr`: that of a number of 5,000 digits, or of lists within lists, fails in its turn.
    return ascii(value)[:80] if isinstance(value, str | bool) else type(value).__name__

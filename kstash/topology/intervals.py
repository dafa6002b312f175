"""Lengths of time: as users give them, and as people read them."""

from __future__ import annotations

from datetime import timedelta

from kstash.errors import TopologyError
from kstash.escape import short_repr


def whole_ms(interval: object) -> int | None:
    """The milliseconds of a `timedelta`; None: it is none, or no whole number of them."""
    if not isinstance(interval, timedelta):
        return None
    length_ms, rest = divmod(interval, timedelta(milliseconds=1))
    return None if rest else length_ms


def check_interval(argument: str, interval: object, location: str | None, *, least: int) -> int:
    """The milliseconds of an interval, refused where it is not a whole number of them.

    Args:
        argument: what users call it.
        interval: a `timedelta`.
        location: of the user's code.
        least: the least number of milliseconds that is taken.

    Raises:
        TopologyError: with the location of the user's code.
    """
    taken = f"whole milliseconds, {least} or more"
    if not isinstance(interval, timedelta):
        raise TopologyError(
            f"{argument} is a timedelta such as timedelta(minutes=1), {taken}, not "
            f"{short_repr(interval)}",
            location,
        )
    length_ms = whole_ms(interval)
    if length_ms is None or length_ms < least:
        # Python says -5 min as "-1 day, 23:55:00".
        sign = "-" if interval < timedelta(0) else ""
        raise TopologyError(f"{argument} is {sign}{abs(interval)}: it takes {taken}", location)
    return length_ms


def interval_text(length_ms: int) -> str:
    """A length of time, for people."""
    return f"{length_ms} ms" if length_ms % 1000 else f"{length_ms // 1000} s"

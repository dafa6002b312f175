"""Which windows there are, and the serde of their keys."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from kstash.errors import TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde
from kstash.surface.checks import check_number, check_serde
from kstash.topology import window_nodes as w
from kstash.topology.aligned_nodes import Aligned, Daily
from kstash.topology.count_nodes import ByNumber
from kstash.topology.days import Days
from kstash.topology.intervals import check_interval, interval_text
from kstash.topology.session_nodes import Sessions
from kstash.topology.sliding_nodes import Sliding
from kstash.topology.user_code import user_location
from kstash.topology.windowed import Windowed, windowed_by_session, windowed_by_time

K = TypeVar("K")


def tumbling(size: timedelta, *, offset: timedelta = timedelta(0)) -> w.Windows:
    """Windows side by side: each record is in one. A window has its start, and not its end.

    Args:
        size: of a window, in whole milliseconds, 1 or more.
        offset: where windows begin: at this, and at each multiple of the size from it, counted from
            1970 UTC; less than the size, either way. `-timedelta(hours=2)` makes days of a place
            that is two hours ahead of UTC. No window begins before 1970.

    Raises:
        TopologyError: no such size or offset.
    """
    location = user_location()
    size_ms = check_interval("size", size, location, least=1)
    return Aligned(size_ms, size_ms, _offset(offset, size_ms, location))


def hopping(size: timedelta, advance: timedelta, *, offset: timedelta = timedelta(0)) -> w.Windows:
    """Windows that overlap: each record is in all that are around it.

    Args:
        size: of a window, in whole milliseconds, 1 or more. It has its start, and not its end.
        advance: from one start to the next; at most the size.
        offset: where windows begin: at this, and at each multiple of the advance from it, counted
            from 1970 UTC; less than the advance, either way. No window begins before 1970.

    Raises:
        TopologyError: no such size, advance or offset.
    """
    location = user_location()
    size_ms = check_interval("size", size, location, least=1)
    advance_ms = check_interval("advance", advance, location, least=1)
    if advance_ms > size_ms:
        raise TopologyError(
            f"advance is {advance}, more than the size of {size}: records between two windows "
            "would be in none",
            location,
        )
    return Aligned(size_ms, advance_ms, _offset(offset, advance_ms, location))


def session(gap: timedelta) -> w.Windows:
    """Windows from the first to the last of records that are close to each other.

    A record belongs to the sessions of its key that are at most the gap away, and makes one of
    them. A session holds its start and its end, and closes when stream time is past its end by more
    than gap and grace.

    Args:
        gap: the largest distance of a record from its session, in whole milliseconds, 1 or more.

    Raises:
        TopologyError: no such gap.
    """
    return Sessions(check_interval("gap", gap, user_location(), least=1))


def sliding(size: timedelta) -> w.Windows:
    """Windows around records: one ends at each, and one begins 1 ms after each that others follow.

    So there is a window for each set of records of a key that are at most the size apart. It holds
    its start and its end; none starts before 1970. The values of records are kept as long as a
    window to come can hold them.

    Args:
        size: from the start of a window to its end, in whole milliseconds, 1 or more.

    Raises:
        TopologyError: no such size.
    """
    return Sliding(check_interval("size", size, user_location(), least=1))


ABBREVIATION_MAX = 5
"""Letters of what is taken for the abbreviation of a time, such as `CEST`."""

ZONE_NEAR = 0.8
"""Least likeness of a zone that is suggested."""


def daily(zone: str | ZoneInfo) -> w.Windows:
    """Windows side by side that are days of a place: of 23 or 25 hours where clocks change.

    A day begins at the first moment that is 00:00 there, or with the change of the clocks that
    skips it, and holds its start and not its end. No window begins before 1970.

    Args:
        zone: a time zone of the IANA database, such as `Europe/Berlin`. When its days begin is part
            of the program: where the database of another machine or release says otherwise, the
            application is to be drained before it goes on.

    Raises:
        TopologyError: no such zone, or there is no database.
    """
    location = user_location()
    if isinstance(zone, str):
        try:
            zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            hint = _zone_hint(str(zone))
            raise TopologyError(
                f"zone {zone!r} is in no time zone database here ({error}): {hint}", location
            ) from None
    if not isinstance(zone, ZoneInfo) or not zone.key:
        raise TopologyError(
            f"zone is the name of a time zone such as 'Europe/Berlin', not {short_repr(zone)}",
            location,
        )
    days, rules = _days_of(zone)
    return Daily(zone.key, days, rules)


def _zone_hint(zone: str) -> str:
    known = sorted(available_timezones())
    if not known:
        return "install the package tzdata"
    if zone.isupper() and len(zone) <= ABBREVIATION_MAX:
        return (
            "an abbreviation stands for no place, since several share it: take a name such as "
            "'Europe/Berlin'"
        )
    # People write the place alone too; of places of one name the whole name counts.
    names = {name.rpartition("/")[2].lower(): name for name in reversed(known)}
    names |= {name.lower(): name for name in known}
    nearest = get_close_matches(zone.lower().replace(" ", "_"), names, 1, ZONE_NEAR)
    if nearest:
        return f"did you mean {names[nearest[0]]!r}?"
    return "take a name such as 'Europe/Berlin', or install the package tzdata"


@cache
def _days_of(zone: ZoneInfo) -> tuple[Days, str]:
    days = Days(zone)
    return days, days.rules()


def tumbling_count(size: int) -> w.Windows:
    """Windows of so many records of a key, side by side in the order in which they come.

    Each sends one result, with its last record: under the key as it is, with the headers of that
    record, and the greatest timestamp in the window. What no record fills up stays open. They go by
    no time, so that nothing is late.

    Args:
        size: records of a window, 1 or more.

    Raises:
        TopologyError: no such number.
    """
    location = user_location()
    check_number("tumbling_count(size)", size, location)
    return ByNumber(size, size)


def hopping_count(size: int, step: int) -> w.Windows:
    """Windows of so many records of a key that overlap; else as `tumbling_count`.

    Each record is folded into up to `size / step` windows, whose states are kept until they are
    full.

    Args:
        size: records of a window, 1 or more.
        step: records from the first one of a window to the first one of the next; at most the size.

    Raises:
        TopologyError: no such numbers.
    """
    location = user_location()
    check_number("hopping_count(size)", size, location)
    check_number("hopping_count(step)", step, location)
    if step > size:
        raise TopologyError(
            f"step is {step}, more than the size of {size}: records between two windows would be "
            "in none",
            location,
        )
    return ByNumber(size, step)


def windowed(serde: Serde[K], size: timedelta | w.Windows | None = None) -> Serde[Windowed[K]]:
    """The serde of the keys of results of windows.

    With a size it writes what the TimeWindowedSerde of Kafka Streams does: the key, and the start
    as 8 bytes, big endian. The end is not written; it follows from the size. Without one it writes
    what the SessionWindowedSerde does: the key, the end and the start. Records under such a key are
    spread over partitions by the inner key alone, as that of their windows' records.

    Args:
        serde: of the inner key.
        size: of the windows, in whole milliseconds, 1 or more; or the windows themselves, as
            `kstash.daily(zone)`; None: they are sessions.

    Raises:
        TopologyError: no serde, or no such size.
    """
    location = user_location()
    check_serde("serde", serde, location, is_needed=True)
    if size is None:
        return windowed_by_session(serde)
    if isinstance(size, w.WindowKind) and size.goes_by_time:
        return size.result_key(serde)
    return windowed_by_time(serde, check_interval("size", size, location, least=1))


def _offset(offset: object, advance_ms: int, location: str) -> int:
    offset_ms = check_interval("offset", offset, location, least=1 - advance_ms)
    if offset_ms >= advance_ms:
        raise TopologyError(
            f"offset is {offset}, and windows begin each {interval_text(advance_ms)}: take the "
            "rest of it by that",
            location,
        )
    return offset_ms % advance_ms

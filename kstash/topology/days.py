"""Days of a place: from one midnight to the next, where clocks may change between them."""

from __future__ import annotations

import hashlib
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_LAST = date(9990, 1, 1).toordinal() - _EPOCH
"""From here on days have 24 hours: `datetime` ends with 9999, and no timestamp has to."""

_KNOWN_UNTIL = 2100


class Days:
    """The days of a time zone, each of which is its first moment in Unix milliseconds.

    A day begins at the first moment that is 00:00 there, or at the change of the clocks that skips
    it. So where clocks go back over midnight, the hour that comes twice belongs to the new day.

    Args:
        zone: the time zone.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._begun = lru_cache(maxsize=1 << 14)(self._begun_in)

    def start_of(self, at_ms: int) -> int:
        """When the day of a moment began."""
        number = at_ms // DAY_MS
        while True:
            begun = [start for start in self._begun(number) if start <= at_ms]
            if begun:
                return begun[-1]
            number -= 1

    def next_start(self, at_ms: int) -> int:
        """When the day after that of a moment begins."""
        number = at_ms // DAY_MS
        while True:
            for start in self._begun(number):
                if start > at_ms:
                    return start
            number += 1

    def rules(self) -> str:
        """A digest of when days begin until the year 2100: another one of other rules."""
        digest = hashlib.sha256()
        for number in range(date(_KNOWN_UNTIL, 1, 1).toordinal() - _EPOCH):
            digest.update(b"%d," % (self._midnight_ms(number) - number * DAY_MS))
        return digest.hexdigest()[:8]

    def _begun_in(self, number: int) -> list[int]:
        """The days that begin within a day of UTC, in order: two or none where the date changes."""
        first = number * DAY_MS
        # No place is a day or more away from UTC.
        starts = {self._midnight_ms(other) for other in range(number - 1, number + 3)}
        return sorted(start for start in starts if first <= start < first + DAY_MS)

    def _midnight_ms(self, number: int) -> int:
        """The first 00:00 of a day that is counted from 1970-01-01, at this place."""
        known = min(max(number, 0), _LAST)
        local = datetime.combine(date.fromordinal(known + _EPOCH), time(), self._zone)
        offset = local.utcoffset()
        assert offset is not None, "a zone says it"
        return number * DAY_MS - offset // timedelta(milliseconds=1)

"""Days of a place against its own clock, read hour by hour."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from kstash.topology.days import DAY_MS, Days

QUARTER = timedelta(minutes=15)

PLACES = [
    ("Europe/Berlin", date(2026, 3, 27), 23),
    ("Europe/Berlin", date(2026, 10, 23), 25),
    ("America/Sao_Paulo", date(2017, 10, 13), 23),  # 00:00 is skipped
    ("America/Sao_Paulo", date(2018, 2, 16), 25),  # the hour before 00:00 comes twice
    ("America/Havana", date(2026, 10, 30), 25),  # the hour after 00:00 comes twice
    ("America/St_Johns", date(2006, 10, 27), 25),  # back to the day before, at 00:01
    ("Australia/Lord_Howe", date(2026, 4, 3), 24.5),
    ("Asia/Kathmandu", date(2026, 5, 1), 24),
    ("UTC", date(2026, 5, 1), 24),
]


def ms(moment: datetime) -> int:
    """Unix milliseconds."""
    return round(moment.timestamp() * 1000)


def by_the_clock(zone: ZoneInfo, first: date, count: int) -> list[int]:
    """When a date is first seen there, for so many dates; it is asked each quarter."""
    moment = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=1)
    last = moment.astimezone(zone).date()
    starts: list[int] = []
    while len(starts) < count:
        moment += QUARTER
        if moment.astimezone(zone).date() > last:
            last = moment.astimezone(zone).date()
            starts.append(ms(moment))
    return starts


@pytest.mark.parametrize(("place", "first", "hours"), PLACES)
def test_days_begin_as_the_clock_says(place: str, first: date, hours: float) -> None:
    """Also where that change skips or repeats midnight; each moment is in the day that began."""
    zone = ZoneInfo(place)
    days, starts = Days(zone), by_the_clock(zone, first, 5)
    lengths = {(after - before) / 3_600_000 for before, after in pairwise(starts)}
    assert hours in lengths
    for before, after in pairwise(starts):
        for at in (before, before + 1, (before + after) // 2, after - 1):
            assert (days.start_of(at), days.next_start(at)) == (before, after)


def test_a_date_that_a_place_left_out() -> None:
    """Samoa went over the date line: there was no 30 December 2011."""
    days = Days(ZoneInfo("Pacific/Apia"))
    last = ms(datetime(2011, 12, 29, 10, tzinfo=UTC))
    assert days.next_start(last) - last == DAY_MS
    assert days.next_start(last) == ms(datetime(2011, 12, 31, tzinfo=ZoneInfo("Pacific/Apia")))


def test_days_go_on_after_the_last_year_of_python() -> None:
    """Whatever a timestamp says, it is in one day."""
    for place in ("UTC", "Europe/Berlin", "Pacific/Apia"):
        days = Days(ZoneInfo(place))
        for at in (253_402_300_799_999, 10**15, 10**18):
            start, end = days.start_of(at), days.next_start(at)
            assert start <= at < end
            assert end - start <= DAY_MS + 3_600_000


def test_the_rules_of_places() -> None:
    """One word for the same days, whatever the place is called."""
    rules = {place: Days(ZoneInfo(place)).rules() for place in ("Europe/Berlin", "UTC", "Etc/UTC")}
    assert rules["UTC"] == rules["Etc/UTC"] != rules["Europe/Berlin"]

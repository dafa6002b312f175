"""Windows that are days of a place, and windows by the number of records, as users meet them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import kstash
from kstash import App, KeyedStream, Windowed
from kstash.errors import OperatorError, TopologyError
from kstash.testing import TestDriver
from kstash.topology.aligned_nodes import Daily
from kstash.topology.days import Days
from kstash.topology.model import store_of

HOUR = timedelta(hours=1)
BERLIN = "Europe/Berlin"


def ms(month: int, day: int, hour: int, zone: str = "UTC") -> int:
    """Unix milliseconds of an hour in 2026."""
    return round(datetime(2026, month, day, hour, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def numbers(app: App) -> KeyedStream[str, int]:
    """The source."""
    return app.stream("in", key=kstash.text, value=kstash.int_text)


def test_a_day_of_23_hours_and_one_of_25() -> None:
    """Each has its own midnights, in the keys too; a crash after each record changes nothing."""
    app = App("app")
    totals = numbers(app).window(kstash.daily(BERLIN), grace=HOUR, emit="final").sum("total")
    totals.to("totals")
    totals.late().map_values(lambda late: late.windows).to("late", value=kstash.json)
    with TestDriver(app) as driver:
        for month, day in ((3, 29), (10, 25)):
            start, end = ms(month, day, 0, BERLIN), ms(month, day + 1, 0, BERLIN)
            for at, value in ((start, 1), (end - 1, 2), (end, 4), (end + 3_599_999, 8)):
                driver.send("in", value, key="shop", timestamp_ms=at)
                driver.crash()
                driver.recover()
            driver.send("in", 16, key="shop", timestamp_ms=end + 3_600_000)
            driver.send("in", 32, key="shop", timestamp_ms=end - 1)
            result = driver.read("totals")[-1]
            assert result.key == Windowed("shop", start, end)
            assert (result.value, result.timestamp_ms) == (3, end - 1)
            assert [late.value for late in driver.read("late")] == [[[start, end]]]
            hours = (end - start) // 3_600_000
            assert hours == {3: 23, 10: 25}[month]


def test_the_bytes_of_a_day_are_those_of_a_window_of_kafka_streams() -> None:
    """Key and start; the end is that of the day."""
    windows = kstash.daily(ZoneInfo(BERLIN))
    serde = kstash.windowed(kstash.text, windows)
    start, end = ms(3, 29, 0, BERLIN), ms(3, 30, 0, BERLIN)
    data = serde.serialize(Windowed("shop", start, end))
    assert data == b"shop" + start.to_bytes(8, "big")
    assert serde.deserialize(data) == Windowed("shop", start, end)
    assert isinstance(windows, Daily)
    assert serde == windows.result_key(kstash.text)
    with pytest.raises(ValueError, match="windows of this serde have one day of Europe/Berlin"):
        serde.serialize(Windowed("shop", start, end + 1))
    same = kstash.windowed(kstash.text, timedelta(minutes=1))
    assert kstash.windowed(kstash.text, kstash.tumbling(timedelta(minutes=1))) == same


def test_no_day_begins_before_1970() -> None:
    """East of Greenwich the first record of 1970 is in none, as with any offset."""
    app = App("app")
    numbers(app).window(kstash.daily("Asia/Tokyo")).count("n").to("out")
    with TestDriver(app) as driver:
        driver.send("in", 1, key="k", timestamp_ms=1)
        driver.send("in", 1, key="k", timestamp_ms=15 * 3_600_000)
        (record,) = driver.read("out")
        assert record.key == Windowed("k", 15 * 3_600_000, 39 * 3_600_000)


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", 5, None, UTC])
def test_what_is_no_zone(zone: Any) -> None:
    """Refused with what to do."""
    with pytest.raises(TopologyError, match=r"time zone|tzdata"):
        kstash.daily(zone)


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("Berlin", "did you mean 'Europe/Berlin'?"),
        ("america/new york", "did you mean 'America/New_York'?"),
        ("CEST", "an abbreviation stands for no place"),
        ("nowhere at all", "take a name such as 'Europe/Berlin'"),
    ],
)
def test_what_zone_was_meant(zone: str, hint: str) -> None:
    """The nearest name, where there is one."""
    with pytest.raises(TopologyError) as caught:
        kstash.daily(zone)
    assert hint in str(caught.value)


def test_other_rules_of_a_place_are_another_program() -> None:
    """A new database might replay into other days: it waits for a drain. The store stays."""

    def made(digest: str) -> tuple[str, str, str]:
        app = App("app")
        windows = Daily(BERLIN, Days(ZoneInfo(BERLIN)), digest)
        numbers(app).window(windows).count("n").to("out")
        topology = app.topology()
        node = topology.stages[0].nodes[0]
        return topology.hash, node.declared(), store_of(topology, "n")[1].contents

    one, other = made("11111111"), made("22222222")
    assert one[0] != other[0]
    assert one[1] == "daily(Europe/Berlin).count(n) grace=0 s emit=update rules=11111111"
    assert one[2] == other[2]
    assert one[2].startswith("count (ordered) by daily(Europe/Berlin) update start, text ->")


def test_each_window_of_so_many_records_sends_one_result() -> None:
    """With its last record: its headers, the record's key, the greatest timestamp of the window."""
    app = App("app")
    numbers(app).window(kstash.hopping_count(3, 2)).collect("n").to("out", value=kstash.json)
    with TestDriver(app) as driver:
        for number, at in enumerate((50, 90, 10, 20, 30, 5), 1):
            driver.send(
                "in", number, key="k", timestamp_ms=at, headers=[("n", str(number).encode())]
            )
            driver.crash()
            driver.recover()
        made = [(r.key, r.value, r.timestamp_ms, r.headers) for r in driver.read("out")]
        assert made == [
            ("k", [1, 2, 3], 90, [("n", b"3")]),
            ("k", [3, 4, 5], 30, [("n", b"5")]),
        ]
        (kept,) = driver.state("n").values()
        assert [window.count for window in kept.windows] == [2]
        assert kept.until == 0


def test_full_windows_are_forgotten() -> None:
    """Of windows side by side nothing is left when each is full."""
    app = App("app")
    numbers(app).window(kstash.tumbling_count(2)).sum("n").to("out")
    with TestDriver(app) as driver:
        for number in (1, 2, 3, 4):
            driver.send("in", number, key="k")
        assert [record.value for record in driver.read("out")] == [3, 7]
        assert driver.state("n") == {}


def test_nulls_are_of_no_window() -> None:
    """Neither is a record without a key, or without a value but for `count`."""
    app = App("app")
    stream = numbers(app)
    stream.window(kstash.tumbling_count(2)).sum("n").to("sums")
    stream.window(kstash.tumbling_count(2)).count("c").to("counts")
    with TestDriver(app) as driver:
        for value, key in ((1, "k"), (None, "k"), (5, None), (2, "k")):
            driver.send("in", value, key=key)
        assert [record.value for record in driver.read("sums")] == [3]
        assert [record.value for record in driver.read("counts")] == [2]


def test_a_record_that_fails_stops_the_program_with_its_place() -> None:
    """As with any fold."""
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.window(kstash.tumbling_count(2)).sum("n").to("out")
    with TestDriver(app) as driver:
        driver.send("in", 1, key="k")
        with pytest.raises(OperatorError) as caught:
            driver.send("in", "one", key="k")
    assert (caught.value.topic, caught.value.offset) == ("in", 1)


def test_what_windows_by_number_have_not() -> None:
    """No updates, no grace, nothing late; and no gaps between windows."""
    stream = numbers(App("app"))
    windows = kstash.tumbling_count(2)
    with pytest.raises(TopologyError, match=r"tumbling_count\(2\) is 'final', not 'update'"):
        stream.window(windows, emit="update")
    with pytest.raises(TopologyError, match=r"tumbling_count\(2\) goes by no time"):
        stream.window(windows, grace=HOUR)
    with pytest.raises(TopologyError, match=r"nothing is late for hopping_count\(3, 2\)"):
        stream.window(kstash.hopping_count(3, 2)).count("n").late()
    with pytest.raises(TopologyError, match="records between two windows"):
        kstash.hopping_count(2, 3)
    with pytest.raises(TopologyError, match="size is a timedelta"):
        kstash.windowed(kstash.text, windows)

"""An upgrade that gives windows another grace: what is closed stays closed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest

import kstash
from kstash.testing import TestDriver

SECOND = 1_000
WINDOWS = {
    "tumbling": kstash.tumbling(timedelta(seconds=10)),
    "hopping": kstash.hopping(timedelta(seconds=10), timedelta(seconds=10)),
    "session": kstash.session(timedelta(seconds=10)),
    "sliding": kstash.sliding(timedelta(seconds=10)),
}


def program(windows: Any, grace_s: int, emit: Literal["update", "final"]) -> kstash.App:
    """Counts by window, and late records."""
    app = kstash.App("grace")
    counts = (
        app.stream("clicks", key=kstash.text, value=kstash.int_text)
        .window(windows, grace=timedelta(seconds=grace_s), emit=emit)
        .count("counts")
    )
    counts.to("counts", value=kstash.int_text)
    late = counts.late().map_values(lambda late: late.value)
    late.to("late", key=kstash.text, value=kstash.int_text)
    return app


def values(driver: TestDriver, topic: str) -> list[tuple[int, int]]:
    """Starts of windows and their results."""
    return [(record.key.start_ms, record.value) for record in driver.read(topic)]


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("emit", ["update", "final"])
def test_a_longer_grace_opens_nothing_again(kind: str, emit: Literal["update", "final"]) -> None:
    """A window that was closed under a shorter grace sends no second result."""
    with TestDriver(program(WINDOWS[kind], 0, emit)) as driver:
        driver.send("clicks", 1, key="a", timestamp_ms=5 * SECOND)
        driver.send("clicks", 2, key="b", timestamp_ms=35 * SECOND)
        assert len(driver.read("counts")) > 0
        driver.drain()
        driver.recover(program(WINDOWS[kind], 60, emit))
        driver.send("clicks", 3, key="a", timestamp_ms=6 * SECOND)
        driver.crash()
        driver.recover()
        driver.send("clicks", 4, key="a", timestamp_ms=7 * SECOND)
        assert [record.value for record in driver.read("late")] == [3, 4]
        assert driver.read("counts") == []
        # The one that was open stays so, until the longer grace after its end.
        driver.send("clicks", 5, key="b", timestamp_ms=36 * SECOND)
        driver.send("clicks", 6, key="c", timestamp_ms=98 * SECOND)
        driver.send("clicks", 7, key="b", timestamp_ms=37 * SECOND)
        assert driver.read("late") == []
        driver.send("clicks", 8, key="c", timestamp_ms=130 * SECOND)
        driver.send("clicks", 9, key="b", timestamp_ms=37 * SECOND)
        assert [record.value for record in driver.read("late")] == [9]


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("crashes", [False, True])
def test_what_a_shorter_grace_has_made_due_closes_with_the_next_record(
    kind: str, *, crashes: bool
) -> None:
    """Whatever its own time; and then a longer one again opens nothing."""
    windows = WINDOWS[kind]
    with TestDriver(program(windows, 60, "final")) as driver:
        driver.send("clicks", 1, key="a", timestamp_ms=15 * SECOND)
        driver.send("clicks", 2, key="b", timestamp_ms=45 * SECOND)
        driver.drain()
        driver.recover(program(windows, 0, "final"))
        assert values(driver, "counts") == []
        driver.send("clicks", 3, key="b", timestamp_ms=45 * SECOND)
        if crashes:
            driver.crash()
            driver.recover()
        assert [value for _, value in values(driver, "counts")] == [1]
        driver.drain()
        driver.recover(program(windows, 60, "final"))
        driver.send("clicks", 4, key="a", timestamp_ms=15 * SECOND)
        assert [record.value for record in driver.read("late")] == [4]
        assert values(driver, "counts") == []


@pytest.mark.parametrize("cut", [False, True])
def test_very_many_may_be_due_under_a_shorter_grace(*, cut: bool) -> None:
    """They are sent part by part, in front of the records; where a batch ends does not count."""
    windows, keys = WINDOWS["tumbling"], [f"k{number:04}" for number in range(1200)]
    with TestDriver(program(windows, 60, "final")) as driver:
        for key in keys:
            driver.send("clicks", 1, key=key, timestamp_ms=5 * SECOND)
        driver.send("clicks", 1, key="b", timestamp_ms=45 * SECOND)
        driver.drain()
        driver.recover(program(windows, 0, "final"))
        for key, second in ("k0001", 5), ("b", 44), ("z", 56):
            driver.kafka.append(
                "clicks", b"2", key=key.encode(), timestamp_ms=second * SECOND, partition=0
            )
            if cut:
                driver.rig.settle()
        driver.rig.settle()
        sent = [(r.key.key, r.key.start_ms, r.value) for r in driver.read("counts")]
        assert sent == [(key, 0, 1) for key in keys] + [("b", 40_000, 2)]
        assert [record.value for record in driver.read("late")] == [2]

"""A program that is not deterministic is found out, whatever a scan sees (I9, H44)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash.core.determinants import Completed
from kstash.core.ids import Incarnation
from kstash.core.replay import Replay
from kstash.errors import LineageGapError, ReplayDivergedError
from kstash.testing import TestDriver

COUNT = 200
HINTED_S = 3


def counting(
    delivery: kstash.Delivery, add: Callable[[int, str], int], **settings: Any
) -> kstash.App:
    """Sums in a sink; no checkpoint is taken by itself."""
    app = kstash.App("sums", checkpoint_interval_ms=3_600_000, **settings)
    app.stream("in", key=kstash.text, value=kstash.text).aggregate(
        "sums", int, add, value=kstash.int_text
    ).to("out", value=kstash.int_text, delivery=delivery)
    return app


def feed(driver: TestDriver, count: int) -> None:
    """Append records, and let the worker process, commit and hint them."""
    for number in range(count):
        driver.kafka.append("in", str(number).encode(), key=b"k")
    driver.advance(HINTED_S)


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first"])
def test_h44_what_no_scan_sees_is_compared(delivery: kstash.Delivery, guarantee: str) -> None:
    """H44: 200 outputs are committed and hinted; replay makes others, which nobody would see."""
    numbers = itertools.count()
    app = counting(delivery, lambda state, _: state + next(numbers), guarantee=guarantee)
    with TestDriver(app) as driver:
        feed(driver, COUNT)
        assert len(driver.kafka.read("out")) == COUNT
        driver.crash()
        next(numbers)
        with pytest.raises(ReplayDivergedError, match="the values of what replay made") as caught:
            driver.recover()
        assert caught.value.topic == "out"
        assert f"up to event {COUNT}" in str(caught.value)


def test_h44_a_state_that_was_changed_at_a_single_event_shows_later() -> None:
    """H44: what the hint's position holds depends on all events before it."""
    strange = iter([0] * 50 + [1] + [0] * 1000)
    app = counting("immediate", lambda state, value: state + int(value) + next(strange))
    with TestDriver(app) as driver:
        feed(driver, COUNT)
        driver.crash()
        with pytest.raises(ReplayDivergedError):
            driver.recover()


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
def test_h44_hashes_go_on_over_checkpoints_and_crashes(delivery: kstash.Delivery) -> None:
    """H44: they hold from the first event on, wherever batches and incarnations ended."""
    is_strange = False

    def add(state: int, value: str) -> int:
        return state + int(value) + is_strange

    app = counting(delivery, add)
    with TestDriver(app, lineage_delay_s=0.3) as driver:
        driver.kafka.fetch_max = 7
        feed(driver, 30)
        driver.close()
        driver.recover()
        for count in (11, 5, 40):
            feed(driver, count)
            driver.crash()
            driver.kafka.fetch_max = count
            driver.recover()
        feed(driver, 3)
        assert len(driver.kafka.read("out")) == 89
        driver.crash()
        is_strange = True
        with pytest.raises(ReplayDivergedError, match="the values of what replay made"):
            driver.recover()


def test_h44_a_checkpoint_without_hashes_begins_them() -> None:
    """H44: one of an older release, or of at_least_once, which has none."""
    is_strange = False

    def add(state: int, value: str) -> int:
        return state + int(value) + is_strange

    def app(guarantee: str) -> kstash.App:
        return counting("immediate", add, guarantee=guarantee)

    with TestDriver(app("at_least_once")) as driver:
        feed(driver, 20)
        driver.drain()
        driver.recover(app("exactly_once"))
        feed(driver, 30)
        driver.crash()
        driver.recover()
        feed(driver, 1)
        driver.crash()
        is_strange = True
        with pytest.raises(ReplayDivergedError, match="up to event 51"):
            driver.recover()


def test_what_no_operator_takes_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A history of another release may hold events that no operator of this program knows."""
    app = counting("immediate", lambda state, value: state + int(value))
    with TestDriver(app) as driver:
        feed(driver, COUNT)
        driver.crash()
        answered = Completed(0, b"call", Incarnation(0, 1))
        monkeypatch.setattr(Replay, "next_event", lambda *_: answered)
        with pytest.raises(LineageGapError, match=r"takes what was logged: Completed\(position=0"):
            driver.recover()

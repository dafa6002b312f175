"""A recovery that takes long says how far it is, at pauses that grow; a short one says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.runtime.pauses import LONGEST_S, Pauses
from kstash.runtime.worker.worker import Worker
from kstash.testing import TestDriver

EVENTS = 40


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """A worker that has crashed after so many events in each of two task groups."""
    app = kstash.App("slow", checkpoint_interval_ms=3_600_000)
    app.stream("in", key=kstash.text).count("counts").to("out")
    with TestDriver(app, partitions=2) as driver:
        for number in range(EVENTS):
            driver.send("in", b"", key="k", partition=number % 2)
        driver.advance(1)
        driver.crash()
        yield driver


def _lines(driver: TestDriver, seconds_a_poll: float) -> list[dict[str, Any]]:
    """What a start says until it is live, where each poll of Kafka brings a record at most."""
    driver.kafka.poll_max = 1
    driver.rig.start()
    worker = driver.rig.worker
    assert isinstance(worker, Worker)
    with capture_logs() as lines:
        for _ in range(1_000):
            if worker.is_live:
                break
            driver.kafka.clock.advance(seconds_a_poll)
            worker.step(0)
    assert worker.is_live
    driver.kafka.poll_max = 500
    return [dict(line) for line in lines]


def _named(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


def test_a_long_replay_says_how_far_it_is(driver: TestDriver) -> None:
    """How much of how much, the speed, and what is left at that; each line later than the last."""
    found = _named(_lines(driver, 1.0), "replay goes on")
    assert 2 <= len(found) <= 5
    assert [line["of_events"] for line in found] == [EVENTS] * len(found)
    done = [line["events"] for line in found]
    assert done == sorted(set(done))
    assert found[0]["groups"] + found[0]["groups_live"] == 2
    assert found[0]["percent"] == 100 * done[0] // EVENTS
    # The speed is that since the line before: here a record each second.
    assert found[1]["events_per_s"] == 1
    assert found[1]["remaining_s"] == EVENTS - done[1]


def test_a_long_scan_says_how_far_it_is(driver: TestDriver) -> None:
    """Before the replay there is lineage to read, and the ends of what was put out."""
    found = _named(_lines(driver, 1.0), "what is in Kafka is read")
    assert found
    for line in found:
        assert 0 <= line["records"] < line["of_records"]
        assert line["percent"] == 100 * line["records"] // line["of_records"]


def test_a_short_recovery_says_nothing(driver: TestDriver) -> None:
    """As most are: the lines at its beginning and its end are enough."""
    lines = _lines(driver, 0.001)
    assert _named(lines, "task group live")
    assert not _named(lines, "replay goes on")
    assert not _named(lines, "what is in Kafka is read")


def test_pauses_grow_up_to_a_minute() -> None:
    """After four seconds, eight more, sixteen, thirty-two, and each minute from then on."""
    pauses = Pauses(0.0)
    said = [now for now in range(300) if pauses.is_over(float(now))]
    assert said[:4] == [4, 12, 28, 60]
    assert {after - before for before, after in pairwise(said[3:])} == {int(LONGEST_S)}

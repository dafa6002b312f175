"""Checkpoints wait until their states are written ahead, a part of each turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kstash
from kstash.runtime.write_time import WRITE_S, WriteTime
from kstash.testing import TestDriver
from kstash.testing.clock import ManualClock
from kstash.testing.state import MemoryTaskState

INTERVAL_MS = 10_000


def counts() -> kstash.App:
    """Counts words."""
    app = kstash.App("ahead", checkpoint_interval_ms=INTERVAL_MS)
    app.stream("in", key=kstash.text, value=kstash.text).count("n").to("out")
    return app


class SlowState:
    """In place of what states write ahead: each call takes time.

    Attributes:
        left: calls until a checkpoint need not wait.
        calls: that were made.
        seconds: that each takes.
    """

    def __init__(self, driver: TestDriver) -> None:
        self.driver = driver
        self.left = self.calls = 0
        self.seconds = WRITE_S * 0.6

    def write_ahead(self, _state: MemoryTaskState) -> bool:
        """As of the port."""
        self.calls += 1
        self.left -= 1
        self.driver.clock.advance(self.seconds)
        return self.left >= 0


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """One task, whose first checkpoint is taken."""
    with TestDriver(counts()) as made:
        made.send("in", "a", key="a")
        made.advance(INTERVAL_MS / 1000)
        yield made


@pytest.fixture
def slow(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> SlowState:
    """The states of the driver."""
    made = SlowState(driver)
    monkeypatch.setattr(MemoryTaskState, "write_ahead", lambda self: made.write_ahead(self))
    return made


def labels(driver: TestDriver) -> list[str]:
    """Checkpoints on the disk."""
    (task,) = driver.rig.worker.groups[0].tasks.values()
    return driver.rig.backend.task(task.stage.name, 0).labels()


def test_a_checkpoint_waits_until_it_finds_little(driver: TestDriver, slow: SlowState) -> None:
    """A turn writes for its share of the time and goes on with records; the last one freezes."""
    driver.send("in", "b", key="b")
    before = labels(driver)
    slow.left = 7
    driver.clock.advance(INTERVAL_MS / 1000)
    turns = []
    while labels(driver) == before:
        calls = slow.calls
        driver.rig.worker.step(0.0)
        turns.append(slow.calls - calls)
        assert len(turns) < 20
    assert slow.left < 0
    assert turns == [2, 2, 2, 2]


def test_a_drain_waits_too(driver: TestDriver, slow: SlowState) -> None:
    """Other groups of the worker may go on, so it is in parts as well."""
    driver.send("in", "b", key="b")
    before = labels(driver)
    slow.left = 7
    group = driver.rig.worker.groups[0]
    group.begin_drain()
    driver.rig.worker.step(0.0)
    assert (slow.calls, labels(driver)) == (2, before)
    for _ in range(3):
        driver.rig.worker.step(0.0)
    assert slow.left < 0
    assert labels(driver) != before


def test_one_that_is_very_late_waits_for_nobody(driver: TestDriver, slow: SlowState) -> None:
    """Where others always have the time of a turn, it writes a part beside them."""
    driver.send("in", "b", key="b")
    before = labels(driver)
    slow.left = 2
    checkpoints = driver.rig.worker.groups[0].checkpoints
    write_time = driver.rig.worker.context.services.write_time

    def tick_after_others() -> int:
        calls, now = slow.calls, driver.clock.monotonic()
        assert write_time.is_left(now, driver.clock)
        driver.clock.advance(WRITE_S * 2)
        checkpoints.tick(now, may_publish=False)
        return slow.calls - calls

    driver.clock.advance(INTERVAL_MS / 1000)
    assert [tick_after_others() for _ in range(3)] == [0, 0, 0]
    driver.clock.advance(INTERVAL_MS / 1000)
    assert [tick_after_others() for _ in range(3)] == [1, 1, 1]
    assert labels(driver) != before


def test_all_groups_share_the_time_of_a_turn() -> None:
    """Each turn has it anew, and one part even where it is late."""
    clock, share = ManualClock(), WriteTime()
    turn = clock.monotonic()
    clock.advance(10)
    assert share.is_left(turn, clock)
    clock.advance(WRITE_S / 2)
    assert share.is_left(turn, clock)
    clock.advance(WRITE_S / 2)
    assert not share.is_left(turn, clock)
    assert share.is_left(turn + 10, clock)

"""What a turn of the worker does for groups that have nothing to do: nothing.

The worker is the real one, Kafka is in memory.
"""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash import App
from kstash.runtime.group.group import IDLE_TICK_S, TaskGroup
from kstash.testing import TestDriver

TURN_S = 0.025
TURNS = int(IDLE_TICK_S / TURN_S)


@pytest.fixture
def ticked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the groups that got a turn, in order."""
    numbers: list[int] = []
    tick = TaskGroup.tick

    def counted(group: TaskGroup, *args: Any, **kwargs: Any) -> None:
        numbers.append(group.number)
        tick(group, *args, **kwargs)

    monkeypatch.setattr(TaskGroup, "tick", counted)
    return numbers


def counts(guarantee: str) -> App:
    """One stage with a state and a sink."""
    app = App("idle", guarantee=guarantee)
    words = app.stream("in", key=kstash.text, value=kstash.text)
    words.count("words").to("out", value=kstash.int_text)
    return app


def turns(driver: TestDriver, count: int = TURNS) -> None:
    """Let the worker have turns, as one that waits 25 ms for records in each."""
    for _ in range(count):
        driver.clock.advance(TURN_S)
        driver.rig.worker.step(0)


@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first", "at_least_once", "none"])
def test_groups_with_nothing_to_do_are_left_alone(guarantee: str, ticked: list[int]) -> None:
    """Each of twenty gets one turn or two in a second, where the worker has forty."""
    with TestDriver(counts(guarantee), partitions=20) as driver:
        turns(driver, 20 * TURNS)  # the first checkpoints, commits and hints are over
        ticked.clear()
        turns(driver)
        assert len(ticked) <= 2 * 20


def test_one_that_has_something_to_do_is_not_kept_waiting(ticked: list[int]) -> None:
    """A record's group works, commits and hints at once; the others sleep on."""
    with TestDriver(counts("exactly_once"), partitions=20) as driver:
        turns(driver, 20 * TURNS)
        ticked.clear()
        driver.kafka.append("in", b"word", key=b"key", partition=7)
        turns(driver, 8)  # 200 ms: an interval between commits, and a commit
        assert [record.value() for record in driver.kafka.read("out")] == [b"1"]
        assert ticked.count(7) >= 5
        assert len(ticked) - ticked.count(7) <= 3 * 19  # of 8 turns each


def test_a_checkpoint_is_made_when_it_is_due(ticked: list[int]) -> None:
    """A group that has only a checkpoint before it sleeps until then, and no longer."""
    with TestDriver(counts("exactly_once"), partitions=2) as driver:
        turns(driver, 30 * TURNS)
        driver.kafka.append("in", b"word", key=b"key", partition=1)
        before = driver.metrics.counts["checkpoints"]
        turns(driver, 11 * TURNS)
        assert driver.metrics.counts["checkpoints"] > before
        assert len(ticked) < 41 * TURNS

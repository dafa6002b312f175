"""Offsets of inputs are positions: nothing waits for what holds no record, or begins there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kstash
from kstash.testing import TestDriver
from kstash.testing.kafka.log import Outcome, Transaction

IN = ("in", 0)


def counted(guarantee: str = "exactly_once") -> kstash.App:
    """One input, counted by key."""
    app = kstash.App("positions", guarantee=guarantee, checkpoint_interval_ms=1_000)
    app.stream("in", key=kstash.text, value=kstash.text).count("n").to("out", value=kstash.int_text)
    return app


def append(driver: TestDriver, outcome: Outcome, count: int = 3) -> int:
    """A transaction of another program in the input; returns the end of the log."""
    transaction = Transaction("another")
    log = driver.kafka.log(IN)
    for _ in range(count):
        log.append(b"k", b"v", None, 0, transaction)
    transaction.end(outcome)
    return log.end_offset


def committed(driver: TestDriver) -> int:
    """What lag tools see."""
    offset: int = driver.rig.worker.context.clients.membership.committed[IN]  # type: ignore[attr-defined]
    return offset


def lag(driver: TestDriver) -> int | None:
    """What the page shows."""
    return driver.rig.worker.status().tasks[0].lag


@pytest.mark.parametrize("outcome", [Outcome.COMMITTED, Outcome.ABORTED])
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once", "none"])
def test_no_lag_is_left_behind_transactions(guarantee: str, outcome: Outcome) -> None:
    """Markers and aborted records are read, though no record came of them."""
    with TestDriver(counted(guarantee)) as driver:
        append(driver, Outcome.COMMITTED)
        end = append(driver, outcome)
        driver.advance(30)
        assert committed(driver) == end
        assert lag(driver) == 0


def test_what_waits_is_lag() -> None:
    """The position is that of the first record that waits, not of what the client has read."""
    with TestDriver(counted()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(30)
        group = driver.rig.worker.groups[0]
        task = group.tasks[0]
        append(driver, Outcome.ABORTED, count=5)
        first = append(driver, Outcome.COMMITTED) - 4
        messages = driver.rig.worker.context.clients.consumer.poll(0)
        assert [m.offset() for m in messages] == [first, first + 1, first + 2]
        group.deliver(task, 0, messages)
        group.note_positions()
        assert task.inputs[0].next_offset == first


def test_a_stop_commits_its_last_positions() -> None:
    """Lag tools see where the application stopped, and not where it was a second earlier."""
    with TestDriver(counted()) as driver:
        driver.advance(1)
        driver.send("in", "v", key="k")
        end = append(driver, Outcome.ABORTED)
        membership = driver.rig.worker.context.clients.membership
        driver.rig.worker.step(0)
        assert driver.rig.worker.close()
        assert membership.committed[IN] == end  # type: ignore[attr-defined]


def test_a_checkpoint_begins_behind_what_holds_no_record() -> None:
    """Retention deletes an idle input whole; a start goes on where its log begins."""
    with TestDriver(counted()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(60)
        append(driver, Outcome.ABORTED)
        driver.advance(0.1)
        driver.close()
        log = driver.kafka.log(IN)
        log.delete_before(log.end_offset)
        driver.recover()
        driver.send("in", "v", key="k")
        driver.advance(5)
        assert driver.state("n") == {"k": 2}


def test_an_idle_task_says_how_far_its_input_was_read() -> None:
    """What comes after the last checkpoint and holds no record needs none: said again, once."""
    with TestDriver(counted()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(60)
        end = append(driver, Outcome.ABORTED)
        driver.advance(60)
        log = driver.kafka.log(IN)
        assert end == log.end_offset
        log.delete_before(end)
        driver.crash()
        driver.recover()
        driver.send("in", "v", key="k")
        driver.advance(5)
        assert driver.state("n") == {"k": 2}


def test_a_run_to_the_end_leaves_the_rest_to_the_next() -> None:
    """What came after the end of a bounded run was seen, and is not passed over."""
    with TestDriver(counted()) as driver:
        driver.crash()
        append(driver, Outcome.COMMITTED, count=1)
        driver.rig.start(until="end")
        worker = driver.rig.worker
        step_until(driver, lambda: worker.is_live)
        driver.rig.cluster.links["lineage"].holds_requests = True  # the run cannot end yet
        append(driver, Outcome.COMMITTED, count=2)
        driver.advance(5)
        assert lag(driver) == 3
        driver.rig.cluster.links["lineage"].holds_requests = False
        step_until(driver, lambda: worker.is_done)
        driver.close()
        driver.recover()
        driver.advance(5)
        assert driver.state("n") == {"k": 3}


def step_until(driver: TestDriver, condition: Callable[[], bool]) -> None:
    """Let time pass until something is so."""
    for _ in range(500):
        if condition():
            return
        driver.advance(0.1)
    raise AssertionError("it did not come")

"""Lag from positions and stable ends: nothing that holds no record is lag, and seconds are true."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash.observe.probes import Probes
from kstash.ports.status import TaskStatus, WorkerStatus
from kstash.runtime.input_ends import QUESTION_S_MAX
from kstash.testing import TestDriver
from kstash.testing.kafka.log import Outcome, Transaction

IN = ("in", 0)


def counted(name: str = "lags", **settings: Any) -> kstash.App:
    """Words, counted in a second stage: an internal topic lies between."""
    app = kstash.App(name, **settings)
    stream = app.stream("in", value=kstash.text)
    stream.key_by(str, key=kstash.text).count("n").to("out", value=kstash.int_text)
    return app


def status(driver: TestDriver) -> WorkerStatus:
    """What the worker says of itself."""
    return driver.rig.worker.status()


def first_task(driver: TestDriver) -> TaskStatus:
    """The one that reads `in`."""
    return status(driver).tasks[0]


def hold(driver: TestDriver) -> None:
    """Have the worker read nothing of `in` any more, as if its fetches did not come."""
    driver.rig.worker.context.clients.consumer.pause([IN])


def go_on(driver: TestDriver) -> None:
    """Let it read again."""
    driver.rig.worker.context.clients.consumer.resume([IN])


@pytest.mark.parametrize("outcome", [Outcome.COMMITTED, Outcome.ABORTED])
def test_markers_and_aborted_records_are_no_lag(outcome: Outcome) -> None:
    """Whatever a transaction left at the end of the log, a task that has read all has no lag."""
    with TestDriver(counted()) as driver:
        transaction = Transaction("another")
        for _ in range(3):
            driver.kafka.log(IN).append(None, b"v", None, driver.clock.time_ms(), transaction)
        transaction.end(outcome)
        driver.advance(4)
        assert [(task.lag, task.lag_seconds) for task in status(driver).tasks] == [(0, 0.0)] * 2


def test_what_nobody_can_read_yet_is_no_lag() -> None:
    """Records of an open transaction lie after the last stable offset."""
    with TestDriver(counted()) as driver:
        driver.send("in", "a")
        log = driver.kafka.log(IN)
        transaction = Transaction("another")
        log.append(None, b"v", None, driver.clock.time_ms(), transaction)
        log.append(None, b"w", None, driver.clock.time_ms())
        driver.advance(30)
        assert log.end_offset == 3
        assert (first_task(driver).lag, first_task(driver).lag_seconds) == (0, 0.0)
        assert first_task(driver).stalled_seconds == 0


def test_gaps_that_compaction_left_are_no_lag() -> None:
    """A compacted end holds nothing that would come."""
    with TestDriver(counted()) as driver:
        driver.send("in", "a")
        hold(driver)
        for _ in range(4):
            driver.kafka.append("in", None, key=b"k")
        driver.kafka.log(IN).compact(drops_tombstones=True)
        go_on(driver)
        driver.advance(4)
        assert first_task(driver).lag == 0


def test_lag_is_records_and_the_wait_of_the_oldest_of_them() -> None:
    """Counted from the last time that everything was read, however old the records say they are."""
    with TestDriver(counted()) as driver:
        long_ago_ms = driver.clock.time_ms() - 3_600_000
        driver.send("in", "a", timestamp_ms=long_ago_ms)
        driver.advance(4)
        hold(driver)
        for _ in range(5):
            driver.kafka.append("in", b"b", timestamp_ms=long_ago_ms)
        driver.advance(20)
        task = first_task(driver)
        assert task.lag == 5
        assert task.lag_seconds == pytest.approx(20, abs=4)
        go_on(driver)
        driver.advance(4)
        assert (first_task(driver).lag, first_task(driver).lag_seconds) == (0, 0.0)


def test_a_backlog_of_old_records_is_as_old_as_they_are() -> None:
    """A task that never was at the end lags by the age of the record that it processed last."""
    with TestDriver(counted()) as driver:
        hold(driver)
        driver.crash()
        driver.kafka.append("in", b"a", timestamp_ms=driver.clock.time_ms() - 600_000)
        driver.recover()
        hold(driver)
        driver.rig.worker._reporter._lags._inputs.clear()
        driver.kafka.append("in", b"b", timestamp_ms=driver.clock.time_ms() - 500_000)
        driver.advance(4)
        task = first_task(driver)
        assert task.lag == 1
        assert task.lag_seconds == pytest.approx(604, abs=2)
        # Of one that waits in memory its own age is known.
        vars(driver.rig.worker._turns)["take"] = lambda: None
        go_on(driver)
        driver.rig.worker.step(0)
        driver.clock.advance(1)
        driver.rig.worker.step(0)
        assert first_task(driver).lag_seconds == pytest.approx(505, abs=2)
        driver.crash()


def test_what_waits_in_memory_is_lag() -> None:
    """Records that were consumed and are not processed count, by the first one's own age."""
    with TestDriver(counted()) as driver:
        driver.send("in", "a")
        driver.advance(4)
        worker = driver.rig.worker
        group = worker.groups[0]
        vars(group)["work"] = lambda _: None
        vars(worker._turns)["take"] = lambda: None
        for _ in range(3):
            driver.kafka.append("in", b"b")
        for _ in range(16):
            worker.step(0)
            driver.clock.advance(0.5)
        task = first_task(driver)
        assert task.lag == 3
        assert task.lag_seconds == pytest.approx(7.5, abs=1)
        # Nor does it take an end that is as new as they are.
        worker._reporter._lags._inputs[IN].end = 1
        worker._reporter._lags._due = math.inf
        driver.clock.advance(1)
        worker.step(0)
        assert first_task(driver).lag == 3


def test_internal_topics_have_lags_too() -> None:
    """The wide edge's lag is that of its reader; the worker's topics say what goes through them."""
    with TestDriver(counted("in-side")) as driver:
        worker = driver.rig.worker
        inner = worker.context.layout.topology.internal_topics[0]
        driver.send("in", "a")
        driver.advance(4)
        worker.context.clients.consumer.pause([(inner, 0)])
        driver.kafka.append("in", b"b")
        driver.advance(6)
        found = {topic.topic: topic for topic in status(driver).topics}
        assert set(found) == {"in", inner, "out"}
        assert found["in"].lag_records == 0
        assert found[inner].lag_records == 1
        assert found[inner].lag_seconds == pytest.approx(6, abs=4)
        assert found["out"].lag_records is None


def test_a_cluster_that_does_not_answer_is_told() -> None:
    """A probe can tell an outage, which no restart mends, from a task that hangs."""
    with TestDriver(counted()) as driver:
        driver.send("in", "a")
        driver.advance(4)
        assert status(driver).silent_seconds == 0
        driver.kafka.is_away = True
        driver.advance(20)
        assert status(driver).silent_seconds == pytest.approx(20, abs=3)
        driver.kafka.is_away = False
        driver.advance(4)
        assert status(driver).silent_seconds == 0


def test_an_outage_ends_for_a_worker_that_has_lost_its_groups() -> None:
    """It asks without them too: else no probe would ever fail for what is stuck after it."""
    with TestDriver(counted("lost-and-stuck")) as driver:
        driver.advance(2)
        worker = driver.rig.worker
        driver.kafka.is_away = True
        driver.advance(20)
        worker._groups._lost([0])
        driver.advance(20)
        assert status(driver).groups == ()
        assert status(driver).silent_seconds == pytest.approx(40, abs=4), "it is still away"
        driver.kafka.is_away = False
        driver.rig.cluster.links["claim"].holds_requests = True
        worker._groups._assigned([0])
        driver.advance(4)
        assert status(driver).silent_seconds == 0
        probes = Probes(300, 0.0)
        for _ in range(40):
            driver.advance(10)
            probes.note(status(driver), driver.clock.monotonic())
        (reason,) = probes.stalled(status(driver), driver.clock.monotonic(), 0)
        assert reason.startswith("task group 0 is ")
        driver.crash()


def test_a_question_that_nobody_answers_is_asked_again() -> None:
    """A client that has lost it is no outage for ever."""
    with TestDriver(counted("asked-again")) as driver:
        driver.advance(4)
        worker = driver.rig.worker
        admin, asked = worker.context.clients.admin, []

        def lose(partitions: object) -> Callable[[], None]:
            asked.append(partitions)
            return lambda: None

        vars(admin)["ask_stable_ends"] = lose
        driver.advance(QUESTION_S_MAX)
        assert len(asked) == 1
        assert status(driver).silent_seconds > QUESTION_S_MAX / 2
        driver.advance(10)
        assert len(asked) == 2
        assert status(driver).silent_seconds > QUESTION_S_MAX, "as long as no answer comes"
        del vars(admin)["ask_stable_ends"]
        driver.advance(QUESTION_S_MAX)
        assert status(driver).silent_seconds == 0


def test_the_lag_of_uncommitted_inputs_ends_at_the_high_watermark() -> None:
    """Another application's immediate sink is read as it comes."""
    app = kstash.App("reader")
    app.stream("in", value=kstash.text, immediate_of="writer").to("out")
    with TestDriver(app) as driver:
        driver.advance(4)
        worker = driver.rig.worker
        worker.context.clients.consumer.pause([IN])
        transaction = Transaction("another")
        driver.kafka.log(IN).append(None, b"v", None, driver.clock.time_ms(), transaction)
        driver.advance(4)
        assert first_task(driver).lag == 1
        transaction.end(Outcome.ABORTED)
        driver.crash()

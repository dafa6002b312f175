"""What a worker says of itself: made by the real runtime on Kafka in memory."""

from __future__ import annotations

import pytest

import kstash
from kstash.runtime.context import RECOVERIES_MAX
from kstash.testing import TestDriver
from tests.unit.test_runtime_lags import counted, first_task, status


def test_tasks_say_where_they_are() -> None:
    """Stage, partition, and the greatest timestamp of what was processed."""
    with TestDriver(counted("report"), partitions=2) as driver:
        assert first_task(driver).stream_time is None
        driver.send("in", "a", partition=1, timestamp=1_600_000_123_000)
        driver.send("in", "b", partition=1, timestamp=1_600_000_100_000)
        driver.advance(1)
        tasks = {task.name: task for task in status(driver).tasks}
        name = driver._topology.stages[0].name
        task = tasks[f"{name}_1"]
        assert (task.stage, task.partition, task.inputs) == (name, 1, ("in/1",))
        assert task.stream_time == 1_600_000_123.0
        assert tasks[f"{name}_0"].stream_time is None


def test_recoveries_are_remembered_with_their_phases() -> None:
    """The newest ones, the oldest first."""
    with TestDriver(counted("report"), lineage_delay_s=1) as driver:
        driver.send("in", "a")
        driver.send("in", "b")
        driver.crash()
        driver.recover()
        (recovery,) = status(driver).recoveries
        assert recovery.group == 0
        assert recovery.replayed == 4  # each word in both stages
        assert recovery.ended == pytest.approx(driver.clock.time_ms() / 1000, abs=1)
        phases = ["detect", "claim", "fence", "scan", "restore", "start", "replay"]
        assert sorted(recovery.phases) == sorted(phases)
        assert sum(recovery.phases.values()) == pytest.approx(recovery.seconds)
        worker = driver._worker
        assert worker is not None
        for _ in range(2 * RECOVERIES_MAX):
            worker.context.recoveries.append(recovery)
        assert len(status(driver).recoveries) == RECOVERIES_MAX


def keyed(**settings: object) -> kstash.App:
    """One task with a store."""
    app = kstash.App("aged", checkpoint_interval_ms=10_000, **settings)
    app.stream("in", key=kstash.text, value=kstash.text).count("n").to("out", value=kstash.int_text)
    return app


def test_a_checkpoint_that_holds_everything_has_no_age() -> None:
    """An idle task's is as good as new, and counts from when the task goes on."""
    with TestDriver(keyed()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(4)
        assert first_task(driver).checkpoint_age_seconds == pytest.approx(4, abs=1.5)
        driver.advance(120)
        task = first_task(driver)
        assert task.position == task.checkpointed_position == task.remote_position == 1
        assert (task.checkpoint_age_seconds, task.remote_age_seconds) == (0.0, 0.0)
        driver._cluster.links["lineage"].holds_requests = True  # type: ignore[union-attr]
        driver.send("in", "v", key="k")
        driver.advance(30)
        task = first_task(driver)
        assert task.remote_position == 1
        assert task.checkpoint_age_seconds == pytest.approx(30, abs=2)
        assert task.remote_age_seconds == pytest.approx(30, abs=2)
        driver._cluster.links["lineage"].holds_requests = False  # type: ignore[union-attr]
        driver.advance(30)
        assert first_task(driver).checkpoint_age_seconds == 0


def test_uploads_that_fail_make_the_remote_checkpoint_old() -> None:
    """The local ones go on; the age of the newest remote one counts from when it was taken."""
    with TestDriver(keyed()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(20)
        driver.store.is_away = True
        for _ in range(12):
            driver.send("in", "v", key="k")
            driver.advance(5)
        task = first_task(driver)
        assert task.checkpoint_age_seconds is not None
        assert task.remote_age_seconds is not None
        assert task.checkpoint_age_seconds < 20
        assert task.remote_position == 1
        assert task.remote_age_seconds == pytest.approx(60, abs=4)


def test_ages_are_left_out_where_there_are_no_checkpoints() -> None:
    """Without recovery there are none, and without a store no remote ones."""
    with TestDriver(keyed(guarantee="none")) as driver:
        driver.advance(2)
        task = first_task(driver)
        assert (task.checkpoint_age_seconds, task.remote_age_seconds) == (None, None)
    with TestDriver(keyed(checkpoint_store="none")) as driver:
        driver.send("in", "v", key="k")
        driver.advance(2)
        task = first_task(driver)
        assert task.checkpoint_age_seconds is not None
        assert (task.remote_position, task.remote_age_seconds) == (None, None)


def test_checkpoints_of_tasks_without_stores_are_remote() -> None:
    """They are in the lineage topic, whole."""
    with TestDriver(counted("report")) as driver:
        driver.send("in", "a")
        driver.advance(30)
        task = first_task(driver)
        assert (task.remote_position, task.remote_age_seconds) == (1, 0.0)

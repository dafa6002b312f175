"""What stands still: the figures that alerts and liveness go by."""

from __future__ import annotations

import pytest

from kstash.core.group_state import GroupState
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Claim
from kstash.ports.status import GroupStatus
from kstash.testing import TestDriver
from tests.unit.runtime.recovery.test_watchdog import (
    merged,
    replaying_in_vain,
    started,
    step_to,
)
from tests.unit.runtime.test_moves import _live_pair, _stall
from tests.unit.runtime.worker.test_lags import counted, first_task, go_on, hold, status


def only_group(driver: TestDriver) -> GroupStatus:
    """Of a worker with one."""
    (found,) = status(driver).groups
    return found


def test_a_task_with_work_and_no_progress_stalls() -> None:
    """It is counted from the last progress, and over with the next."""
    with TestDriver(counted("stalls")) as driver:
        driver.send("in", "a")
        driver.advance(60)
        assert first_task(driver).stalled_seconds == 0, "it has nothing to do"
        hold(driver)
        driver.kafka.append("in", b"b")
        driver.advance(30)
        assert first_task(driver).stalled_seconds == pytest.approx(30, abs=4)
        go_on(driver)
        driver.advance(2)
        assert first_task(driver).stalled_seconds == 0


def test_a_task_that_is_behind_and_goes_on_does_not_stall() -> None:
    """Lag alone is no stall."""
    with TestDriver(counted("stalls")) as driver:
        driver.kafka.fetch_max = driver.kafka.poll_max = 1
        for _ in range(20):
            hold(driver)
            driver.kafka.append("in", b"a")
            driver.kafka.append("in", b"b")
            driver.advance(2)
            assert first_task(driver).stalled_seconds <= 4
            go_on(driver)
            driver.advance(0.5)


def test_a_replay_that_gets_nothing_stalls_and_its_group_idles() -> None:
    """A group that recovers waits; what has not moved within it is told apart."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        worker = replaying_in_vain(driver)
        for _ in range(40):
            worker.step(0)
            driver.clock.advance(1)
        group = only_group(driver)
        assert (group.number, group.state) == (0, "recovering")
        assert group.waiting_seconds == pytest.approx(39, abs=3)
        assert group.idle_seconds == pytest.approx(39, abs=3)
        assert status(driver).tasks[0].stalled_seconds == pytest.approx(39, abs=3)
        driver.kafka.is_away = False
        driver.rig.run_until_live()
        driver.advance(2)
        assert only_group(driver) == GroupStatus(0, "live", 0.0, 0.0)


def test_a_long_recovery_waits_and_does_not_idle() -> None:
    """As long as something moves, a probe that goes by what is idle lets it be."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        for value in "abcdefghij":
            driver.send("l", value, key="k")
        driver.crash()
        driver.kafka.fetch_max = driver.kafka.poll_max = 1
        worker = started(driver)
        step_to(worker, GroupState.REPLAYING)
        for _ in range(8):
            driver.clock.advance(5)
            worker.step(0)
        group = only_group(driver)
        assert group.state == "recovering"
        assert group.waiting_seconds > 30
        assert group.idle_seconds <= 5
        driver.kafka.fetch_max = driver.kafka.poll_max = 500
        driver.rig.run_until_live()


def test_a_checkpoint_that_is_fetched_for_long_is_no_reason_to_start_again() -> None:
    """A group whose store or disk takes long waits, and does not idle."""
    with TestDriver(counted("fetches", checkpoint_interval_ms=2_000)) as driver:
        driver.send("in", "a")
        driver.advance(10)
        driver.crash()
        driver.rig.backend.lose()
        driver.store.is_away = True
        worker = started(driver)
        for _ in range(40):
            worker.step(0)
            driver.clock.advance(1)
        group = only_group(driver)
        assert group.state == "recovering"
        assert group.waiting_seconds > 30
        assert group.idle_seconds <= 1
        driver.store.is_away = False
        driver.rig.run_until_live()


def test_a_group_that_was_lost_waits_from_when_it_comes_back() -> None:
    """Another worker had it meanwhile."""
    with TestDriver(counted("lost")) as driver:
        driver.advance(1)
        worker = driver.rig.worker
        driver.rig.cluster.links["claim"].holds_requests = True
        worker._groups.restart(0, RuntimeError("a test"))
        driver.advance(20)
        assert only_group(driver).waiting_seconds == pytest.approx(20, abs=2)
        worker._groups._lost([0])
        driver.advance(5)
        assert status(driver).groups == ()
        worker._groups._assigned([0])
        driver.advance(5)
        assert only_group(driver).waiting_seconds == pytest.approx(5, abs=2)
        driver.crash()


def test_a_group_that_starts_over_again_and_again_waits_all_the_while() -> None:
    """Pauses between attempts, and attempts, are one wait: nobody has been live."""
    with TestDriver(counted("fenced")) as driver:
        driver.advance(2)
        lineage = "fenced-lineage"
        for number in range(12):
            claim = Claim(number.to_bytes(16, "big"), "another")
            driver.kafka.append(lineage, encode_value(claim), key=encode_key(claim))
            driver.advance(0.3)
        found = only_group(driver)
        assert found.state in ("restarting", "recovering")
        assert found.waiting_seconds >= 2
        driver.advance(30)
        assert only_group(driver).waiting_seconds == 0


def test_a_group_that_moves_away_does_not_wait() -> None:
    """Who is asked to give it up should not have it: it is another's to make live."""
    pair, first = _live_pair(checkpoint_interval_ms=60_000)
    go_on_ = _stall(first.groups[1])
    pair.start("b")
    pair.turn(300)
    found = {group.number: group for group in first.status().groups}
    assert found[1] == GroupStatus(1, "stopping", 0.0, 0.0)
    assert found[0] == GroupStatus(0, "live", 0.0, 0.0)
    go_on_()
    pair.turn(200)
    assert [group.number for group in first.status().groups] == [0]


def test_a_worker_without_groups_has_nothing_that_waits() -> None:
    """It stands by."""
    with TestDriver(counted("none", guarantee="none")) as driver:
        driver.advance(2)
        assert only_group(driver) == GroupStatus(0, "live", 0.0, 0.0)

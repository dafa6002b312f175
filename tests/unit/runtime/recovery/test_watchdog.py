"""A recovery that gets nothing says what it waits for, and starts over after a deadline."""

from __future__ import annotations

from structlog.testing import capture_logs

import kstash
from kstash.core.group_state import GroupState
from kstash.runtime.recovery.watchdog import WAIT_MAX_S, WAIT_SHOWN_S
from kstash.runtime.worker.worker import Worker
from kstash.testing import TestDriver


def merged() -> kstash.App:
    """Two topics merged into one count."""
    app = kstash.App("waits")
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    left.merge(right).count("both").to("out", value=kstash.int_text)
    return app


def started(driver: TestDriver) -> Worker:
    """The driver's worker, begun anew and not stepped yet."""
    driver.rig.start()
    return driver.rig.worker


def step_to(worker: Worker, state: GroupState) -> None:
    """Step until the only group has reached a step of its recovery."""
    for _ in range(100):
        worker.step(0)
        recovery = worker.groups[0].recovery if worker.groups else None
        if recovery is not None and recovery.state is state:
            return
    raise AssertionError(f"{state} was not reached")


def replaying_in_vain(driver: TestDriver) -> Worker:
    """The worker of `merged` after a crash: it replays three records, and Kafka is away."""
    for value in "abc":
        driver.send("l", value, key="k")
    driver.crash()
    worker = started(driver)
    step_to(worker, GroupState.REPLAYING)
    driver.kafka.is_away = True
    return worker


def test_a_replay_that_gets_no_records_starts_over() -> None:
    """It names the record that it waits for every ten seconds; then it begins anew, and ends."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        worker = replaying_in_vain(driver)
        with capture_logs() as logs:
            for _ in range(int(WAIT_MAX_S / 5) + 2):
                driver.kafka.clock.advance(5)
                worker.step(0)
        waits = [line for line in logs if line["event"] == "a recovery makes no progress"]
        assert len(waits) == WAIT_MAX_S / WAIT_SHOWN_S
        assert waits[0]["waits_for"] == "record 0 of l[0] for task both_0"
        assert waits[0]["step"] == "replaying"
        over = [line for line in logs if line["event"] == "task group starts over"]
        assert "got nothing for 120 s" in str(over[0]["reason"])
        driver.kafka.is_away = False
        driver.rig.run_until_live()
        assert driver.state("both") == {"k": 3}


def test_an_append_that_is_not_acknowledged_is_told() -> None:
    """A step that only waits for Kafka's answer says so, and is left to the producer's deadline."""
    with TestDriver(merged()) as driver:
        driver.crash()
        worker = started(driver)
        step_to(worker, GroupState.CLAIMING)
        driver.kafka.is_away = True
        with capture_logs() as logs:
            for _ in range(30):
                driver.kafka.clock.advance(5)
                worker.step(0)
        events = [(line["event"], line.get("step")) for line in logs]
        assert ("a recovery makes no progress", "claiming") in events
        assert "task group starts over" not in dict(events)
        driver.kafka.is_away = False
        driver.rig.run_until_live()

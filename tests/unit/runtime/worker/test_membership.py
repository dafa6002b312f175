"""A worker without task groups says what it waits for, or that it stands by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.ports.kafka import Census
from kstash.runtime.worker.membership import PATIENCE_S
from kstash.runtime.worker.worker import Worker
from kstash.testing import TestDriver

UUID = "12345678-1234-1234-1234-123456789012"
SPARE = "no task group is left for this worker, it stands by"
DEAD = (
    "waiting for the members of the group; one that is dead is waited for until its session has "
    "timed out"
)
BUSY = "waiting for a member of the group that is busy, up to its max.poll.interval.ms"


def _idle(
    driver: TestDriver,
    census: Callable[[], Census | None],
    seconds: int,
    *,
    state: str = "starting",
) -> list[Any]:
    """Lines of a worker that is given nothing for some seconds, while the cluster says so."""
    driver.rig.start()
    worker = driver.rig.worker
    assert isinstance(worker, Worker)
    member = worker.context.clients.membership
    vars(member).update(census=census, _rebalance=lambda *_: None)
    with capture_logs() as lines:
        for _ in range(seconds):
            driver.kafka.clock.advance(1)
            worker.step(0)
    assert not worker.groups
    assert worker.status().state == state
    driver.crash()
    return [dict(line) for line in lines if "group" in line["event"]]


@pytest.fixture
def driver() -> TestDriver:
    """A worker of two task groups that has crashed."""
    app = kstash.App("members", session_timeout_ms=10_000)
    app.stream("in").to("out")
    driver = TestDriver(app, partitions=2)
    driver.crash()
    return driver


def _census(*, is_settled: bool = True, own: str = "me", owned: int = 2) -> Census:
    members = frozenset({"me", f"host-1-{UUID}"})
    return Census(is_settled, members, dict.fromkeys(range(owned), f"host-1-{UUID}"), own)


def test_a_dead_member_is_waited_for(driver: TestDriver) -> None:
    """It says so with the deadline and who else is there; after that somebody is busy."""
    lines = _idle(driver, lambda: _census(is_settled=False), 30)
    assert [line["event"] for line in lines] == [DEAD, BUSY, BUSY]
    assert lines[0]["waited_s"] >= PATIENCE_S
    assert lines[0]["up_to_s"] == 10
    assert lines[0]["others"] == ["host-1"]
    assert lines[1]["up_to_s"] == 300


def test_a_worker_too_many_stands_by(driver: TestDriver) -> None:
    """It says so once, and counts as live: who waits until all are ready must not wait for it."""
    lines = _idle(driver, _census, 100, state="live")
    assert [(line["event"], line["groups"], line["workers"]) for line in lines] == [(SPARE, 2, 2)]


@pytest.mark.parametrize(
    ("census", "event"),
    [
        (_census(own=""), "waiting to be let into the group"),
        (None, "waiting for the group to answer"),
        (_census(owned=1), None),
    ],
    ids=["not in yet", "no answer", "groups of nobody's"],
)
def test_what_else_is_waited_for(
    driver: TestDriver, census: Census | None, event: str | None
) -> None:
    """The group itself; and where groups are nobody's this worker does not stand by."""
    lines = [line["event"] for line in _idle(driver, lambda: census, 8)]
    assert lines == ([event] if event else [])


def test_one_that_has_groups_says_nothing(driver: TestDriver) -> None:
    """Nor asks for it; nor while it stops."""
    with capture_logs() as lines:
        driver.recover()
        driver.advance(7)
        driver.close()
    events = {line["event"] for line in lines}
    assert not {event for event in events if "waiting" in event or "stands by" in event}


def test_a_place_that_is_lost_says_nothing_of_others(driver: TestDriver) -> None:
    """Whether somebody else has the groups is not known then, and often nobody has."""
    driver.recover()
    with capture_logs() as lines:
        driver.kafka.poll_interval_s = 5
        driver.kafka.clock.advance(6)
        driver.advance(2)
    lost = [line for line in lines if line["event"].startswith("task groups lost")]
    assert [line["groups"] for line in lost] == [[0, 1]]
    assert not [line for line in lines if "another worker" in line["event"]]
    driver.close()

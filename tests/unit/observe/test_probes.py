"""What counts as standing still, and what does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import kstash
from kstash.observe import Observer, history
from kstash.observe.answers import WorkerSource
from kstash.observe.merged import merge_status
from kstash.observe.probes import AWAY_S, Probes, unready, waiting_for
from kstash.ports.status import GroupStatus, TaskStatus, WorkerStatus
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.settings.derived import POLL_INTERVAL_MS

LIMIT_S = 300.0


def task(**changes: Any) -> TaskStatus:
    """A live task that has nothing to do."""
    made = TaskStatus("words_3", "live", 10, 0, 5, 0, ("in/3",), "words", 3)
    return replace(made, **changes)


def group(state: str, waiting_s: float = 0.0, idle_s: float = 0.0) -> GroupStatus:
    """Task group 3."""
    return GroupStatus(3, state, waiting_s, idle_s)


def status(*parts: TaskStatus | GroupStatus, **changes: Any) -> WorkerStatus:
    """Of a worker with these tasks and groups."""
    return replace(
        WorkerStatus(
            "a",
            "exactly_once",
            "live",
            tasks=tuple(part for part in parts if isinstance(part, TaskStatus)),
            groups=tuple(part for part in parts if isinstance(part, GroupStatus)),
        ),
        **changes,
    )


def stalled(seen: WorkerStatus, now: float = 10_000.0, stuck_s: float = 0.0) -> tuple[str, ...]:
    """What a worker that started at 0 says."""
    probes = Probes(LIMIT_S, 0.0)
    probes.note(seen, now)
    return probes.stalled(seen, now, stuck_s)


def test_a_task_that_has_work_and_makes_no_progress() -> None:
    """Is named, with the time; not before the limit."""
    assert stalled(status(task(stalled_seconds=300))) == ()
    assert stalled(status(task(), task(stalled_seconds=312))) == (
        "task words_3 has had work and made no progress for 312 s",
    )


def test_a_group_in_which_nothing_moves() -> None:
    """Is named; a restore or replay that goes on is alive, however long it takes."""
    assert stalled(status(group("recovering", 301, 301))) == (
        "task group 3 is recovering and nothing has moved for 301 s",
    )
    assert stalled(status(group("restarting", 301, 301))) == (
        "task group 3 is restarting and nothing has moved for 301 s",
    )
    long = group("recovering", 90_000, 1)
    assert stalled(status(long, task(state="recovering", stalled_seconds=400))) == ()


def test_a_loop_that_does_not_turn() -> None:
    """Is all that is said: what it left is old."""
    seen = status(task(stalled_seconds=400))
    assert stalled(seen, stuck_s=300) == (
        "task words_3 has had work and made no progress for 400 s",
    )
    assert stalled(seen, stuck_s=301) == ("the loop has not turned for 301 s",)


def test_nothing_stands_still_while_the_cluster_is_away() -> None:
    """A restart mends no outage; after it there is as much time as ever."""
    probes = Probes(LIMIT_S, 0.0)
    parts = task(stalled_seconds=9_000), group("recovering", 9_000, 9_000)
    away = status(*parts, silent_seconds=AWAY_S + 1)
    probes.note(away, 9_000)
    assert probes.stalled(away, 9_000, 0) == ()
    back = status(*parts)
    probes.note(back, 9_001)
    assert probes.stalled(back, 9_000 + LIMIT_S, 0) == ()
    assert len(probes.stalled(back, 9_001 + LIMIT_S, 0)) == 2
    briefly = status(*parts, silent_seconds=AWAY_S - 1)
    probes.note(briefly, 9_400)
    assert len(probes.stalled(briefly, 9_400, 0)) == 2


def test_a_worker_that_has_just_started_is_alive() -> None:
    """Whatever its groups waited for before."""
    assert stalled(status(group("recovering", 900, 900)), now=LIMIT_S) == ()


def test_a_group_that_starts_over_again_and_again() -> None:
    """Moves each time, and gets nowhere; one attempt that goes on for long may be a replay."""
    probes = Probes(LIMIT_S, 0.0)
    now = 1_000.0
    for attempt in range(5):
        for state in ("restarting", "recovering"):
            now += 50
            seen = status(group(state, 100.0 * attempt, 1))
            probes.note(seen, now)
    assert probes.stalled(seen, now, 0) == (
        "task group 3 starts over again and again, and has not been live for 400 s",
    )
    later = status(group("recovering", 800, 1))
    assert probes.stalled(later, now + 201, 0) == (), "this attempt has been going on for long"
    live = status(group("live"))
    probes.note(live, now + 1)
    assert probes.stalled(live, now + 1, 0) == ()


def test_one_restart_is_no_trouble() -> None:
    """As after a producer failed, with a long replay after that."""
    probes = Probes(LIMIT_S, 0.0)
    probes.note(status(group("restarting", 1_000, 1)), 5_000)
    seen = status(group("recovering", 1_010, 1))
    probes.note(seen, 5_010)
    assert probes.stalled(seen, 5_010, 0) == ()


def test_the_limit_is_as_long_as_a_function_may_take() -> None:
    """`stall_ms_max`, or the client's `max.poll.interval.ms`."""
    assert derived.stall_s(Config.load(application_id="a")) == POLL_INTERVAL_MS / 1000
    slow = Config.load(application_id="a", kafka={"max.poll.interval.ms": 900_000})
    assert derived.stall_s(slow) == 900
    assert derived.stall_s(Config.load(application_id="a", stall_ms_max=60_000)) == 60


@pytest.mark.parametrize(
    ("seen", "reasons"),
    [
        (status(), ()),
        (status(task(), group("live")), ()),
        (status(state="starting"), ("the worker is starting",)),
        (
            status(task(state="recovering"), group("recovering"), state="recovering"),
            (
                "the worker is recovering",
                "task words_3 is recovering",
                "task group 3 is recovering",
            ),
        ),
        (status(group("restarting")), ("task group 3 is restarting",)),
        (status(group("stopping")), ()),
    ],
)
def test_what_is_not_ready(seen: WorkerStatus, reasons: tuple[str, ...]) -> None:
    """All that does not run is named; a group that moves to another worker is that one's matter."""
    assert unready(seen) == reasons


def test_a_cluster_that_does_not_answer_is_what_a_worker_waits_for() -> None:
    """It is said with its reason, not that the worker starts, which has been up for long."""
    seen = status(state="starting", silent_seconds=34.2)
    text = waiting_for(seen, "Connection refused")
    assert text == "Kafka does not answer since 34 s: Connection refused"
    assert unready(seen, text) == (text,)
    assert waiting_for(seen, None) == "Kafka does not answer since 34 s"
    assert waiting_for(status(silent_seconds=2), "Connection refused") is None
    recovering = status(group("recovering"), state="recovering", silent_seconds=34.2)
    assert unready(recovering, text) == (
        text,
        "the worker is recovering",
        "task group 3 is recovering",
    )


@pytest.fixture
def log() -> Iterator[None]:
    """What is kept of the log; empty before and after."""
    history.complaints.clear()
    yield
    history.complaints.clear()


def note(event: str, **values: Any) -> None:
    """A line of the log, by itself a warning."""
    history.note_complaint(None, "", {"level": "warning", "event": event, **values})


@pytest.mark.usefixtures("log")
def test_lines_of_the_client_push_nothing_else_out_and_keep_their_text() -> None:
    """In an outage there are many of them."""
    note(history.UNREACHABLE, error="Connection refused")
    for number in range(50):
        note(history.CLIENT_SAYS, facility="FAIL", message=f"line {number}")
    first, *rest = history.complaints
    assert (first.event, first.error) == (history.UNREACHABLE, "Connection refused")
    assert [found.error for found in rest] == [f"line {number}" for number in range(45, 50)]


@pytest.mark.usefixtures("log")
def test_an_outage_that_is_over_is_shown_with_its_end() -> None:
    """Without it the last word would be that Kafka cannot be reached; other news are not kept."""
    note(history.UNREACHABLE, error="Connection refused")
    note(history.REACHABLE, level="info", away_seconds=12.5)
    note("task group live", level="info")
    assert [(found.event, found.error) for found in history.complaints] == [
        ("broker unreachable, waiting", "Connection refused"),
        ("broker reachable again", "after 12.5 s"),
    ]


@pytest.mark.usefixtures("log")
def test_why_the_cluster_could_not_be_reached() -> None:
    """As the log said: kstash's own line before one of the client; nothing that is old."""
    assert history.why_unreachable(60) is None
    note(history.CLIENT_SAYS, message="all brokers are down")
    assert history.why_unreachable(60) == "all brokers are down"
    note(history.UNREACHABLE, error="Connection refused")
    note(history.CLIENT_SAYS, message="all brokers are down")
    note("another", reason="no")
    assert history.why_unreachable(60) == "Connection refused"
    assert history.why_unreachable(-1) is None


@pytest.mark.usefixtures("log")
def test_a_worker_says_what_it_waits_for() -> None:
    """In `/readyz` and `/status`."""
    app = kstash.App("a")
    app.stream("in").to("out")
    observer = Observer(app.config, app.topology())
    source = WorkerSource(observer)
    assert asyncio.run(source.status()).waiting_for is None
    assert asyncio.run(source.status()).pid == os.getpid()
    observer.status = status(state="starting", silent_seconds=34)
    note(history.UNREACHABLE, error="Connection refused")
    text = "Kafka does not answer since 34 s: Connection refused"
    assert asyncio.run(source.readyz()).reasons == (text,)
    found = asyncio.run(source.status())
    assert found.waiting_for == text
    assert merge_status(found, [found], is_complete=True).waiting_for == text

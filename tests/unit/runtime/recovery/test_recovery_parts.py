"""The parts of an attempt at recovering a group, each by itself: appends, fences, phases."""

from __future__ import annotations

from typing import Any

import pytest

from kstash.core.events import ClaimAppended, Event, Fenced
from kstash.core.group_state import GroupState
from kstash.core.ids import Incarnation
from kstash.core.records import Claim
from kstash.core.wire import Fence
from kstash.errors import ProducerFailedError, ProducerRefusedError
from kstash.runtime.recovery.appending import CLAIM_BACKOFF_S, Appender
from kstash.runtime.recovery.fencing import Fencing
from kstash.runtime.recovery.phases import PHASES, PhaseTimes
from kstash.testing.clock import ManualClock
from tests.unit.recording_producer import RecordingProducer

LINEAGE = ("app-lineage", 3)
MARKER = Fence(7, ((3, Incarnation(1, 1)),))


class SinkCalls(RecordingProducer):
    """A sink's producer that keeps who waits for its initialisation."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: Any = None

    def initialise(self, on_done: Any) -> None:
        """Keep the callback."""
        self.waiting = on_done

    def commit(self, metadata: str, on_done: Any) -> None:
        """Nothing is committed here."""


class Attempt:
    """An appender with what it posts, and how often it was asked to try again."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.posted: list[Event | Exception] = []
        self.calls = RecordingProducer()
        self.tries = 0
        self.appender = Appender(self.clock, LINEAGE, self.posted.append)

    def append(self, *, is_repeatable: bool = True) -> None:
        """Append a CLAIM."""
        self.appender.append(
            self.calls,
            Claim(b"n", "worker"),
            ClaimAppended,
            again=self.again if is_repeatable else None,
        )

    def again(self) -> None:
        """Count, and append another one."""
        self.tries += 1
        self.append()


def test_an_acknowledged_append_is_an_event_with_its_offset() -> None:
    """The record goes to the group's partition of the lineage topic."""
    attempt = Attempt()
    attempt.append()
    attempt.calls.answer(0, 17)
    assert attempt.posted == [ClaimAppended(17)]
    assert (attempt.calls.records[0][0], attempt.calls.records[0][3]) == LINEAGE


def test_a_failed_append_is_tried_again_after_a_pause() -> None:
    """Not at once, and once only for each failure."""
    attempt = Attempt()
    attempt.append()
    attempt.calls.answer(0, None, "timed out")
    now = attempt.clock.monotonic()
    attempt.appender.tick(now + CLAIM_BACKOFF_S / 2)
    assert attempt.tries == 0
    attempt.appender.tick(now + CLAIM_BACKOFF_S)
    attempt.appender.tick(now + 2 * CLAIM_BACKOFF_S)
    assert attempt.tries == 1
    assert attempt.posted == []


@pytest.mark.parametrize("is_repeatable", [True, False])
def test_a_refused_append_ends_the_attempt(*, is_repeatable: bool) -> None:
    """A right that is missing is not there after a pause either."""
    attempt = Attempt()
    refused = ProducerRefusedError("no right")
    attempt.append(is_repeatable=is_repeatable)
    attempt.calls.answer(0, None, refused)
    assert attempt.posted == [refused]


def test_an_append_that_must_not_be_repeated_ends_the_attempt() -> None:
    """Of a SEAL or START nobody knows whether it is in the topic."""
    attempt = Attempt()
    attempt.append(is_repeatable=False)
    attempt.calls.answer(0, None, "timed out")
    (error,) = attempt.posted
    assert isinstance(error, ProducerFailedError)


def test_a_cancelled_attempt_tries_nothing_again() -> None:
    """Its group has another attempt, or another owner."""
    attempt = Attempt()
    attempt.append()
    attempt.appender.cancel()
    attempt.calls.answer(0, None, "timed out")
    attempt.appender.tick(attempt.clock.monotonic() + 2 * CLAIM_BACKOFF_S)
    assert attempt.tries == 0


def test_all_partitions_and_sinks_are_fenced_before_the_seal() -> None:
    """The last of them to answer makes the event, with what the sinks' predecessors committed."""
    posted: list[Event | Exception] = []
    calls, sink = RecordingProducer(), SinkCalls()
    targets = [("words", 0), ("words", 1)]
    fencing = Fencing(
        ManualClock(), producer=calls, targets=targets, sinks=[sink], post=posted.append
    )
    fencing.begin(MARKER)
    calls.answer(1, 8)
    sink.waiting(None, "committed")
    assert posted == []
    calls.answer(0, 5)
    assert posted == [Fenced(("committed",))]
    assert fencing.offsets == {("words", 0): 5, ("words", 1): 8}


def test_with_nothing_to_fence_it_is_done_at_once() -> None:
    """A group whose tasks write nothing goes on."""
    posted: list[Event | Exception] = []
    Fencing(
        ManualClock(), producer=RecordingProducer(), targets=[], sinks=[], post=posted.append
    ).begin(MARKER)
    assert posted == [Fenced(())]


def test_a_fence_that_failed_ends_the_attempt() -> None:
    """A partition without a fence may still take records of a predecessor."""
    posted: list[Event | Exception] = []
    calls, sink = RecordingProducer(), SinkCalls()
    fencing = Fencing(
        ManualClock(), producer=calls, targets=[("words", 0)], sinks=[sink], post=posted.append
    )
    fencing.begin(MARKER)
    calls.answer(0, None, "timed out")
    failed = RuntimeError("fenced")
    sink.waiting(failed, None)
    assert isinstance(posted[0], ProducerFailedError)
    assert posted[1:] == [failed]


def test_the_phases_add_up() -> None:
    """Every step of a recovery is charged to a phase, and no time to two."""
    times = PhaseTimes(10.0)
    assert times.charge("claim", 12.0) == 2.0
    assert times.charge("fence", 15.0) == 3.0
    assert times.charge("claim", 16.0) == 1.0
    assert times.seconds["claim"] == 3.0
    assert sum(times.seconds.values()) == 6.0
    assert PHASES.keys() | {GroupState.LIVE} == set(GroupState)

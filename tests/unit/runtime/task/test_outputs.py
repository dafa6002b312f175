"""Outputs of a task, each kind by itself: what is produced of a batch, and what follows."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kstash.core.frames import decode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.kinds import OutputKind
from kstash.core.outputs import Outgoing
from kstash.core.partitioner import Partitioner
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER, decode_identity
from kstash.failpoints import EXIT_FAILED, arm
from kstash.operators.batch import Batch
from kstash.ports.kafka import Headers
from kstash.runtime.load import Load
from kstash.runtime.task.frame_outputs import FRAME_RECORDS_MAX, FrameOutput
from kstash.runtime.task.outputs import OutputParts, Signature
from kstash.runtime.task.sent import Sent
from kstash.runtime.task.sink_outputs import (
    DirectRoute,
    HandOver,
    ImmediateOutput,
    TransactionalOutput,
)
from kstash.serdes import text
from kstash.topology.model import StageOutput
from tests.unit.core_cases import OUT, run_batch, task_core
from tests.unit.recording_producer import RecordingProducer

SIGNATURE = Signature(1, TaskId(2, 0), Incarnation(3, 4))


def parts(kind: OutputKind) -> OutputParts:
    """What every output is made of: a topic of one partition, a task that made two events."""
    core = task_core(
        sinks=frozenset({0} if kind is OutputKind.IMMEDIATE else ()),
        transactional=frozenset({0} if kind is OutputKind.TRANSACTIONAL else ()),
    )
    run_batch(core, 2)
    return OutputParts(
        declared=StageOutput("out", kind, text, text),
        partitioner=Partitioner(1),
        signature=SIGNATURE,
        core=core,
        sent=Sent(Load()),
    )


def sent(output: Any, batch: Batch, chunk: bytes | None = None) -> None:
    """Send a batch that the first two events made."""
    output._core.emit(OUT, len(batch), batch)
    output.send(Outgoing(OUT, 2, 1, len(batch), chunk, batch))


def batch_of(count: int, headers: list[Headers | None] | None = None) -> Batch:
    """Records with numbers for keys."""
    keys = [b"%d" % number for number in range(count)]
    return Batch(keys, [b"v"] * count, list(range(10, 10 + count)), headers)


def test_frames_carry_an_identity_each_and_the_chunk_once() -> None:
    """Sequences go on from frame to frame; the last one calls back."""
    calls = RecordingProducer()
    output = FrameOutput(parts(OutputKind.FRAMES), producer=calls, frame_bytes_max=1 << 20)
    sent(output, batch_of(FRAME_RECORDS_MAX + 1), b"chunk")
    first, second = calls.records
    (name, identity), lineage = first[6]
    assert (name, lineage) == (IDENTITY_HEADER, (LINEAGE_HEADER, b"chunk"))
    assert decode_identity(identity) == SIGNATURE.identity(2, FRAME_RECORDS_MAX, 1)
    ((_, identity),) = second[6]
    assert decode_identity(identity) == SIGNATURE.identity(2, 1, FRAME_RECORDS_MAX + 1)
    assert decode_frame(second[1], 1).keys == [b"%d" % FRAME_RECORDS_MAX]
    assert first[4] is None
    assert second[4] is not None
    headers = [value for record in calls.records for _, value in record[6]]
    assert output.header_bytes == sum(map(len, headers))


def test_immediate_records_carry_an_identity_each_and_the_chunk_once() -> None:
    """The user's headers come first."""
    calls = RecordingProducer()
    output = ImmediateOutput(parts(OutputKind.IMMEDIATE), route=DirectRoute(calls))
    sent(output, batch_of(2, [[("trace", b"1")], None]), b"chunk")
    first, second = calls.records
    assert [name for name, _ in first[6]] == ["trace", IDENTITY_HEADER, LINEAGE_HEADER]
    assert decode_identity(second[6][0][1]) == SIGNATURE.identity(2, 1, 2)
    assert first[:4] == ("out", b"v", b"0", 0)
    assert first[4] is None
    assert second[4] is not None


@pytest.mark.parametrize("count", [1, 3])
def test_the_chunk_is_with_the_first_of_immediate_records(count: int) -> None:
    """Without headers of the user too; the last one calls back, be it the first."""
    calls = RecordingProducer()
    output = ImmediateOutput(parts(OutputKind.IMMEDIATE), route=DirectRoute(calls))
    sent(output, batch_of(count), b"chunk")
    assert [decode_identity(record[6][0][1]) for record in calls.records] == [
        SIGNATURE.identity(2, 1, number) for number in range(1, count + 1)
    ]
    assert [record[6][1:] for record in calls.records] == [
        [(LINEAGE_HEADER, b"chunk")] if number == 0 else [] for number in range(count)
    ]
    assert [record[4] is not None for record in calls.records] == [False] * (count - 1) + [True]
    headers = [value for record in calls.records for _, value in record[6]]
    assert output.header_bytes == sum(map(len, headers))


def test_transactional_records_are_the_users_alone() -> None:
    """Key, value, timestamp and headers as the program made them; the last one calls back."""
    calls = RecordingProducer()
    output = TransactionalOutput(parts(OutputKind.TRANSACTIONAL), route=DirectRoute(calls))
    headers: list[Headers | None] = [[("trace", b"1")], None]
    sent(output, Batch([b"k", None], [b"v", None], [5, 6], headers))
    first, second = calls.records
    assert first == ("out", b"v", b"k", 0, None, 5, [("trace", b"1")])
    assert (second[:4], second[5:]) == (("out", None, None, 0), (6, None))
    assert second[4] is not None
    assert output.header_bytes == 0


def make(kind: OutputKind, calls: RecordingProducer) -> Any:
    """An output of a kind."""
    if kind is OutputKind.FRAMES:
        return FrameOutput(parts(kind), producer=calls, frame_bytes_max=1 << 20)
    sink = ImmediateOutput if kind is OutputKind.IMMEDIATE else TransactionalOutput
    return sink(parts(kind), route=DirectRoute(calls))


@pytest.mark.parametrize("kind", OutputKind)
def test_an_acknowledgement_counts_for_the_task(kind: OutputKind) -> None:
    """What is acknowledged is not on its way any more; a failed record still is."""
    calls = RecordingProducer()
    output = make(kind, calls)
    sent(output, batch_of(1))
    calls.answer(-1, 17, "refused")
    assert list(output._sent.waiting(OUT))
    calls.answer(-1, 17)
    assert not list(output._sent.waiting(OUT))
    assert output._core.outputs_done_through() == (2 if kind is OutputKind.FRAMES else 1)


@pytest.mark.parametrize("kind", OutputKind)
def test_a_process_may_end_at_the_acknowledgement_of_each_kind(
    kind: OutputKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames have a fail point of their own, and so have both kinds of sinks."""
    calls = RecordingProducer()
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    arm("frame.ack.before" if kind is OutputKind.FRAMES else "sink.ack.before")
    try:
        sent(make(kind, calls), batch_of(1))
        calls.answer(-1, 17)
    finally:
        arm(None)
    assert ended == [EXIT_FAILED]


def test_a_sink_waits_for_its_route() -> None:
    """What a route keeps is not produced, and is not on its way, until it lets it pass."""
    kept: list[tuple[Outgoing, HandOver]] = []

    class Closed:
        def send(self, outgoing: Outgoing, hand_over: HandOver) -> None:
            kept.append((outgoing, hand_over))

    calls = RecordingProducer()
    output = ImmediateOutput(parts(OutputKind.IMMEDIATE), route=Closed())
    sent(output, batch_of(1))
    assert not calls.records
    assert not list(output._sent.waiting(OUT))
    ((outgoing, hand_over),) = kept
    hand_over(outgoing, calls.produce)
    assert len(calls.records) == 1
    assert list(output._sent.waiting(OUT)) == [outgoing]

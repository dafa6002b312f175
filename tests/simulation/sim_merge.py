"""How a simulated task merges its inputs: the real `MergeOrder` over what its logs hold."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from kstash.core.determinants import Attachment, Determinant, InputPlace, MergedBatch, MergedInput
from kstash.core.merge import MergeOrder
from kstash.core.reader import ReaderState
from kstash.core.wire import End, Fence
from tests.simulation.programs import Emission, Value, time_of
from tests.simulation.truth import ViolationError

if TYPE_CHECKING:
    from tests.simulation.sim_task import SimTask


class LogicalRecord(NamedTuple):
    """One that the reader rule lets pass.

    Attributes:
        offset: of its Kafka record.
        within: its index in that.
        value: its key and value.
        is_last: whether it is the last of these.
        before: the reader's state before the Kafka record; None on a plain input.
        after: the table after it.
    """

    offset: int
    within: int
    value: Value
    is_last: bool
    before: ReaderState | None
    after: ReaderState | None


Waiting = dict[int, list[LogicalRecord]]


def _peek(task: SimTask, source: int, most: int) -> list[LogicalRecord]:
    """Logical records of an input from its place on, `most` at most; nothing is taken."""
    log = task.world.cluster.log(task.stage.inputs[source], task.id.partition)
    place, table = task.places[source], task.tables[source]
    after = None if table is None else table.copy()
    found: list[LogicalRecord] = []
    at = place.offset
    while len(found) < most:
        records, at = log.fetch(at, 1, committed=True)
        if not records:
            break
        record = records[0]
        before, cut = after, 0
        values: tuple[Value, ...] = (record.value,)
        if after is not None:
            after = after.copy()
            if isinstance(record.headers, Fence | End):
                after.mark(record.headers)
                continue
            cut = after.accept(record.headers[0])
            values = record.value[cut:]
        first = max(0, place.taken - cut) if record.offset == place.offset else 0
        found += [
            LogicalRecord(record.offset, cut + i, values[i], i + 1 == len(values), before, after)
            for i in range(first, len(values))
        ]
    return found[:most]


def _pass_void(task: SimTask, source: int) -> None:
    """Nothing of an input is left but markers and what the reader rule drops: pass it."""
    found = task.next_event(source)
    assert found is None, "a record that was not peeked at"
    place = task.places[source]
    task.places[source] = InputPlace(task.offsets[source], 0, place.timestamp_ms)


def _order_of(task: SimTask, waiting: Waiting) -> MergeOrder:
    times = {source: [time_of(r.value) for r in found] for source, found in waiting.items()}
    return MergeOrder(times, {i: place.timestamp_ms for i, place in task.places.items()})


def _move_places(task: SimTask, order: MergeOrder, waiting: Waiting) -> list[MergedInput]:
    """Move the inputs to after what a batch took; returns its parts."""
    parts = []
    for source, count in order.counts.items():
        if not count:
            continue
        last = waiting[source][count - 1]
        offset, taken = (last.offset + 1, 0) if last.is_last else (last.offset, last.within + 1)
        place = InputPlace(offset, taken, order.times[source])
        task.places[source] = place
        task.offsets[source] = offset
        table = last.after if last.is_last else last.before
        task.tables[source] = None if table is None else table.copy()
        parts.append(MergedInput(source, count, place))
    return parts


def merge_live(
    task: SimTask, rng: Random, position: int, most: int, emissions: list[Emission]
) -> list[Determinant] | None:
    """Merge a snapshot of what is there; returns the entry, and the attachments after it.

    It may end before the snapshot is used up, at `most` events.
    """
    parts: dict[int, MergedInput] = {}
    notes: list[Attachment] = []
    at = position
    for _ in range(2 if task.world.mutations.merge_grows else 1):
        waiting = {
            source: _peek(task, source, 1 + int(rng.random() * 4))
            for source in task.places
            if rng.random() < 0.8 or task.world.is_settling
        }
        for source, found in waiting.items():
            if not found and task.has_input(source):
                _pass_void(task, source)
        order = _order_of(task, waiting)
        while at - position < most and (taken := order.take(1)):
            (source,) = taken
            record = waiting[source][order.counts[source] - 1]
            notes += task.run_values(
                at, source, record.offset, record.within, (record.value,), emissions, []
            )
            at += 1
        for part in _move_places(task, order, waiting):
            before = parts.get(part.input)
            count = part.count + (before.count if before is not None else 0)
            parts[part.input] = MergedInput(part.input, count, part.place)
    if not parts:
        return None
    return [MergedBatch(position, tuple(parts[i] for i in sorted(parts))), *notes]


def merge_again(task: SimTask, batch: MergedBatch, emissions: list[Emission]) -> int:
    """Run a merged batch again, with pauses; returns the position after it."""
    waiting = {part.input: _peek(task, part.input, part.count) for part in batch.parts}
    if any(len(waiting[part.input]) < part.count for part in batch.parts):
        raise ViolationError("I1", f"{task.id} {task.incarnation}: inputs of {batch} are missing")
    at, slices = batch.position, [waiting]
    if task.world.mutations.merges_anew:
        half = {i: found[: (len(found) + 1) // 2] for i, found in waiting.items()}
        slices = [half, {i: found[len(half[i]) :] for i, found in waiting.items()}]
    moved: dict[int, MergedInput] = {}
    for part_of in slices:
        order = _order_of(task, part_of)
        counts = dict.fromkeys(part_of, 0)
        while taken := order.take(2):
            for source in taken:
                record = part_of[source][counts[source]]
                counts[source] += 1
                task.replay_values(
                    at, source, record.offset, record.within, (record.value,), emissions
                )
                at += 1
        for part in _move_places(task, order, part_of):
            before = moved.get(part.input)
            count = part.count + (before.count if before is not None else 0)
            moved[part.input] = MergedInput(part.input, count, part.place)
    task.replay.verify_merged(batch, tuple(moved.values()))
    return at

"""Reads one group's lineage partition back, and gives up there what no recovery needs any more.

Invariants:

- nothing is given up before the own remote checkpoint that allows it was read back from the lineage
  topic with no higher CLAIM before it (H7); the rules are those of `core.trim`;
- what of the own lineage is confirmed goes by the same reading (`core.confirmed`): own segments
  are known by their keys, and only what others wrote is decoded;
- memory is bounded however long no remote checkpoint comes: of a segment only its number and end
  are kept, neighbours are merged when there are many, and old local checkpoints are forgotten. The
  next recovery reads the topic whole and finds again what was forgotten here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from kstash.core.confirmed import Confirmed
from kstash.core.group import GroupCore
from kstash.core.ids import TaskId
from kstash.core.plan import TaskPlan
from kstash.core.record_keys import CHECKPOINT, encode_key, key_incarnation
from kstash.core.records import Checkpoint, Gone, LineageRecord, Segment
from kstash.core.trim import may_trim_now, retained_remote, said_again, tombstones
from kstash.ports.kafka import Message
from kstash.ports.process import Metrics
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.lineage_reader import lineage_record
from kstash.runtime.task.task import Task

Record = TypeVar("Record", bound=LineageRecord | Gone)

RUNS_MAX = 10_000
"""Runs of segments kept per task; above it neighbours are merged, so that they go together."""

LOCAL_MAX = 1_000
"""Local checkpoints remembered per task: hours of them, should no remote one succeed."""

TOMBSTONES_PER_TURN = 100
"""So that a burst of them does not delay the lineage after them."""


class Trimmer:
    """Follows one group's lineage partition and tombstones what is covered.

    Attributes:
        confirmed: what was read back of the own lineage before any higher CLAIM.

    Args:
        metrics: what is counted.
        lineage: writes to the partition.
        core: of the group's recovery; its view of the partition, up to the own SEAL, is taken over.
        tasks: of the group by stage, filled later.
        plans: where they begin.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        lineage: LineageWriter,
        core: GroupCore,
        tasks: Mapping[int, Task],
        plans: Mapping[TaskId, TaskPlan],
    ) -> None:
        self._metrics = metrics
        self._lineage = lineage
        self._view = core.view
        self._own = core.incarnation
        self._tasks = tasks
        # First number of a run of segments by its last segment's key; single ones are not here.
        self._firsts: dict[bytes, int] = {}
        # Own segments that were handed over and not read back yet, by key.
        self._unread: dict[bytes, Segment] = {}
        self._runs_max: dict[TaskId, int] = {}
        self._given_up: deque[Iterator[bytes]] = deque()
        # The remote checkpoint of each task that was last read back, or that it began from.
        bases = {task: plan.base for task, plan in plans.items()}
        self._newest = {t: base for t, base in bases.items() if base is not None and base.is_remote}
        self.confirmed = Confirmed(
            core.incarnation, {task: plan.stable for task, plan in plans.items()}
        )
        for segments in core.view.segments.values():
            segments[:] = [replace(segment, entries=()) for segment in segments]
        for found in core.view.checkpoints.values():
            found[:] = [(offset, slim(checkpoint)) for offset, checkpoint in found]

    def add_segment(self, segment: Segment) -> None:
        """A segment was handed over to the lineage topic."""
        kept = self._view.segments.setdefault(segment.task, [])
        slimmed = replace(segment, entries=())
        last = kept[-1] if kept else None
        if last is not None and last.incarnation == segment.incarnation:
            assert last.end <= segment.start, "segments of one incarnation overlap"
        kept.append(slimmed)
        self._unread[encode_key(slimmed)] = slimmed
        if len(kept) > self._runs_max.get(segment.task, RUNS_MAX):
            self._merge(segment.task)

    def see(self, message: Message) -> Checkpoint | None:
        """Take a record from the tail of the partition into account.

        Returns:
            An own checkpoint that counts: no higher CLAIM lies before it. Else None.

        Raises:
            WireCorruptError: naming topic, partition and offset.
        """
        view, key = self._view, message.key()
        if key is None or message.offset() < view.next_offset:
            return None
        own = self._unread.pop(key, None)
        if own is not None and message.value() is not None:
            # The writer knows what is in it: most of what is read back is never decoded.
            self.confirmed.fold_own(message.offset(), own.task, own.end)
            return None
        record = lineage_record(message)
        if record is None:
            return None
        self.confirmed.fold(message.offset(), record)
        incarnation, kind = key_incarnation(key)
        if incarnation == self._own and kind != CHECKPOINT:
            return None  # segments are known; nothing else of one's own is given up
        slimmed = slim(record)
        view.fold(message.offset(), slimmed)
        if not isinstance(record, Checkpoint) or not isinstance(slimmed, Checkpoint):
            return None
        self._forget_local(record.task)
        if incarnation != self._own or not may_trim_now(view, slimmed):
            return None
        if record.is_remote:
            self._newest[record.task] = record
            self._give_up()
        return record

    def tick(self) -> None:
        """Send some of the tombstones."""
        sent = 0
        while self._given_up and sent < TOMBSTONES_PER_TURN:
            keys = list(islice(self._given_up[0], TOMBSTONES_PER_TURN - sent))
            for key in keys:
                self._lineage.tombstone(key)
            sent += len(keys)
            if not keys:
                self._given_up.popleft()
        if sent:
            self._metrics.count("tombstones", sent)

    @property
    def is_busy(self) -> bool:
        """Whether tombstones are left for the next tick."""
        return bool(self._given_up)

    def oldest_offset(self, task: TaskId, input_index: int) -> int | None:
        """Next offset of an input in the oldest checkpoint that a recovery may fall back to.

        None: there is no checkpoint yet.
        """
        base = retained_remote(self._view, task)
        if base is None:
            # Local ones count too while there are not two remote ones; two are kept on the disk.
            found = {c.position: c for _, c in self._view.checkpoints.get(task, ())}
            if not found:
                return None
            base = found[sorted(found)[-2:][0]]
        return base.input_offsets.get(input_index)

    # -- what is given up ------------------------------------------------------------------------

    def _give_up(self) -> None:
        view = self._view
        gone = tombstones(view, [task.core.task for task in self._tasks.values()])
        if not gone:
            return
        self._given_up.append(iter(gone))
        keys = set(gone)
        for segments in view.segments.values():
            for segment in segments:
                if (key := encode_key(segment)) in keys and key in self._firsts:
                    self._given_up.append(_earlier(segment, self._firsts.pop(key)))
            segments[:] = [s for s in segments if encode_key(s) not in keys]
        for found in view.checkpoints.values():
            found[:] = [item for item in found if encode_key(item[1]) not in keys]
        for incarnation, start in list(view.starts.items()):
            if encode_key(start) in keys:
                del view.starts[incarnation]
        for key in keys:
            view.forget(key)
        self._runs_max.clear()

    def _merge(self, task: TaskId) -> None:
        """Merge neighbouring runs of one incarnation in pairs: they are given up together."""
        merged: list[Segment] = []
        is_pair = False
        for segment in self._view.segments[task]:
            first = self._firsts.get(encode_key(segment), segment.number)
            last = merged[-1] if merged else None
            is_pair = (
                not is_pair
                and last is not None
                and last.incarnation == segment.incarnation
                and last.number + 1 == first
                and last.end <= segment.end
            )
            if is_pair and last is not None:
                merged.pop()
                earliest = self._firsts.pop(encode_key(last), last.number)
                self._firsts[encode_key(segment)] = earliest
            merged.append(segment)
        self._view.segments[task] = merged
        # What could not be merged (many incarnations) must not be tried again at each segment.
        is_merged = len(merged) <= RUNS_MAX * 3 // 4
        self._runs_max[task] = RUNS_MAX if is_merged else 2 * len(merged)

    def _forget_local(self, task: TaskId) -> None:
        found = self._view.checkpoints.get(task, [])
        if len(found) > LOCAL_MAX:
            local = [item for item in found if not item[1].is_remote]
            gone = {offset for offset, _ in local[: len(local) // 2]}
            found[:] = [item for item in found if item[0] not in gone]

    # -- idle tasks ------------------------------------------------------------------------------

    def say_again(self, task: Task) -> bool:
        """Say the newest remote checkpoint of an idle task again, for the purge (H40).

        Returns:
            Whether its scan starts are said now, or were already.
        """
        newest = self._newest.get(task.core.task)
        if newest is None or task.checkpoints.is_busy:
            return False
        # What a reader knows is of the offset at which the checkpoint was taken.
        offsets = {i: s.next_offset for i, s in task.inputs.items() if s.reader is None}
        record = said_again(newest, task.core, task.checkpoints.number + 1, offsets)
        if record is None:
            return newest.scan_from == task.core.scan_from()
        task.checkpoints.number += 1
        del self._newest[task.core.task]  # until it is read back
        self._lineage.append(record, _nothing)
        return True


def slim(record: Record) -> Record:
    """A record without what only its owner's recovery needs."""
    if isinstance(record, Segment):
        return replace(record, entries=())
    if isinstance(record, Checkpoint):
        return replace(record, files=(), sequences={}, readers={})
    return record


def _earlier(segment: Segment, first: int) -> Iterator[bytes]:
    """Keys of the segments of a run but the last, from number `first` on."""
    return (encode_key(replace(segment, number=n)) for n in range(first, segment.number))


def _nothing() -> None:
    """Its acknowledgement changes nothing: it counts once it is read back."""

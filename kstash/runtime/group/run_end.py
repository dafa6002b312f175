"""The end of a bounded run in one group, and which records still belong to it.

A task that has read all sends first what waits in it: results of windows that wait for their
interval, and, where the run closes windows, what is final of those. That is an event of its own, a
flush, which is logged as others are. Then it says END.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from kstash.core.ids import Incarnation
from kstash.core.kinds import InputKind
from kstash.core.live import may_flush_at_end, may_say_end
from kstash.core.wire import MARKER_HEADER, End, encode_marker
from kstash.failpoints import around
from kstash.ports.kafka import DeliveredMessage, Message, Partition
from kstash.ports.process import Clock
from kstash.runtime.context import Clients
from kstash.runtime.group.batches import Batches
from kstash.runtime.layout import Layout
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.positions import client_position
from kstash.runtime.task.task import Task


class RunEnd:
    """The end of a bounded run in one group: END after the outputs of each task at its end.

    Args:
        layout: where tasks are.
        clients: of the worker.
        clock: time.
        application: tag of the application id.
        run: id of the run.
        ends: where it ends in the inputs; in those that are left out at once.
        writer: what outputs are signed with.
        tasks: of the group, by stage index.
        batches: of the group.
    """

    def __init__(
        self,
        layout: Layout,
        clients: Clients,
        clock: Clock,
        *,
        application: int,
        run: int,
        ends: Mapping[Partition, int],
        writer: Incarnation,
        tasks: Mapping[int, Task],
        batches: Batches,
    ) -> None:
        self._layout = layout
        self._clients = clients
        self._clock = clock
        self._application = application
        self._run = run
        self._ends = ends
        self._writer = writer
        self._tasks = tasks
        self._batches = batches
        # By stage, what its task flushes before END, in this order.
        self._flushes: dict[int, list[int]] = {}
        for stage, task in tasks.items():
            flushes = task.program.flushes
            self._flushes[stage] = flushes.at_end(closes_windows=layout.closes_windows)
            task.flush_at_end = partial(self._due_flush, task)
        self._at_end: set[int] = set()
        self._unacked = 0

    @property
    def is_ended(self) -> bool:
        """Whether every task is at its end and its ENDs are acknowledged."""
        return len(self._at_end) == len(self._tasks) and not self._unacked

    def tick(self) -> None:
        """Have each task that has reached its end flush what waits, and then append END.

        That is done once an incarnation.
        """
        for stage, task in self._tasks.items():
            if stage in self._at_end or not self._has_read_all(task):
                continue
            is_durable = task.core.may_publish_checkpoint(task.core.position)
            waits = self._next_flush(task) is not None
            if waits:
                self._batches.wake(task)
            if may_say_end(has_read_all=True, waits=waits, is_durable=is_durable):
                self._at_end.add(stage)
                self._append_ends(task)

    def _due_flush(self, task: Task) -> int | None:
        """The number of what a task is to flush now; None: nothing of it waits, or not yet."""
        stage = task.stage.index
        has_read_all, has_said_end = self._has_read_all(task), stage in self._at_end
        may_flush = may_flush_at_end(has_read_all=has_read_all, has_said_end=has_said_end)
        return self._next_flush(task) if may_flush else None

    def _next_flush(self, task: Task) -> int | None:
        """The number of what a task is to flush first; None: nothing waits in it."""
        wants = task.program.flushes.wants
        return next((n for n in self._flushes[task.stage.index] if wants(n)), None)

    def is_at_end(self, task: Task) -> bool:
        """Whether a task has read its inputs to the ends of the run, or has said END.

        Markers of others may put the ends of its inputs off after that.
        """
        return task.stage.index in self._at_end or self._has_read_all(task)

    def _has_read_all(self, task: Task) -> bool:
        sources = task.inputs.items()
        return not any(source.buffer or self.has_more(task, i) for i, source in sources)

    def has_more(self, task: Task, index: int) -> bool:
        """Whether the run has more of an input than was handed out, in its log yet or not."""
        source = task.inputs[index]
        if source.kind is InputKind.FRAMES:
            ends = source.reader.ends if source.reader is not None else {}
            writers = self._layout.writers_of(source.partition[0])
            return any(ends.get((self._application, writer)) != self._run for writer in writers)
        # Not the task's position: a drain is at its end wherever that is.
        reached = client_position(self._clients.consumer, task, index)
        return reached < self._ends.get(source.partition, 0)

    def _append_ends(self, task: Task) -> None:
        sequences = task.core.sequences()
        for out in self._layout.output_partitions(task.stage, internal=True):
            marker = End(
                application=self._application,
                run=self._run,
                task=task.core.task,
                incarnation=self._writer,
                last_seq=sequences.get(out, 0),
                position=task.core.position,
            )
            topic, partition = self._layout.kafka_partition(task.stage, out)
            self._unacked += 1
            with around("end.append"):
                self._clients.producers.data.produce(
                    topic=topic,
                    value=None,
                    key=None,
                    partition=partition,
                    on_delivery=self._acked,
                    timestamp_ms=self._clock.time_ms(),
                    headers=[(MARKER_HEADER, encode_marker(marker))],
                )

    def _acked(self, error: Any, _: DeliveredMessage) -> None:
        # A failure makes the producer fail as a whole, which its `poll` reports.
        if error is None:
            with around("end.ack"):
                self._unacked -= 1


def before_end(
    ends: Mapping[Partition, int], source: TaskInput, messages: Sequence[Message]
) -> Sequence[Message]:
    """Of consumed records those that belong to the run: the rest is for the next one."""
    end = ends.get(source.partition)
    if end is None or not messages or messages[-1].offset() < end:
        return messages
    mine = [message for message in messages if message.offset() < end]
    if source.left_from is None:
        source.left_from = messages[len(mine)].offset()
    return mine


def keep_before_end(ends: Mapping[Partition, int], task: Task) -> None:
    """Have a task forget what waits and is for the next run."""
    for source in task.inputs.values():
        source.buffer.keep(len(before_end(ends, source, list(source.buffer))))

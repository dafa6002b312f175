"""What the tasks of one group read: how far, and what is paused meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kstash.ports.kafka import Consumer, Message, Partition
from kstash.runtime.gate import Gate
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.positions import note_positions
from kstash.runtime.task.task import Task


class GroupInputs:
    """The input partitions of a group's tasks.

    Args:
        consumer: reads them.
        gate: pauses them.

    Attributes:
        by_partition: who reads a partition: the task, and the index of that input.
    """

    def __init__(self, consumer: Consumer, gate: Gate) -> None:
        self.by_partition: dict[Partition, tuple[Task, int]] = {}
        self._consumer = consumer
        self._gate = gate
        self._is_consuming = False
        self._lineage: Partition | None = None

    @property
    def partitions(self) -> list[Partition]:
        """All of them, consumed or not."""
        return list(self.by_partition)

    def add(self, task: Task) -> None:
        """Take the inputs of a task that was opened."""
        for index, source in task.inputs.items():
            self.by_partition[source.partition] = (task, index)

    def follow(self, lineage: Partition, offset: int) -> None:
        """Read the group's own lineage from an offset on, until `close`."""
        self._lineage = lineage
        self._consumer.add({lineage: offset})

    def begin(self) -> None:
        """Consume all of them, from where the tasks go on."""
        sources = list(self._sources())
        if sources:
            self._consumer.pass_over({source.partition: source.skips.gaps for source in sources})
            self._consumer.add({source.partition: source.next_offset for source in sources})
        self._is_consuming = True

    def end(self) -> None:
        """Consume them no more; what comes now is for the next owner."""
        self._is_consuming = False
        self._gate.forget(self.partitions)
        self._consumer.remove(self.partitions)

    def close(self) -> None:
        """Read nothing more, lineage included."""
        self.end()
        if self._lineage is not None:
            self._consumer.remove([self._lineage])

    def take(self, task: Task, input_index: int, messages: Sequence[Message]) -> None:
        """Give a task consumed records, which it keeps until their turn."""
        task.offer(input_index, messages)
        self.balance(task)

    def balance(self, task: Task) -> None:
        """Pause inputs of which too much waits, and resume them when it is done."""
        if not self._is_consuming:
            return
        for source in task.inputs.values():
            if source.is_full and source.buffer.is_little:
                source.is_full = False
                self._gate.resume([source.partition], "buffer")
            elif not source.is_full and source.buffer.is_much:
                source.is_full = True
                self._gate.pause([source.partition], "buffer")

    def note_positions(self, tasks: Mapping[int, Task]) -> None:
        """Have the tasks of a live group know how far their inputs were read."""
        if self._is_consuming:
            for task in tasks.values():
                if not task.is_under_way:  # else what it has taken counts as done
                    note_positions(self._consumer, task)

    def _sources(self) -> Iterator[TaskInput]:
        for task, index in self.by_partition.values():
            yield task.inputs[index]

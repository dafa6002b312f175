"""How far the tasks have come in their inputs: positions, as the clients know them.

The offset after the last record is no position: transaction markers, records of aborted
transactions and what compaction has emptied take offsets too, and hold no record that would come.
Whoever goes by the last record waits for them for ever, and begins anew at what retention deletes.
"""

from __future__ import annotations

from kstash.ports.kafka import Consumer
from kstash.runtime.task.task import Task


def client_position(consumer: Consumer, task: Task, index: int) -> int:
    """Offset from which the client reads on, or the task's own when that is higher."""
    source = task.inputs[index]
    return max(consumer.position(source.partition), source.next_offset)


def note_positions(consumer: Consumer, task: Task) -> None:
    """Move a task to where its next records may be; what was handed out is before it or waits.

    For tasks of live groups, while their inputs are read.
    """
    for index, source in task.inputs.items():
        first = source.buffer.first_offset
        if first is not None:
            at = first
        elif source.left_from is not None:
            at = source.left_from
        else:
            at = client_position(consumer, task, index)
        source.next_offset = max(source.next_offset, at)

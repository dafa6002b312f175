"""Which record a topic refuses: of all that tasks have sent and not had acknowledged.

A broker refuses a whole request and says why, but not which of its records is meant.
So among those on their way the likeliest one is named: the one whose timestamp is farthest from
now, the largest, one without a key, or the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kstash.core.outputs import Outgoing
from kstash.errors import RecordRefusedError
from kstash.escape import short_repr
from kstash.operators.batch import Batch
from kstash.runtime.task.task import Task

_FIXES: Mapping[str | None, str] = {
    "timestamp": "let the topic take such timestamps (message.timestamp.before.max.ms and "
    "message.timestamp.after.max.ms), or give the record another one",
    "size": "raise the topic's max.message.bytes, or make smaller records (if each one fits, a new "
    "start sends them in smaller requests)",
    "record": "a compacted topic takes no record without a key: give it one, or undo the topic's "
    "cleanup.policy=compact",
    None: "let the topic take it, or make another record",
}


def explain_refusal(error: RecordRefusedError, tasks: Iterable[Task], now_ms: int) -> None:
    """Say in an error which record is meant, and what to do.

    Args:
        error: as the producer raised it.
        tasks: those that may have sent the record.
        now_ms: Unix time in milliseconds.
    """
    found: tuple[float, Task, Outgoing, int] | None = None
    for task in tasks:
        for index, output in enumerate(task.outputs):
            if output.topic != error.topic:
                continue
            for outgoing in task.sent.waiting((index, error.partition or 0)):
                weight, record = _likeliest(outgoing.payload, error.suspect, now_ms)
                if found is None or weight > found[0]:
                    found = weight, task, outgoing, record
    if found is not None:
        _, task, outgoing, record = found
        batch: Batch = outgoing.payload
        key = short_repr(batch.keys[record])
        error.detail += (
            f"; most likely it is sequence {outgoing.first_seq + record} of task {task.name}: key "
            f"{key}, timestamp {batch.timestamps[record]}, {task.sent.origin(outgoing.position)}"
        )
    error.detail += f"; to fix it: {_FIXES[error.suspect]}"


def _likeliest(batch: Batch, suspect: str | None, now_ms: int) -> tuple[float, int]:
    """How odd a batch's oddest record is, and its index."""
    weights: list[float]
    if suspect == "timestamp":
        weights = [abs(timestamp - now_ms) for timestamp in batch.timestamps]
    elif suspect == "size":
        pairs = zip(batch.keys, batch.values, strict=True)
        weights = [len(key or b"") + len(value or b"") for key, value in pairs]
    elif suspect == "record":
        weights = [key is None for key in batch.keys]
    else:
        weights = [0.0] * len(batch)
    weight = max(weights)
    return weight, weights.index(weight)

"""What flows between operators: many records as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kstash.ports.kafka import Headers


@dataclass(slots=True)
class Batch:
    """Records as equal-long columns, in the order of the input.

    An operator makes new columns and never changes those it was given: they may be shared by
    several branches of a stage. No result may depend on where a batch ends.

    Attributes:
        keys: encoded, live or None.
        values: encoded, live or None.
        timestamps: Unix milliseconds.
        headers: user headers of each record, or None when no record of the batch has any.
        times: what each record says of event time, in Unix milliseconds; None: nothing (watermark
            mode, at the edges between stages).
        is_control: whether the records say that and nothing else.
    """

    keys: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    headers: list[Headers | None] | None = None
    times: list[int] | None = None
    is_control: bool = False

    def __len__(self) -> int:
        return len(self.keys)


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of all records, in order; a single batch is returned as it is.

    Args:
        batches: one or more.
    """
    if len(batches) == 1:
        return batches[0]
    joined = Batch()
    if any(batch.headers is not None for batch in batches):
        joined.headers = []
        for batch in batches:
            joined.headers.extend(batch.headers or [None] * len(batch))
    if all(batch.times is not None for batch in batches):
        joined.times = [time for batch in batches for time in batch.times or ()]
    for batch in batches:
        joined.keys.extend(batch.keys)
        joined.values.extend(batch.values)
        joined.timestamps.extend(batch.timestamps)
    return joined

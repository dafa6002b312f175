"""Where records enter a stage: those of their bytes that are read become values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from kstash.operators.batch import Batch
from kstash.operators.calls import decode_keys, kept, refuse
from kstash.operators.columns import deserialize_column
from kstash.operators.event_time import refuse_missing
from kstash.operators.flow import ENTERED, Flow, Trail
from kstash.operators.step import Scope
from kstash.topology.model import StageInput
from kstash.topology.traits import ColumnSet


class Entry:
    """One input of a stage.

    Args:
        source: the topic and its serdes.
        read: columns that are read.

    Attributes:
        title: what errors call it.
        label: what metrics call it.
        ports: none: what is read is handed on by itself.
    """

    def __init__(self, source: StageInput, read: ColumnSet) -> None:
        self.title = self.label = f"input {source.topic}"
        self.ports: Mapping[str, int] = {}
        self.source = source
        # Flags are asked once: they take longer than all else that a batch of one record does.
        self.has_keys = ColumnSet.KEY in read
        self.has_values = ColumnSet.VALUE in read
        self.has_times = ColumnSet.TIME in read
        self.has_headers = ColumnSet.HEADERS in read
        # What others wrote may not be in canonical form (json with blanks): its live keys count,
        # and state finds them under our own encoding.
        self.is_canonical = source.internal or source.key.passes_bytes

    def decode(self, batch: Batch, scope: Scope, trail: Trail = ENTERED) -> Flow | None:
        """The batch as a flow; None where no record is left.

        Args:
            batch: one record or more.
            scope: decides about records that fail.
            trail: which records of the stage's batch they are.

        Raises:
            SerdeError, TimestampError: a record failed, and is not skipped.
        """
        flow = Flow(
            count=len(batch),
            keys=None,
            encoded=batch.keys if self.has_keys else None,
            key_serde=self.source.key,
            values=None,
            timestamps=batch.timestamps if self.has_times else None,
            headers=batch.headers if self.has_headers else None,
            trail=trail,
            event_times=None if batch.times is None else scope.task_times(batch.times),
        )
        left: Flow | None = flow
        values = batch.values
        if self.source.needs_times:
            left, values = kept(flow, (values, refuse_missing(flow, self.title, scope)))
        if left is not None and self.has_values:
            assert self.source.value is not None
            column = deserialize_column(
                self.source.value,
                values,
                operator=self.title,
                field="value",
                refuse=partial(refuse, scope, left),
            )
            left, values = kept(left, column)
            if left is not None:
                left.values = values
        if left is not None and self.has_keys and not self.is_canonical:
            left = decode_keys(left, self.title, scope)
            if left is not None:
                left.encoded = None
        return left

"""Where records leave a stage: as bytes, and only what the topic takes."""

from __future__ import annotations

from functools import partial

from kstash.errors import NullKeyError, RecordTooLargeError
from kstash.operators.batch import Batch
from kstash.operators.calls import encode_keys, kept, refuse
from kstash.operators.columns import serialize_column
from kstash.operators.flow import Flow
from kstash.operators.sizes import Limit, bytes_of
from kstash.operators.step import Scope
from kstash.topology.model import StageOutput


class Exit:
    """One output of a stage.

    Attributes:
        label: of the node that the records come from, for errors.
        output: the topic and its serdes.
        limit: what the topic takes.
        says_times: whether what leaves carries how far event time has come.
        pending: what was made and not taken yet.
        pending_bytes: its size, as of `bytes_of`.
    """

    def __init__(
        self, label: str, output: StageOutput, limit: Limit, *, says_times: bool = False
    ) -> None:
        self.label = label
        self.says_times = says_times
        self.output = output
        self.limit = limit
        self.pending: list[Batch] = []
        self.pending_bytes = 0

    def add(self, flow: Flow, scope: Scope, *, is_new: bool) -> None:
        """Add records to the output.

        Args:
            flow: the records.
            scope: decides about those that cannot leave.
            is_new: whether they were never processed before; the size of others is not asked for,
                as they may be out already.

        Raises:
            SerdeError: a key or value cannot be encoded.
            RecordTooLargeError, NullKeyError: the topic would not take it.
        """
        left: Flow | None = flow
        values: list[bytes | None] = [None] * flow.count
        if self.output.value is not None:
            column = serialize_column(
                self.output.value,
                flow.live_values,
                operator=self.label,
                field="value",
                refuse=partial(refuse, scope, flow),
            )
            left, values = kept(flow, column)
        while left is not None:
            # The values stand beside the keys when one of these fails.
            whole = left.with_values(values)
            left, keys = encode_keys(whole, self.output.key, self.label, scope)
            if left is None:
                return
            if left.count == flow.count:
                flow.keys, flow.encoded = left.keys, left.encoded  # for others that read the flow
            values = left.live_values
            batch = Batch(keys, values, left.live_timestamps, left.headers)
            if self.says_times:
                batch.times = left.times
            size_bytes = bytes_of(batch)
            try:
                if is_new:
                    self.limit.check_sizes(batch, size_bytes)
                self.limit.check_keys(batch)
            except (RecordTooLargeError, NullKeyError) as error:
                index = error.record_index
                refuse(scope, left, error)
                left, values = kept(left, (values, [index]))
                continue
            self.pending.append(batch)
            self.pending_bytes += size_bytes
            return

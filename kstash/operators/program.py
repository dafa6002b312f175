"""A stage as a program: bytes in, bytes out, for one task.

A batch runs through the whole stage step by step in the order of declaration, so each step sees a
whole column at once. Where two branches of one input meet again, their records are put back into
the order of the input: the result is that of batches of one record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kstash.core.partitioner import Partitioner
from kstash.errors import (
    MisplacedKeyError,
    NullKeyError,
    OperatorError,
    RecordTooLargeError,
    SerdeError,
)
from kstash.operators.batch import Batch, concatenate
from kstash.operators.columns import deserialize_column, serialize_column
from kstash.operators.flow import Flow, merge_flows
from kstash.operators.sizes import Limit, bytes_of
from kstash.operators.step import Step, Surroundings
from kstash.operators.steps import NO_STEP, STEPS
from kstash.ports.state import KeyValueStore
from kstash.serdes import Serde, raw
from kstash.topology.model import Stage, StageInput
from kstash.topology.nodes import Node

RECORD_ERRORS = (OperatorError, SerdeError, RecordTooLargeError, NullKeyError)
"""Errors at one record of a batch, which `record_index` names."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the records of an input are: partition `number`, and what says where keys belong."""

    number: int
    partitioner: Partitioner


def _check_place(keys: list[bytes | None], place: Location, operator: str) -> None:
    """Refuse keys that belong elsewhere (H56); null keys are the operator's business."""
    where = place.partitioner
    if set(map(where.__getitem__, keys)) == {place.number}:
        return
    for index, key in enumerate(keys):
        if key is not None and where[key] != place.number:
            raise MisplacedKeyError(
                operator, index, key=key, partition=place.number, needed=where[key]
            )


class StageProgram:
    """The operators of one task.

    Args:
        stage: what to run.
        stores: one for each of the stage's stores, by name.
        seconds: a clock that never goes back, to tell which operator takes long.
        places: by input index, of inputs of which nobody knows that they are spread as others are.
        limits: by output index, what the topics take; empty: anything.
    """

    def __init__(
        self,
        stage: Stage,
        stores: Mapping[str, KeyValueStore],
        seconds: Callable[[], float] = lambda: 0.0,
        places: Mapping[int, Location] = MappingProxyType({}),
        limits: Sequence[Limit] = (),
    ) -> None:
        self._stage = stage
        self._seconds = seconds
        self._slowest: tuple[float, Node] | None = None
        self._sinks = {
            node.index: _Emitter(node, output.key, output.value, limit)
            for node, output, limit in zip(
                stage.exits,
                stage.outputs,
                limits or [Limit(output.topic) for output in stage.outputs],
                strict=True,
            )
        }
        self._steps = self._make_steps(stores)
        self._plans = [self._reached(entry) for entry in stage.entries]
        reached = Counter(node.index for plan in self._plans for node in plan)
        self._shared = {
            node.index for node in stage.nodes if node.stores and reached[node.index] > 1
        }
        self._places = places
        self._place: Location | None = None
        self._is_new = True

    def process(self, input_index: int, batch: Batch, *, is_new: bool = True) -> None:
        """Run records through the stage; what they make waits for `take_outputs`.

        Args:
            input_index: which of the stage's inputs they are from.
            batch: encoded columns, any number of records.
            is_new: whether they were never processed before. Whether a key is where it belongs, and
                whether a topic takes what is made, is asked of new ones only: what was counted
                elsewhere, or is out, already replays as it was.

        Raises:
            MisplacedKeyError: a record of state over several topics is not where its key belongs.
            OperatorError: a user's function failed; the state may hold part of the batch, so the
                task must not go on. `record_index` is the index in `batch`.
            SerdeError: the same for a serde.
            RecordTooLargeError, NullKeyError: the same for what a topic would not take.
        """
        if not len(batch):
            return
        plan = self._plans[input_index]
        self._place = self._places.get(input_index) if is_new else None
        self._is_new = is_new
        flows: dict[int, Flow | None] = {}
        entry = self._stage.entries[input_index]
        seconds, self._slowest = self._seconds, None
        started = seconds()
        flows[entry.index] = self._decode(self._stage.inputs[input_index], entry, batch)
        for node in plan:
            flow = self._before(node, flows)
            flows[node.index] = None if flow is None else self._run(node, flow)
            ended = seconds()
            if self._slowest is None or ended - started > self._slowest[0]:
                self._slowest = ended - started, node
            started = ended

    @property
    def slowest(self) -> tuple[float, str]:
        """Seconds that the operator took which took most of the last `process`, and its name.

        Decoding counts as the first one's.
        """
        if self._slowest is None:
            return 0.0, ""
        took_s, node = self._slowest
        return took_s, node.title

    def take_outputs(self) -> list[tuple[int, Batch, int]]:
        """What was made since the last call, by output index.

        Returns:
            (Output index, encoded columns, their size as of `bytes_of`).
        """
        taken: list[tuple[int, Batch, int]] = []
        for index, sink in enumerate(self._sinks.values()):
            if sink.pending:
                taken.append((index, concatenate(sink.pending), sink.pending_bytes))
                sink.pending, sink.pending_bytes = [], 0
        return taken

    # --- building -------------------------------------------------------------------------------

    def _make_steps(self, stores: Mapping[str, KeyValueStore]) -> dict[int, Step]:
        steps: dict[int, Step] = {}
        for node in self._stage.nodes:
            if not isinstance(node, NO_STEP):
                around = Surroundings(stores, node.index in self._stage.key_readers, steps)
                steps[node.index] = STEPS[type(node)](node, around)
        return steps

    def _reached(self, entry: Node) -> tuple[Node, ...]:
        """What an input runs through, in the order of declaration."""
        reached = {entry.index}
        nodes: list[Node] = []
        for node in self._stage.nodes:
            if any(parent.index in reached for parent in node.parents):
                reached.add(node.index)
                nodes.append(node)
        return tuple(nodes)

    # --- running --------------------------------------------------------------------------------

    def _decode(self, source: StageInput, node: Node, batch: Batch) -> Flow:
        label = f"input {source.topic}"
        values: list[Any] | None = None
        if node.index in self._stage.value_readers:
            assert source.value is not None
            values = deserialize_column(source.value, batch.values, operator=label, field="value")
        flow = Flow(
            len(batch),
            None,
            None,
            source.key,
            values,
            batch.timestamps,
            batch.headers,
        )
        if node.index in self._stage.key_readers:
            flow.encoded = batch.keys
            if not source.internal and source.key is not raw:
                # What others wrote may not be in canonical form (json with blanks): its live keys
                # count, and state finds them under our own encoding.
                flow.live_keys(label)
                flow.encoded = None
        return flow

    def _before(self, node: Node, flows: dict[int, Flow | None]) -> Flow | None:
        """What a node is given: the records of its parents."""
        if len(node.parents) == 1:
            return flows[node.parents[0].index]
        parts = [flow for parent in node.parents if (flow := flows.get(parent.index)) is not None]
        if len(parts) < 2:
            return parts[0] if parts else None
        return merge_flows(
            parts,
            node.label(),
            with_keys=node.index in self._stage.key_readers,
            with_values=node.index in self._stage.value_readers,
        )

    def _run(self, node: Node, flow: Flow) -> Flow | None:
        step, sink = self._steps.get(node.index), self._sinks.get(node.index)
        made: Flow | None = flow
        try:
            if step is not None:
                if self._place is not None and node.index in self._shared:
                    serde = node.stores[0].key
                    _check_place(flow.encoded_keys(serde, step.label), self._place, step.label)
                made = step.run(flow)
            if sink is not None and made is not None:
                sink.emit(made, is_new=self._is_new)
        except RECORD_ERRORS as error:
            # A sink's records are those of its node: a step with a sink keeps all of them.
            error.record_index = flow.origin_of(error.record_index)
            raise
        return made


class _Emitter:
    """Encodes the records that leave through one output."""

    def __init__(self, node: Node, key: Serde[Any], value: Serde[Any] | None, limit: Limit) -> None:
        self.label = node.title
        self.key = key
        self.value = value
        self.limit = limit
        self.pending: list[Batch] = []
        self.pending_bytes = 0

    def emit(self, flow: Flow, *, is_new: bool) -> None:
        """Add the records to the output."""
        if self.value is None:
            values: list[Any] = [None] * flow.count
        else:
            assert flow.values is not None
            values = serialize_column(self.value, flow.values, operator=self.label, field="value")
        keys = flow.encoded_keys(self.key, self.label)
        batch = Batch(keys, values, flow.timestamps, flow.headers)
        size_bytes = bytes_of(batch)
        if is_new:
            self.limit.check_sizes(batch, size_bytes)
        self.limit.check_keys(batch)
        self.pending.append(batch)
        self.pending_bytes += size_bytes

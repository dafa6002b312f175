"""What an application compiles to: stages, their topics and stores, as inert frozen data.

Stages are the parts of the declared graph that hang together by narrow edges; they are joined by
wide edges, each of which is one internal topic. Invariants (`kstash.topology.compiler` establishes
them):

- Every topic, user or internal, is read by one stage only.
- Stages form no cycle and stand in the order of the flow of records.
- Within a stage, one topic is written by one output only, so that its order is defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from kstash.core import names
from kstash.core.guarantee import Guarantee
from kstash.core.kinds import InputKind, OutputKind
from kstash.core.manifest import Manifest, StageShape
from kstash.errors import ConfigError
from kstash.ports.state import StoreSpec
from kstash.serdes import Serde
from kstash.topology.nodes import Node
from kstash.topology.traits import ColumnSet, KeyedStore


@dataclass(frozen=True, slots=True)
class StageInput:
    """A topic that a stage reads.

    Attributes:
        topic: its name.
        kind: how its records are read.
        key: serde of the key.
        value: serde of the value; None: the column is not shipped (internal topics only).
        immediate_of: application whose immediate sink the topic is; None for the other kinds.
        needs_times: whether an operator goes by the timestamps of its records as they are, so that
            one without is an error.
        says_idle: whether its tasks say that time has come to the clock's while nothing comes of it
            (watermark mode; user topics only).
    """

    topic: str
    kind: InputKind
    key: Serde[Any]
    value: Serde[Any] | None
    immediate_of: str | None
    needs_times: bool = False
    says_idle: bool = False

    @property
    def internal(self) -> bool:
        """Whether it carries frames of this application."""
        return self.kind is InputKind.FRAMES


@dataclass(frozen=True, slots=True)
class StageOutput:
    """A topic that a stage writes.

    Attributes:
        topic: its name.
        kind: what its records carry, and when they are there for good.
        key: serde of the key.
        value: serde of the value; None: the column is not shipped (internal topics only).
    """

    topic: str
    kind: OutputKind
    key: Serde[Any]
    value: Serde[Any] | None

    @property
    def internal(self) -> bool:
        """Whether it carries frames of this application."""
        return self.kind is OutputKind.FRAMES

    @property
    def delivery(self) -> str:
        """`immediate` or `transactional`; means nothing for internal topics."""
        return "transactional" if self.kind is OutputKind.TRANSACTIONAL else "immediate"


@dataclass(frozen=True, slots=True)
class Stage:
    """The operators between wide edges; with a partition number it is a task.

    Attributes:
        index: its number, which task ids go by: 0 and up, in the order of the flow, unless the
            program was changed since (`numbered`).
        name: stable and unique; names the folder of its state.
        inputs: topics read, at least one.
        outputs: topics written; may be empty.
        stores: keyed states; may be empty.
        needs_copartitioning: whether keyed state follows several inputs, which must then
            have equal partition counts.
        entries: the node after each of `inputs`.
        exits: the node before each of `outputs`.
        nodes: what happens in between, exits included, in the order of declaration.
        read_after: by index of a node or entry, the columns that are read after it.
        merges: whether an operator with a stream time takes records of several inputs: then its
            tasks take them in the order of their times (protocol, section 3).
        held_ms: by index of a node, what is held back of event time up to there; empty without
            watermark mode.
    """

    index: int
    name: str
    inputs: tuple[StageInput, ...]
    outputs: tuple[StageOutput, ...]
    stores: tuple[StoreSpec, ...]
    needs_copartitioning: bool
    entries: tuple[Node, ...]
    exits: tuple[Node, ...]
    nodes: tuple[Node, ...]
    read_after: Mapping[int, ColumnSet] = field(hash=False)
    merges: bool = False
    held_ms: Mapping[int, int] = field(default_factory=dict, hash=False)

    @property
    def is_watermark(self) -> bool:
        """Whether time is the smallest over all that feeds a task."""
        return bool(self.held_ms)

    @property
    def keyed_stores(self) -> tuple[KeyedStore, ...]:
        """What its nodes keep, in the order of `stores`."""
        return tuple(store for node in self.nodes for store in node.stores)

    @property
    def must_log(self) -> bool:
        """Whether something else than the records decides what its tasks do (protocol, 3)."""
        is_asking = any(n.wants_ticks or n.asks or n.flushed for n in self.nodes)
        return is_asking or self.is_watermark

    @property
    def closes_at_end(self) -> bool:
        """Whether it has anything to close at the end of a run that closes windows."""
        return any(node.closes_at_end for node in self.nodes)

    @property
    def sinks(self) -> dict[Node, StageOutput]:
        """The exits that write user topics."""
        ends = zip(self.exits, self.outputs, strict=True)
        return {node: output for node, output in ends if not output.internal}

    @property
    def inner_nodes(self) -> tuple[Node, ...]:
        """All nodes but the sinks: those stand for their topics."""
        sinks = self.sinks
        return tuple(node for node in self.nodes if node not in sinks)


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole application, compiled.

    Attributes:
        application_id: prefix of all names in Kafka.
        stages: at least one.
        hash: SHA-256 in hex over everything that must not change between a crash and the replay,
            as far as it has a name: user functions are not in it, nor the stages' numbers.
    """

    application_id: str
    stages: tuple[Stage, ...]
    _: KW_ONLY
    hash: str
    # Above every number that a stage of the application ever had; 0: as many as there are now.
    _next_number: int = 0
    # (Stage number, topic) of sinks that the application wrote once.
    _retired: tuple[tuple[int, str], ...] = ()

    @property
    def checkpoints_topic(self) -> str:
        """Topic with the files of remote checkpoints, unless they go elsewhere."""
        return names.checkpoints_topic(self.application_id)

    @property
    def lineage_topic(self) -> str:
        """Topic that holds the lineage and the membership."""
        return names.lineage_topic(self.application_id)

    @property
    def input_topics(self) -> tuple[str, ...]:
        """User topics read, in stage order."""
        return tuple(i.topic for s in self.stages for i in s.inputs if not i.internal)

    @property
    def internal_topics(self) -> tuple[str, ...]:
        """Repartition topics, in stage order."""
        return tuple(i.topic for s in self.stages for i in s.inputs if i.internal)

    @property
    def output_topics(self) -> tuple[str, ...]:
        """User topics written, each once, in stage order."""
        topics = (o.topic for s in self.stages for o in s.outputs if not o.internal)
        return tuple(dict.fromkeys(topics))

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics that a worker reads or writes, but for checkpoints; each once."""
        read = (*self.input_topics, *self.internal_topics)
        return tuple(dict.fromkeys((*read, *self.output_topics, self.lineage_topic)))

    def describe(self, format: str = "text") -> str:  # noqa: A002 - the command line's word
        """Draw the stages, edges, topics and stores.

        Args:
            format: `text`, `mermaid`, `dot` or `json`.

        Raises:
            TopologyError: no such format.
        """
        from kstash.topology.draw import draw

        return draw(self, format)


def is_merging(topology: Topology) -> bool:
    """Whether tasks of any stage take their inputs in the order of their times."""
    return any(stage.merges for stage in topology.stages)


def store_of(topology: Topology, name: str) -> tuple[Stage, KeyedStore]:
    """The store of a name, and the stage whose tasks have it.

    Raises:
        ConfigError: the application has no such store.
    """
    stores = {
        store.name: (stage, store) for stage in topology.stages for store in stage.keyed_stores
    }
    found = stores.get(name)
    if found is None:
        raise ConfigError(f"no store {name!r}; the application has {sorted(stores)}")
    return found


def program_of(
    topology: Topology,
    guarantee: str = Guarantee.EXACTLY_ONCE.value,
    partitions: Mapping[str, int] | None = None,
    topic_ids: Mapping[str, str] | None = None,
) -> Manifest:
    """What START says of it (`kstash.core.manifest`)."""
    return Manifest(
        stages=tuple(_shape(stage) for stage in topology.stages),
        next_number=topology._next_number or len(topology.stages),
        guarantee=guarantee,
        partitions=dict(partitions or {}),
        topic_ids=dict(topic_ids or {}),
        retired=topology._retired,
    )


def numbered(topology: Topology, program: Manifest) -> Topology:
    """The same stages with the numbers and names that `program` gives them, in its order."""
    stages = tuple(
        replace(stage, index=shape.number, name=shape.name)
        for stage, shape in zip(topology.stages, program.stages, strict=True)
    )
    return replace(
        topology, stages=stages, _next_number=program.next_number, _retired=program.retired
    )


def _shape(stage: Stage) -> StageShape:
    return StageShape(
        number=stage.index,
        name=stage.name,
        inputs=tuple((source.topic, source.internal) for source in stage.inputs),
        outputs=tuple((o.topic, o.internal, o.delivery) for o in stage.outputs),
        stores=tuple((store.name, store.contents) for store in stage.keyed_stores),
        operators=tuple(node.declared() for node in stage.inner_nodes),
    )

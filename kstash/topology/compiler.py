"""From declared nodes to stages: what runs where, and what travels through which topic.

Nodes whose records go nowhere are left out. An `EdgeNode` is wide, and so one internal topic, where
keyed state follows before the next `EdgeNode`; elsewhere it only changes the key.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from kstash.core import names
from kstash.core.kinds import InputKind, OutputKind
from kstash.errors import TopologyError
from kstash.serdes import Serde
from kstash.topology.edge_nodes import EdgeNode
from kstash.topology.holding import held_ms, is_idle_held
from kstash.topology.model import Stage, StageInput, StageOutput, Topology
from kstash.topology.nodes import Node, Sink, Source
from kstash.topology.stage_checks import (
    check_deliveries,
    check_loops_through_topics,
    check_stage_names,
)
from kstash.topology.traits import ColumnSet, KeyedStore


def compile_topology(
    application_id: str, declared: Sequence[Node], *, is_watermark: bool
) -> Topology:
    """Cut the declared graph into stages.

    Args:
        application_id: checked by the configuration.
        declared: all nodes, each at its index.
        is_watermark: whether time is the smallest over all that feeds a task.

    Raises:
        TopologyError: a program that cannot work, with the line of the user's code.
    """
    return _Compiler(application_id, declared, is_watermark=is_watermark).compile()


class _Compiler:
    """Holds the intermediate results of one compilation."""

    def __init__(
        self, application_id: str, declared: Sequence[Node], *, is_watermark: bool
    ) -> None:
        self.application_id = application_id
        self.is_watermark = is_watermark
        self.children: dict[int, list[Node]] = defaultdict(list)
        for node in declared:
            for parent in dict.fromkeys(node.parents):
                self.children[parent.index].append(node)
        self.nodes = self._effective(declared)
        # What a stage may begin or end with; all else of a node, the node says itself.
        self.sources = {node.index: node for node in self.nodes if isinstance(node, Source)}
        self.edges = {node.index: node for node in self.nodes if isinstance(node, EdgeNode)}
        self.sinks = {node.index: node for node in self.nodes if isinstance(node, Sink)}
        self.wide = {node.index for node in self.edges.values() if self._is_wide(node)}
        self.read_after = self._read_after()
        self.timing = self._timing()
        self.edge_names = self._name_edges()

    def compile(self) -> Topology:
        if not self.sources:
            raise TopologyError(
                "the application does nothing: end a stream with to() or a stateful operator"
            )
        groups = self._flow_order(self._groups())
        stages = tuple(self._stage(index, *group) for index, group in enumerate(groups))
        check_stage_names(stages)
        check_loops_through_topics(stages)
        check_deliveries(stages)
        return Topology(self.application_id, stages, hash=self._hash(stages))

    def _effective(self, declared: Sequence[Node]) -> list[Node]:
        """Nodes that have an effect, or lead to one, in the order of declaration."""
        effective: set[int] = set()
        for node in reversed(declared):
            children = self.children[node.index]
            if node.has_effect or any(child.index in effective for child in children):
                effective.add(node.index)
        for index, children in self.children.items():
            self.children[index] = [child for child in children if child.index in effective]
        return [node for node in declared if node.index in effective]

    def _first_store(self, node: Node) -> str | None:
        """Name of the first declared store after a node, before any other edge."""
        found: dict[int, str] = {}
        pending = list(self.children[node.index])
        while pending:
            child = pending.pop()
            if child.stores:
                found[child.index] = child.stores[0].name
            elif child.index not in self.edges:
                pending.extend(self.children[child.index])
        return found[min(found)] if found else None

    def _is_wide(self, edge: EdgeNode) -> bool:
        """A plain repartition always is; a key_by where keyed state follows."""
        return edge.is_always_wide or self._first_store(edge) is not None

    def _read_after(self) -> dict[int, ColumnSet]:
        """By index of a node, the columns that are read after it."""
        after: dict[int, ColumnSet] = {}
        # What a child needs of its parent: of its own, and for those that stand after it.
        needed: dict[int, ColumnSet] = {}
        for node in reversed(self.nodes):
            straight = aside = ColumnSet.NONE
            for child in self.children[node.index]:
                if child.is_port:
                    aside |= needed[child.index]
                else:
                    straight |= needed[child.index]
            after[node.index] = straight | aside
            # A wide edge ships its key whatever is after it, but it makes that key itself.
            needed[node.index] = node.reads | node.keeps & straight | node.keeps_aside & aside
        return after

    def _timing(self) -> set[int]:
        """Nodes that send timestamps which an operator with a stream time takes as they are."""
        timing: set[int] = set()
        for node in reversed(self.nodes):
            for child in self.children[node.index]:
                passes = child.index in timing and ColumnSet.TIME in child.keeps
                if passes or any(store.is_time for store in child.stores):
                    timing.add(node.index)
        return timing

    def _name_edges(self) -> dict[int, str]:
        """A name for every wide edge: given, or that of the stateful operator after it."""
        edges: dict[int, str] = {}
        taken: set[str] = set()
        for node in self.edges.values():
            if node.index not in self.wide:
                continue
            if node.name is not None:
                if self._edge_topic(node.name) in taken:
                    raise TopologyError(
                        f"a second wide edge named {node.name!r}, where - and _ are one",
                        node.location,
                    )
                name = node.name
            else:
                store = self._first_store(node)
                assert store is not None
                name, number = store, 1
                while self._edge_topic(name) in taken:
                    number += 1
                    name = f"{store}-{number}"
            taken.add(self._edge_topic(name))
            edges[node.index] = name
        return edges

    def _edge_topic(self, name: str) -> str:
        return names.repartition_topic(self.application_id, name)

    def _groups(self) -> list[tuple[list[Node], list[Node]]]:
        """(entries, nodes) of each part of the graph that hangs together by narrow edges.

        A wide edge belongs to two parts: as an exit to one, as an entry to the next.
        """
        leader: dict[int, int] = {}

        def find(slot: int) -> int:
            while leader.setdefault(slot, slot) != slot:
                slot = leader[slot]
            return slot

        def slot_after(parent: Node) -> int:
            # -1 - index: the entry side of a wide edge, a slot of its own.
            return -1 - parent.index if parent.index in self.wide else parent.index

        for node in self.nodes:
            for parent in node.parents:
                leader[find(node.index)] = find(slot_after(parent))
        groups: dict[int, tuple[list[Node], list[Node]]] = {}
        for node in self.nodes:
            if node.index in self.sources:
                groups.setdefault(find(node.index), ([], []))[0].append(node)
            else:
                groups.setdefault(find(node.index), ([], []))[1].append(node)
            if node.index in self.wide and self.children[node.index]:
                groups.setdefault(find(-1 - node.index), ([], []))[0].append(node)
        return list(groups.values())

    def _flow_order(
        self, groups: list[tuple[list[Node], list[Node]]]
    ) -> list[tuple[list[Node], list[Node]]]:
        """Upstream before downstream; among equals, as declared."""
        ordered: list[tuple[list[Node], list[Node]]] = []
        written: set[int] = set()
        pending = groups
        while pending:
            ready = [
                group
                for group in pending
                if all(e.index in written for e in group[0] if e.index in self.wide)
            ]
            if not ready:
                raise self._cycle_error(pending)
            ordered.extend(ready)
            for _, members in ready:
                written.update(node.index for node in members)
            pending = [group for group in pending if group not in ready]
        return ordered

    def _cycle_error(self, groups: list[tuple[list[Node], list[Node]]]) -> TopologyError:
        merges = [node for _, members in groups for node in members if len(node.parents) > 1]
        return TopologyError(
            "merge joins records from before a key_by with records from after it, which would "
            "make a stage its own input: write one of them to a topic, or put repartition() "
            "before the merge",
            merges[0].location if merges else None,
        )

    def _stage(self, index: int, entries: list[Node], members: list[Node]) -> Stage:
        ends = self.sinks.keys() | self.wide
        exits = [node for node in members if node.index in ends]
        self._check_one_output_per_topic(exits)
        stores = [store for node in members for store in node.stores]
        kept_after_several = self._kept_after_several(entries, members)
        return Stage(
            index=index,
            name=stores[0].name if stores else self._name_of_entry(entries[0]),
            inputs=tuple(self._input(node) for node in entries),
            outputs=tuple(self._output(node) for node in exits),
            stores=tuple(store.spec for store in stores),
            needs_copartitioning=bool(kept_after_several),
            entries=tuple(entries),
            exits=tuple(exits),
            nodes=tuple(members),
            read_after=self.read_after,
            # The smallest time over the inputs makes nothing late, in whatever order they come.
            merges=not self.is_watermark and any(store.is_time for store in kept_after_several),
            held_ms=held_ms(entries, members) if self.is_watermark else {},
        )

    def _name_of_entry(self, entry: Node) -> str:
        source = self.sources.get(entry.index)
        return f"from-{self.edge_names[entry.index] if source is None else source.topic}"

    def _topic(self, node: Node) -> str:
        return self._edge_topic(self.edge_names[node.index])

    def _edge_value(self, edge: EdgeNode) -> Serde[Any] | None:
        if ColumnSet.VALUE not in self.read_after[edge.index]:
            return None
        if edge.value is None:
            raise TopologyError(
                f"{edge.label()} sends values through a topic, but their serde is not known here: "
                "give it as value=",
                edge.location,
            )
        return edge.value

    def _input(self, node: Node) -> StageInput:
        source = self.sources.get(node.index)
        if source is not None:
            kind = InputKind.PLAIN if source.immediate_of is None else InputKind.IMMEDIATE
            return StageInput(
                topic=source.topic,
                kind=kind,
                key=source.key,
                value=source.value,
                immediate_of=source.immediate_of,
                needs_times=source.index in self.timing,
                says_idle=self.is_watermark and not is_idle_held(self.children[source.index]),
            )
        edge = self.edges[node.index]
        value = self._edge_value(edge)
        return StageInput(self._topic(edge), InputKind.FRAMES, edge.key, value, None)

    def _output(self, node: Node) -> StageOutput:
        sink = self.sinks.get(node.index)
        if sink is not None:
            return StageOutput(sink.topic, OutputKind(sink.delivery), sink.key, sink.value)
        edge = self.edges[node.index]
        value = self._edge_value(edge)
        return StageOutput(self._topic(edge), OutputKind.FRAMES, edge.key, value)

    def _check_one_output_per_topic(self, exits: list[Node]) -> None:
        topics: set[str] = set()
        for sink in (self.sinks[node.index] for node in exits if node.index in self.sinks):
            if sink.topic in topics:
                raise TopologyError(
                    f"two streams of one stage go to topic {sink.topic!r}, in no defined "
                    "order: merge() them before to()",
                    sink.location,
                )
            topics.add(sink.topic)

    def _kept_after_several(self, entries: list[Node], members: list[Node]) -> list[KeyedStore]:
        """Stores of the operators that take records of more than one input."""
        reach: dict[int, frozenset[int]] = {e.index: frozenset([e.index]) for e in entries}
        for node in members:
            # An entry that is wide is also a member of the stage before, never of its own.
            reach[node.index] = frozenset().union(*(reach[parent.index] for parent in node.parents))
        return [store for node in members if len(reach[node.index]) > 1 for store in node.stores]

    def _hash(self, stages: Iterable[Stage]) -> str:
        number = {node.index: index for index, node in enumerate(self.nodes)}
        description = {
            "application_id": self.application_id,
            "nodes": [
                [node.canonical(), [number[parent.index] for parent in node.parents]]
                for node in self.nodes
            ],
            "stages": [
                [stage.name, [i.topic for i in stage.inputs], [o.topic for o in stage.outputs]]
                for stage in stages
            ],
        }
        data = json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(data.encode()).hexdigest()

"""From declared nodes to stages: what runs where, and what travels through which topic.

Nodes whose records go nowhere are left out. A `KeyBy` is wide, and so one internal topic, where
keyed state follows before the next `KeyBy`; elsewhere it only changes the key.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from kstash.core import names
from kstash.errors import TopologyError
from kstash.ports.state import StoreSpec
from kstash.serdes import Serde
from kstash.topology import nodes as n
from kstash.topology.model import Stage, StageInput, StageOutput, Topology
from kstash.topology.nodes import KeyBy, Node, Sink, Source, Stateful


def compile_topology(application_id: str, declared: Sequence[Node]) -> Topology:
    """Cut the declared graph into stages.

    Args:
        application_id: checked by the configuration.
        declared: all nodes, each at its index.

    Raises:
        TopologyError: a program that cannot work, with the line of the user's code.
    """
    return _Compiler(application_id, declared).compile()


class _Compiler:
    """Holds the intermediate results of one compilation."""

    def __init__(self, application_id: str, declared: Sequence[Node]) -> None:
        self.application_id = application_id
        self.children: dict[int, list[Node]] = defaultdict(list)
        for node in declared:
            for parent in dict.fromkeys(node.parents):
                self.children[parent.index].append(node)
        self.nodes = self._effective(declared)
        self.wide = {node.index for node in self.nodes if self._is_wide(node)}
        self.key_readers, self.value_readers = self._readers()
        self.edge_names = self._name_edges()

    def compile(self) -> Topology:
        if not any(isinstance(node, Source) for node in self.nodes):
            raise TopologyError(
                "the application does nothing: end a stream with to() or a stateful operator"
            )
        groups = self._flow_order(self._groups())
        stages = tuple(self._stage(index, *group) for index, group in enumerate(groups))
        self._check_names(stages)
        self._check_loops_through_topics(stages)
        self._check_deliveries(stages)
        return Topology(self.application_id, stages, self._hash(stages))

    def _effective(self, declared: Sequence[Node]) -> list[Node]:
        """Nodes that have an effect, or lead to one, in the order of declaration."""
        effective: set[int] = set()
        for node in reversed(declared):
            is_effect = isinstance(node, Sink | Stateful) or (
                isinstance(node, n.Apply) and node.action == "peek"
            )
            if is_effect or any(child.index in effective for child in self.children[node.index]):
                effective.add(node.index)
        for index, children in self.children.items():
            self.children[index] = [child for child in children if child.index in effective]
        return [node for node in declared if node.index in effective]

    def _first_stateful(self, node: Node) -> Stateful | None:
        """The first declared stateful operator behind a node, before any other key_by."""
        found: dict[int, Stateful] = {}
        pending = list(self.children[node.index])
        while pending:
            child = pending.pop()
            if isinstance(child, Stateful):
                found[child.index] = child
            elif not isinstance(child, KeyBy):
                pending.extend(self.children[child.index])
        return found[min(found)] if found else None

    def _is_wide(self, node: Node) -> bool:
        """A plain repartition always is; a key_by where keyed state follows."""
        if not isinstance(node, KeyBy):
            return False
        return node.function is None or self._first_stateful(node) is not None

    def _readers(self) -> tuple[frozenset[int], frozenset[int]]:
        """Indexes of the nodes behind which keys are looked at, and values."""
        keys: set[int] = set()
        values: set[int] = set()
        for node in reversed(self.nodes):
            for child in self.children[node.index]:
                # A wide edge ships its key whatever is behind it, but it makes that key itself.
                if n.reads_key(child) or (n.keeps_key(child) and child.index in keys):
                    keys.add(node.index)
                if n.reads_value(child) or (n.keeps_value(child) and child.index in values):
                    values.add(node.index)
        return frozenset(keys), frozenset(values)

    def _name_edges(self) -> dict[int, str]:
        """A name for every wide edge: given, or after the stateful operator behind it."""
        edges: dict[int, str] = {}
        taken: set[str] = set()
        for node in self.nodes:
            if node.index not in self.wide:
                continue
            assert isinstance(node, KeyBy)
            if node.name is not None:
                if self._edge_topic(node.name) in taken:
                    raise TopologyError(
                        f"a second wide edge named {node.name!r}, where - and _ are one",
                        node.location,
                    )
                name = node.name
            else:
                stateful = self._first_stateful(node)
                assert stateful is not None
                name, number = stateful.name, 1
                while self._edge_topic(name) in taken:
                    number += 1
                    name = f"{stateful.name}-{number}"
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

        def slot_behind(parent: Node) -> int:
            # -1 - index: the entry side of a wide edge, a slot of its own.
            return -1 - parent.index if parent.index in self.wide else parent.index

        for node in self.nodes:
            for parent in node.parents:
                leader[find(node.index)] = find(slot_behind(parent))
        groups: dict[int, tuple[list[Node], list[Node]]] = {}
        for node in self.nodes:
            if isinstance(node, Source):
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
        merges = [node for _, members in groups for node in members if isinstance(node, n.Merge)]
        return TopologyError(
            "merge joins records from before a key_by with records from behind it, which would "
            "make a stage its own input: write one of them to a topic, or put repartition() "
            "before the merge",
            merges[0].location if merges else None,
        )

    def _stage(self, index: int, entries: list[Node], members: list[Node]) -> Stage:
        exits = [node for node in members if isinstance(node, Sink) or node.index in self.wide]
        self._check_one_output_per_topic(exits)
        stateful = [node for node in members if isinstance(node, Stateful)]
        return Stage(
            index=index,
            name=self._stage_name(entries, stateful),
            inputs=tuple(self._input(node) for node in entries),
            outputs=tuple(self._output(node) for node in exits),
            stores=tuple(
                StoreSpec(node.name, node.value.serialize, node.value.deserialize)
                for node in stateful
            ),
            needs_copartitioning=self._has_state_behind_several(entries, members),
            entries=tuple(entries),
            exits=tuple(exits),
            nodes=tuple(members),
            key_readers=self.key_readers,
            value_readers=self.value_readers,
        )

    def _stage_name(self, entries: list[Node], stateful: list[Stateful]) -> str:
        if stateful:
            return stateful[0].name
        first = entries[0]
        name = first.topic if isinstance(first, Source) else self.edge_names[first.index]
        return f"from-{name}"

    def _topic(self, node: Node) -> str:
        return self._edge_topic(self.edge_names[node.index])

    def _edge_value(self, node: KeyBy) -> Serde[Any] | None:
        if node.index not in self.value_readers:
            return None
        if node.value is None:
            raise TopologyError(
                f"{n.label(node)} sends values through a topic, but their serde is not known here: "
                "give it as value=",
                node.location,
            )
        return node.value

    def _input(self, node: Node) -> StageInput:
        if isinstance(node, KeyBy):
            return StageInput(self._topic(node), True, node.key, self._edge_value(node), None)
        assert isinstance(node, Source)
        return StageInput(node.topic, False, node.key, node.value, node.immediate_of)

    def _output(self, node: Node) -> StageOutput:
        if isinstance(node, KeyBy):
            return StageOutput(
                self._topic(node), True, node.key, self._edge_value(node), "immediate"
            )
        assert isinstance(node, Sink)
        return StageOutput(node.topic, False, node.key, node.value, node.delivery)

    def _check_one_output_per_topic(self, exits: list[Node]) -> None:
        topics: set[str] = set()
        for node in exits:
            if isinstance(node, Sink):
                if node.topic in topics:
                    raise TopologyError(
                        f"two streams of one stage go to topic {node.topic!r}, in no defined "
                        "order: merge() them before to()",
                        node.location,
                    )
                topics.add(node.topic)

    def _has_state_behind_several(self, entries: list[Node], members: list[Node]) -> bool:
        reach: dict[int, frozenset[int]] = {e.index: frozenset([e.index]) for e in entries}
        for node in members:
            # An entry that is wide is also a member of the stage before, never of its own.
            reach[node.index] = frozenset().union(*(reach[parent.index] for parent in node.parents))
        return any(isinstance(node, Stateful) and len(reach[node.index]) > 1 for node in members)

    def _check_names(self, stages: Iterable[Stage]) -> None:
        names: set[str] = set()
        for stage in stages:
            if stage.name in names:
                raise TopologyError(
                    f"two stages would be named {stage.name!r}: rename the stateful operator",
                    stage.entries[0].location,
                )
            names.add(stage.name)

    def _check_loops_through_topics(self, stages: Iterable[Stage]) -> None:
        read = {entry.topic for stage in stages for entry in stage.inputs}
        for stage in stages:
            for node, output in zip(stage.exits, stage.outputs, strict=True):
                if not output.internal and output.topic in read:
                    raise TopologyError(
                        f"topic {output.topic!r} is both read and written by the application: "
                        "go on with the stream before to(), or put repartition() there",
                        node.location,
                    )

    def _check_deliveries(self, stages: Iterable[Stage]) -> None:
        first: dict[str, str] = {}
        for stage in stages:
            for node, output in zip(stage.exits, stage.outputs, strict=True):
                if not output.internal and output.delivery != first.setdefault(
                    output.topic, output.delivery
                ):
                    raise TopologyError(
                        f"topic {output.topic!r} is written with both deliveries, so that no "
                        "reader could rely on its headers: choose one of them",
                        node.location,
                    )

    def _hash(self, stages: Iterable[Stage]) -> str:
        number = {node.index: index for index, node in enumerate(self.nodes)}
        description = {
            "application_id": self.application_id,
            "nodes": [
                [n.canonical(node), [number[parent.index] for parent in node.parents]]
                for node in self.nodes
            ],
            "stages": [
                [stage.name, [i.topic for i in stage.inputs], [o.topic for o in stage.outputs]]
                for stage in stages
            ],
        }
        data = json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(data.encode()).hexdigest()

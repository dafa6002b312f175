"""Whose turn it is in a stage after a batch has come in: built once, from the declared nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from kstash.operators.exit import Exit
from kstash.operators.flow import Flow
from kstash.operators.scope import Turn
from kstash.operators.step import Surroundings
from kstash.operators.steps import step_of
from kstash.topology.model import Stage
from kstash.topology.nodes import Node
from kstash.topology.traits import OUT

_AROUND = (-1, "")
"""The way of records that have passed no operator that may send in parts."""


def turns_of(stage: Stage, exits: Sequence[Exit]) -> list[list[Turn]]:
    """For each input, whose turn it is, in the order of declaration.

    Args:
        stage: of the task.
        exits: one for each of its outputs.
    """
    reached = [list(_reached(stage, [entry])) for entry in stage.entries]
    inputs = Counter(node.index for nodes in reached for node in nodes)
    turns = {
        node.index: _turn(
            stage, exits, node, is_shared=bool(node.stores) and inputs[node.index] > 1
        )
        for node in stage.nodes
        if not node.is_port
    }
    return [[turns[node.index] for node in nodes if not node.is_port] for nodes in reached]


def all_turns(turns: Sequence[Sequence[Turn]]) -> list[Turn]:
    """Whose turn it is after records of several inputs have come in together.

    Args:
        turns: as of `turns_of`.
    """
    found = {turn.node.index: turn for reached in turns for turn in reached}
    return [found[index] for index in sorted(found)]


def takes_one_by_one(stage: Stage, entries: Sequence[Node]) -> bool:
    """Whether records that come in together must go through the stage one at a time.

    So it is where branches meet again and an operator before that leaves work that sends: its
    results come in parts, and which records of the other branches stand between two of them must
    not depend on where a batch ends.

    Args:
        stage: of the task.
        entries: of the inputs that the records are from.
    """
    # By index of a node: on which ways records come out of it. A way is an output of an operator
    # that may send in parts, the last one that they have passed on it, or around all of those.
    ways: dict[int, frozenset[tuple[int, str]]] = {
        entry.index: frozenset([_AROUND]) for entry in entries
    }
    for node in _reached(stage, entries):
        parents = [ways[parent.index] for parent in node.parents if parent.index in ways]
        met = frozenset[tuple[int, str]]().union(*parents)
        if len(parents) > 1 and len(met) > 1:
            return True
        if node.is_port and node.parents[0].sends_in_parts:
            met = frozenset([(node.parents[0].index, node.label())])
        elif node.sends_in_parts:
            met = frozenset([(node.index, OUT)])
        ways[node.index] = met
    return False


def in_turn(given: list[tuple[int, Flow]]) -> Iterator[tuple[int, Flow]]:
    """What a step with several sides is given, in the order of the records of the batch.

    What came of one record goes to one side after the other, before what came of the next one: as
    in batches of one record.
    """
    if len(given) < 2:
        yield from given
        return
    records = sorted(
        (origin, number, index)
        for number, (_, flow) in enumerate(given)
        for index, origin in enumerate(flow.origins())
    )
    for number, group in groupby(records, lambda record: record[1]):
        indexes = [index for _, _, index in group]
        side, flow = given[number]
        yield side, flow.part(indexes[0], indexes[-1] + 1)


def _reached(stage: Stage, entries: Sequence[Node]) -> Iterable[Node]:
    reached = {entry.index for entry in entries}
    for node in stage.nodes:
        if any(parent.index in reached for parent in node.parents):
            reached.add(node.index)
            yield node


def _turn(stage: Stage, exits: Sequence[Exit], node: Node, *, is_shared: bool) -> Turn:
    read_after = stage.read_after[node.index]
    ports: dict[str, int] = {}
    for port in stage.nodes:
        if port.is_port and port.parents[0] is node:
            # Of two nodes of one output the first would be sent nothing.
            assert port.label() not in ports, port.title
            ports[port.label()] = port.index
    read = node.reads | read_after
    for index in ports.values():
        read |= stage.read_after[index]
    ports[OUT] = node.index
    outputs: Mapping[Node, Exit] = dict(zip(stage.exits, exits, strict=True))
    return Turn(
        node=node,
        title=node.title,
        label=node.label(),
        parents=tuple(parent.index for parent in node.parents),
        step=step_of(node, Surroundings(read_after)),
        read=read,
        ports=ports,
        way_out=outputs.get(node),
        is_shared=is_shared,
    )

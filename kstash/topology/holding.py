"""What operators hold back of event time, and so whatever stands after them (watermark mode)."""

from __future__ import annotations

from collections.abc import Iterable

from kstash.errors import TopologyError
from kstash.topology.intervals import interval_text
from kstash.topology.nodes import Node
from kstash.topology.window_nodes import LATE


def held_ms(entries: Iterable[Node], members: Iterable[Node]) -> dict[int, int]:
    """By index of a node: how much less than the task's time its records say at most.

    Windows with final results hold back their size and grace: a window that is open has a result
    still to come. Their late records were not held.

    Args:
        entries: of a stage.
        members: its nodes, in the order of declaration.

    Raises:
        TopologyError: streams are merged that are held back unequally. The one that is ahead would
            make records of the other late.
    """
    held = {entry.index: 0 for entry in entries}
    for node in members:
        if node.is_port and node.label() == LATE:
            (windows,) = node.parents
            held[node.index] = max(held[parent.index] for parent in windows.parents)
            continue
        before = {held[parent.index] for parent in node.parents}
        if len(before) > 1:
            most = interval_text(max(before))
            raise TopologyError(
                f'event_time="watermark": {node.label()} joins streams of which one is held back '
                f"by {most} (final results of windows) and another one is not: put repartition() "
                "after each of them, so that what follows waits for both",
                node.location,
            )
        held[node.index] = max(before) + node.held_ms
    return held


def is_idle_held(after: Iterable[Node]) -> bool:
    """Whether a source holds time back while nothing comes of it.

    Args:
        after: the nodes after the source.
    """
    return any(node.holds_while_idle for node in after)


def holders(members: Iterable[Node]) -> dict[int, tuple[Node, ...]]:
    """By index of a node: those before it in its stage that hold time back, in their order.

    They do so in both modes of event time. Where streams meet, those before any of them count.

    Args:
        members: nodes of a stage, in the order of declaration.
    """
    found: dict[int, tuple[Node, ...]] = {}
    after: dict[int, tuple[Node, ...]] = {}
    for node in members:
        of_late = node.is_port and node.label() == LATE
        known = found if of_late else after
        parents = (known.get(parent.index, ()) for parent in node.parents)
        before = {each.index: each for nodes in parents for each in nodes}
        found[node.index] = tuple(before[index] for index in sorted(before))
        holds = (node,) if node.held_ms else ()
        after[node.index] = (*found[node.index], *holds)
    return found


def holding_text(nodes: Iterable[Node]) -> str:
    """What nodes hold back, in words; empty where there are none."""
    return ", ".join(
        f"open windows of {node.label()}, for {interval_text(node.held_ms)}" for node in nodes
    )

"""Drawings of a topology, for people and for tools."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any

from kstash.errors import TopologyError
from kstash.topology.model import Stage, StageInput, StageOutput, Topology
from kstash.topology.nodes import Node
from kstash.topology.traits import KeyedStore


def draw(topology: Topology, format: str) -> str:  # noqa: A002 - the command line's word
    """Draw a topology as `text`, `mermaid`, `dot` or `json`; ends without a newline.

    Raises:
        TopologyError: no such format.
    """
    drawer = _DRAWERS.get(format)
    if drawer is None:
        nearest = difflib.get_close_matches(format, _DRAWERS, 1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise TopologyError(f"unknown format {format!r}, {hint}there are {', '.join(_DRAWERS)}")
    return drawer(topology)


def _text(topology: Topology) -> str:
    mode = ", event_time=watermark" if _is_watermark(topology) else ""
    lines = [f"application {topology.application_id} ({topology.hash[:12]}){mode}"]
    for stage in topology.stages:
        lines.append(f"stage {stage.index} {stage.name}")
        lines.extend(f"  in     {_input_text(entry)}" for entry in stage.inputs)
        for node in stage.nodes:
            is_output = node in stage.exits
            if not is_output:
                lines.append(f"         {_node_text(stage, node)}")
        lines.extend(f"  store  {_store_text(store)}" for store in stage.keyed_stores)
        for node, output in zip(stage.exits, stage.outputs, strict=True):
            via = f"{node.label()} " if output.internal else ""
            parents = _parents_text(stage, node)
            lines.append(f"  out    {via}{parents}-> {_output_text(output)}")
        if stage.needs_copartitioning:
            lines.append("  needs  equal partition counts of its inputs")
    return "\n".join(lines)


def _is_watermark(topology: Topology) -> bool:
    """It is one mode for all stages."""
    return any(stage.is_watermark for stage in topology.stages)


def _store_text(store: KeyedStore) -> str:
    """Its name, and what it holds where that is not the state of the operator's verb."""
    what = _contents(store)
    return f"{store.name} ({what})" if what else store.name


def _contents(store: KeyedStore) -> str:
    return "stream time" if store.is_time else store.holds


def _held(stage: Stage) -> dict[str, dict[str, str]]:
    """What its stores hold, by name: of those that do not hold the state of a verb."""
    held = {store.name: what for store in stage.keyed_stores if (what := _contents(store))}
    return {"holds": held} if held else {}


def _node_text(stage: Stage, node: Node) -> str:
    return f"{_label(node)} {_parents_text(stage, node)}".rstrip()


def _label(node: Node) -> str:
    """With what it says of time, and what goes by the clock."""
    timing = f"[{node.timing}]" if node.timing else ""
    clock = f"[clock: {node.by_clock}]" if node.by_clock else ""
    return " ".join(filter(None, [node.label(), timing, clock]))


def _parents_text(stage: Stage, node: Node) -> str:
    """Where a node reads from, unless it is just the line above."""
    position = stage.nodes.index(node)
    before = stage.nodes[position - 1] if position else stage.entries[-1]
    if node.parents == (before,) and before not in stage.exits:
        return ""
    return f"(of {', '.join(_parent_label(stage, parent) for parent in node.parents)}) "


def _parent_label(stage: Stage, node: Node) -> str:
    if node in stage.entries:
        return stage.inputs[stage.entries.index(node)].topic
    return node.label()


def _input_text(entry: StageInput) -> str:
    kind = "wide, internal" if entry.internal else "user topic"
    source = f", immediate sink of {entry.immediate_of}" if entry.immediate_of else ""
    return f"{entry.topic} ({kind}{source}; {_serdes_text(entry)})"


def _output_text(output: StageOutput) -> str:
    kind = "wide, internal" if output.internal else f"user topic, {output.delivery}"
    return f"{output.topic} ({kind}; {_serdes_text(output)})"


def _serdes_text(end: StageInput | StageOutput) -> str:
    value = end.value.name if end.value else "not shipped"
    return f"key {end.key.name}, value {value}"


def _mermaid(topology: Topology) -> str:
    lines = ["flowchart LR"]
    for topic in _topics(topology):
        lines.append(f'  {_id("t", topic)}[("{topic}")]')
    for stage in topology.stages:
        lines.append(f'  subgraph s{stage.index}["stage {stage.name}"]')
        for node in stage.inner_nodes:
            lines.append(f'    n{node.index}["{_quoted(_label(node))}"]')
            for store in node.stores:
                lines.append(f'    {_id("k", store.name)}[/"store {_store_text(store)}"/]')
                lines.append(f"    n{node.index} --- {_id('k', store.name)}")
        lines.append("  end")
    lines += [f"  {a} {'==>' if wide else '-->'} {b}" for a, b, wide in _edges(topology)]
    return "\n".join(lines)


def _dot(topology: Topology) -> str:
    lines = ["digraph topology {", "  rankdir=LR;", "  node [shape=box];"]
    for topic in _topics(topology):
        lines.append(f'  {_id("t", topic)} [label="{topic}", shape=cylinder];')
    for stage in topology.stages:
        lines.append(f'  subgraph cluster_{stage.index} {{ label="stage {stage.name}";')
        for node in stage.inner_nodes:
            lines.append(f'    n{node.index} [label="{_quoted(_label(node))}"];')
            for store in node.stores:
                name = _id("k", store.name)
                lines.append(f'    {name} [label="{_store_text(store)}", shape=folder];')
                lines.append(f"    n{node.index} -> {name} [dir=none];")
        lines.append("  }")
    for a, b, wide in _edges(topology):
        lines.append(f"  {a} -> {b}{' [penwidth=3]' if wide else ''};")
    return "\n".join([*lines, "}"])


def _json(topology: Topology) -> str:
    def end(place: Node, item: StageInput | StageOutput) -> dict[str, Any]:
        described: dict[str, Any] = {
            "id": place.index,
            "topic": item.topic,
            "internal": item.internal,
            "key": item.key.name,
            "value": item.value.name if item.value else None,
        }
        if isinstance(item, StageInput):
            described["immediate_of"] = item.immediate_of
        else:
            described["delivery"] = None if item.internal else item.delivery
        return described

    def node(stage: Stage, item: Node) -> dict[str, Any]:
        return {
            "id": item.index,
            "label": item.label(),
            **({"timing": item.timing} if item.timing else {}),
            **({"clock": item.by_clock} if item.by_clock else {}),
            **item.details(),
            "parents": [parent.index for parent in item.parents],
            "wide": item in stage.exits and item not in stage.sinks,
        }

    return json.dumps(
        {
            "application_id": topology.application_id,
            "hash": topology.hash,
            **({"event_time": "watermark"} if _is_watermark(topology) else {}),
            "stages": [
                {
                    "index": stage.index,
                    "name": stage.name,
                    "inputs": list(map(end, stage.entries, stage.inputs)),
                    "outputs": list(map(end, stage.exits, stage.outputs)),
                    "stores": [store.name for store in stage.stores],
                    **_held(stage),
                    "needs_copartitioning": stage.needs_copartitioning,
                    "nodes": [node(stage, item) for item in stage.nodes],
                }
                for stage in topology.stages
            ],
        },
        indent=2,
    )


_DRAWERS: dict[str, Callable[[Topology], str]] = {
    "text": _text,
    "mermaid": _mermaid,
    "dot": _dot,
    "json": _json,
}


def _topics(topology: Topology) -> list[str]:
    ends: list[StageInput | StageOutput] = []
    for stage in topology.stages:
        ends += [*stage.inputs, *stage.outputs]
    return list(dict.fromkeys(end.topic for end in ends))


def _edges(topology: Topology) -> list[tuple[str, str, bool]]:
    """(from, to, whether it belongs to a wide edge), each once."""
    edges: dict[tuple[str, str, bool], None] = {}
    for stage in topology.stages:
        sources = dict(zip(stage.entries, stage.inputs, strict=True))
        sinks = stage.sinks
        for node in stage.nodes:
            for parent in node.parents:
                entry = sources.get(parent)
                start = _id("t", entry.topic) if entry else f"n{parent.index}"
                sink = sinks.get(node)
                target = _id("t", sink.topic) if sink else f"n{node.index}"
                edges[start, target, entry is not None and entry.internal] = None
        for node, output in zip(stage.exits, stage.outputs, strict=True):
            if output.internal:
                edges[f"n{node.index}", _id("t", output.topic), True] = None
    return list(edges)


def _id(prefix: str, name: str) -> str:
    return prefix + "_" + "".join(c if c.isalnum() else f"_{ord(c):x}_" for c in name)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'")

"""Nodes that speak for themselves: nobody else keeps a list of their classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kstash import serdes
from kstash.errors import ConfigError
from kstash.operators.steps import NO_STEP, STEPS
from kstash.ports.state import StoreKind
from kstash.topology import (
    count_nodes,
    keyed_nodes,
    nodes,
    process_node,
    ready_processors,
    record_nodes,
    session_nodes,
    sliding_nodes,
    time_nodes,
    window_nodes,
)
from kstash.topology.nodes import Node
from kstash.topology.traits import KeyedStore
from tests.unit.topology.test_golden import every_operator


def concrete() -> set[type[Node]]:
    """All classes of nodes that have no subclasses."""
    # As the modules have them: a class of a dataclass with slots is made anew, and Python
    # remembers both.
    modules = (
        nodes,
        keyed_nodes,
        time_nodes,
        window_nodes,
        session_nodes,
        sliding_nodes,
        count_nodes,
        record_nodes,
        process_node,
        ready_processors,
    )
    named = [thing for module in modules for thing in vars(module).values()]
    kinds = {kind for kind in named if isinstance(kind, type)}
    declared = [kind for kind in kinds if issubclass(kind, Node)]
    return {kind for kind in declared if sum(issubclass(other, kind) for other in declared) == 1}


def test_each_node_has_a_step_or_needs_none() -> None:
    """A new kind of node is run, or is refused when its stage is built."""
    # This one is run itself, and those of ready processors are of its kind.
    assert concrete() | {process_node.Process} == {*NO_STEP, *STEPS}


def test_a_store_is_found_by_its_name() -> None:
    """With its stage and its serdes; an unknown one is refused with the names that there are."""
    topology = every_operator().topology()
    for stage in topology.stages:
        for spec, store in zip(stage.stores, stage.keyed_stores, strict=True):
            assert topology.store(spec.name) == (stage, store)
            assert spec == store.spec
    assert topology.store("words")[1].contents == "count text -> int_text"
    names = ["exact", "longest", "seen", "total", "words"]
    with pytest.raises(ConfigError) as caught:
        topology.store("word")
    assert str(caught.value).startswith(f"no store 'word'; the application has {names}")


def test_the_kind_of_a_store_is_part_of_what_it_holds() -> None:
    """A store of another kind is not taken over; those of keyed values are named as ever."""
    keyed = KeyedStore("s", "fold", serdes.text, serdes.int_text)
    ordered = replace(keyed, kind=StoreKind.ORDERED)
    assert keyed.contents == "fold text -> int_text"
    assert ordered.contents == "fold (ordered) text -> int_text"
    assert ordered.spec.kind is StoreKind.ORDERED

"""Nodes that speak for themselves: nobody else keeps a list of their classes."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest

from kstash import serdes, topology
from kstash.errors import ConfigError
from kstash.operators.steps import NO_STEP, STEPS
from kstash.ports.state import StoreKind
from kstash.topology import process_node
from kstash.topology.model import store_of
from kstash.topology.nodes import Node
from kstash.topology.traits import KeyedStore
from tests.unit.topology.test_golden import every_operator


def concrete(base: type) -> set[type[Any]]:
    """All classes of nodes, or of what else the modules of nodes have, without subclasses."""
    # As the modules have them: a class of a dataclass with slots is made anew, and Python
    # remembers both.
    names = (module.name for module in iter_modules(topology.__path__))
    modules = [import_module(f"{topology.__name__}.{name}") for name in names]
    named = [thing for module in modules for thing in vars(module).values()]
    kinds = {kind for kind in named if isinstance(kind, type)}
    declared = [kind for kind in kinds if issubclass(kind, base)]
    return {kind for kind in declared if sum(issubclass(other, kind) for other in declared) == 1}


def test_each_node_has_a_step_or_needs_none() -> None:
    """A new kind of node is run, or is refused when its stage is built."""
    # This one is run itself, and those of ready processors are of its kind.
    assert concrete(Node) | {process_node.Process} == {*NO_STEP, *STEPS}


def test_a_store_is_found_by_its_name() -> None:
    """With its stage and its serdes; an unknown one is refused with the names that there are."""
    made = every_operator().topology()
    for stage in made.stages:
        for spec, store in zip(stage.stores, stage.keyed_stores, strict=True):
            assert store_of(made, spec.name) == (stage, store)
            assert spec == store.spec
    assert store_of(made, "words")[1].contents == "count text -> int_text"
    names = ["exact", "longest", "seen", "total", "words"]
    with pytest.raises(ConfigError) as caught:
        store_of(made, "word")
    assert str(caught.value).startswith(f"no store 'word'; the application has {names}")


def test_the_kind_of_a_store_is_part_of_what_it_holds() -> None:
    """A store of another kind is not taken over; those of keyed values are named as ever."""
    keyed = KeyedStore("s", "fold", serdes.text, serdes.int_text)
    ordered = replace(keyed, kind=StoreKind.ORDERED)
    assert keyed.contents == "fold text -> int_text"
    assert ordered.contents == "fold (ordered) text -> int_text"
    assert ordered.spec.kind is StoreKind.ORDERED

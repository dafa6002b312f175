"""Golden hashes of each kind of operator: a change by accident is seen, and where it is.

`operators.golden` has a line for each program of `tests/unit/operator_programs.py`: its hash, and a
digest of what START says of it. Both are compared between releases; a line is never changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kstash.operators.steps import NO_STEP, STEPS
from kstash.topology.model import program_of
from kstash.topology.nodes import Node
from kstash.topology.window_nodes import Windows
from tests.unit.operator_programs import PROGRAMS, WINDOWS
from tests.unit.topology.test_golden import digest
from tests.unit.topology.test_nodes import concrete

GOLDEN = Path(__file__).with_name("operators.golden")


def golden() -> dict[str, str]:
    """Lines of the file by program."""
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()
    return {line.rpartition(": ")[0]: line for line in lines}


def line_of(name: str) -> str:
    """What the line of a program is now."""
    topology = PROGRAMS[name]().topology()
    start = program_of(topology, "exactly_once", {"in": 3}, {"in": "id"})
    return f"{name}: {topology.hash} {digest(start.encode())}"


def declared(name: str) -> set[type[Node]]:
    """Classes of the nodes of a program."""
    return {type(node) for node in PROGRAMS[name]()._graph.nodes}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_hash_of_an_operator_stays(name: str) -> None:
    """A worker of another release takes its topology for the same one, and its state as well."""
    assert golden().get(name) == line_of(name), "add a line for what is new; never change one"


def test_no_golden_line_is_of_nothing() -> None:
    """Each is of a program, and no two programs look alike to a lineage topic."""
    lines = golden()
    assert set(lines) == set(PROGRAMS)
    assert len({line.rpartition(": ")[2] for line in lines.values()}) == len(lines)


def test_each_class_of_nodes_has_a_golden_hash() -> None:
    """A new kind of node, or of windows, is in some program here."""
    found = set[type[Node]]().union(*map(declared, PROGRAMS))
    assert not {kind.__name__ for kind in {*NO_STEP, *STEPS} - found}
    assert concrete(Windows) == set(map(type, WINDOWS.values()))

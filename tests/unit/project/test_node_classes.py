"""Nobody asks for the class of a node but the table of steps: nodes speak for themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

import kstash
from kstash.topology.nodes import Node

ROOT = Path(kstash.__file__).parents[1]

ASKING = {
    "kstash.operators.steps": "the table: which code runs a node is for no node to know",
    "kstash.topology.compiler": "a stage begins and ends with sources, edges and sinks, which have "
    "serdes and topics that no other node has",
}
"""Modules that may ask for classes of nodes, each with its reason (decision 0059)."""


def modules() -> list[str]:
    """All modules of kstash, as they are imported."""
    paths = [path.relative_to(ROOT) for path in (ROOT / "kstash").rglob("*.py")]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return sorted(name for name in names if not name.endswith("__main__"))


def asked(tree: ast.Module) -> Iterator[ast.expr]:
    """What something is compared with where its class is asked for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            yield from node.args[1:]
        elif isinstance(node, ast.MatchClass):
            yield node.cls
        elif isinstance(node, ast.Compare):
            yield from node.comparators
        elif isinstance(node, ast.Dict):
            yield from (key for key in node.keys if key is not None)


def imported(tree: ast.Module) -> dict[str, Any]:
    """What a module imports by name, wherever it does so."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kstash."):
            for alias in node.names:
                source = import_module(node.module or "")
                if hasattr(source, alias.name):
                    found[alias.asname or alias.name] = getattr(source, alias.name)
    return found


def named(expression: ast.expr, names: dict[str, Any]) -> list[Any]:
    """What an expression of names stands for: the parts of a tuple or of a union."""
    if isinstance(expression, ast.Tuple | ast.List | ast.Set):
        return [thing for part in expression.elts for thing in named(part, names)]
    if isinstance(expression, ast.BinOp):
        return [*named(expression.left, names), *named(expression.right, names)]
    if not isinstance(expression, ast.Name | ast.Attribute):
        return []
    try:
        thing = eval(compile(ast.Expression(expression), "", "eval"), names)
    except Exception:
        return []  # no class of its module: a variable, say
    return list(thing) if isinstance(thing, tuple) else [*get_args(thing), thing]


def questions(tree: ast.Module, names: dict[str, Any]) -> Iterator[str]:
    """Where a module asks whether something is of a class of nodes."""
    known = {**names, **imported(tree)}
    for expression in asked(tree):
        for thing in named(expression, known):
            if isinstance(thing, type) and issubclass(thing, Node):
                yield f"line {expression.lineno}: {ast.unparse(expression)}"
                break


def found_in(module: ModuleType) -> list[str]:
    """Its questions."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    return list(questions(tree, vars(module)))


def test_no_other_module_asks_for_the_class_of_a_node() -> None:
    """A new kind of node need not be found by places that are not there yet."""
    found = {name: found_in(import_module(name)) for name in modules()}
    asking = {name: lines for name, lines in found.items() if lines}
    others = {name: lines for name, lines in asking.items() if name not in ASKING}
    assert not others, "let the node say it: an attribute of its class (decision 0059)"
    assert set(asking) == set(ASKING), "what does not ask any more needs no leave"


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(node, Count)",
        "isinstance(node, k.Count | int)",
        "issubclass(type(node), (str, k.Stateful))",
        "isinstance(node, NO_STEP)",
        "type(node) is k.Sum",
        "type(node) in (k.Sum, k.Min)",
        "{k.Sum: 1}",
        "match node:\n    case k.Sum():\n        pass",
        "def late():\n    from kstash.topology.nodes import Port\n    isinstance(node, Port)",
    ],
)
def test_each_way_to_ask_is_found(line: str) -> None:
    """By name, by module, in a tuple or a union, by its exact class, in a pattern, as a key."""
    head = """
from kstash.operators.steps import NO_STEP
from kstash.topology import keyed_nodes as k
from kstash.topology.keyed_nodes import Count
"""
    assert list(questions(ast.parse(head + line), {}))


def test_others_may_be_asked_for() -> None:
    """What is no node, though it may be called as one is."""
    head = "from kstash.topology.keyed_state import Map\n"
    assert not list(questions(ast.parse(f"{head}isinstance(state, Map)"), {}))

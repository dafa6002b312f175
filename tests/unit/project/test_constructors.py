"""Who makes an object says by name what its parts are.

Of a public class after the first two; of a class of the engine after three, which only parts may be
that stand in an order everybody knows.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import kstash
import kstash.broker
import kstash.readers
import kstash.testing
from kstash import errors
from kstash.operators.program import StageProgram
from kstash.testing.kafka.log import MemoryRecord

MODULES = (kstash, kstash.testing, errors, kstash.readers, kstash.broker)

IN_ORDER: dict[type, int] = {
    kstash.Serde: 3,  # Serde(name, serialize, deserialize): there and back, as the docs show it
    MemoryRecord: 3,  # (topic, partition, offset): where a record is, as everywhere
}
"""Classes whose parts have an order that readers know, and how many."""


MADE_OFTEN = (StageProgram, MemoryRecord)
"""Classes of our own that many tests make."""


def exported() -> Iterator[type]:
    """Public classes, each once; parts of tuples have an order: it is that of unpacking."""
    classes = {getattr(module, name) for module in MODULES for name in module.__all__}
    classes.update(MADE_OFTEN)
    for found in sorted((c for c in classes if isinstance(c, type)), key=lambda c: c.__qualname__):
        if found.__module__.startswith("kstash") and not issubclass(found, tuple):
            yield found


def by_order(found: type) -> list[str]:
    """Arguments of a constructor that may be given without their names."""
    try:
        signature = inspect.signature(found)
    except ValueError:
        return []  # an error that takes a text, as those of Python
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [argument.name for argument in signature.parameters.values() if argument.kind in kinds]


@pytest.mark.parametrize("found", [*exported()], ids=lambda found: found.__qualname__)
def test_two_arguments_at_most_go_by_their_order(found: type) -> None:
    """`SerdeError("map", "json", "serialize", "key", 0, cause)` says nothing to who reads it."""
    assert len(by_order(found)) <= IN_ORDER.get(found, 2)


def test_the_rule_looks_at_what_it_is_for() -> None:
    """Errors and dataclasses are among the classes."""
    assert {errors.SerdeError, kstash.Statistics, kstash.testing.OutputRecord} <= {*exported()}


KSTASH = Path(kstash.__file__).parent

IN_ORDER_INSIDE = 3


def taking_many_by_order(source: str) -> Iterator[str]:
    """Classes of a module whose `__init__` takes more than three arguments by their order."""
    for found in ast.walk(ast.parse(source)):
        if not isinstance(found, ast.ClassDef):
            continue
        for function in found.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                arguments = function.args
                count = len(arguments.posonlyargs) + len(arguments.args) - 1
                if count > IN_ORDER_INSIDE:
                    yield f"{found.name}: {count}"


def test_constructors_of_the_engine_take_three_arguments_by_order_at_most() -> None:
    """`Hints(clock, ends, times, lineage, tasks)`: who changes two of them sees no error."""
    found = {
        str(path.relative_to(KSTASH)): classes
        for path in sorted(KSTASH.rglob("*.py"))
        if (classes := [*taking_many_by_order(path.read_text(encoding="utf-8"))])
    }
    assert not found, "keyword-only, but for the first"


def test_the_rule_counts_what_goes_by_order() -> None:
    """Not what goes by name, and not the object itself."""
    many = "class A:\n    class B:\n        def __init__(self, a, /, b, c, d, *, e): ..."
    assert [*taking_many_by_order(many)] == ["B: 4"]
    assert not [*taking_many_by_order(many.replace("c, d, *", "c, *, d"))]

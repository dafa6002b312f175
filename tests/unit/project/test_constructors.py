"""Who makes an object of a public class says by name what its parts are, after the first two."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

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

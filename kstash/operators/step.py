"""What every step of a stage has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kstash.operators.flow import Flow
from kstash.ports.state import KeyValueStore


class Step(Protocol):
    """One node's logic on one task.

    Attributes:
        label: name of the operator, for errors.
    """

    label: str

    def run(self, flow: Flow) -> Flow | None:
        """Process the records; None when no record is left."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a step may need beside its node.

    Attributes:
        stores: of the task, by name.
        with_keys: whether anyone after the node looks at the key.
        before: steps of the nodes that were declared before, by index.
    """

    stores: Mapping[str, KeyValueStore]
    with_keys: bool
    before: Mapping[int, Step]

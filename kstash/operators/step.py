"""What every step of a stage has in common."""

from __future__ import annotations

from typing import Protocol

from kstash.operators.flow import Flow


class Step(Protocol):
    """One node's logic on one task.

    Attributes:
        label: name of the operator, for errors.
    """

    label: str

    def run(self, flow: Flow) -> Flow | None:
        """Process the records; None when no record is left."""

    def trace(self, index: int) -> int:
        """Index in the input of the last `run` of what made record `index` of its output."""


class OneToOne:
    """A step of which each record makes one."""

    def trace(self, index: int) -> int:
        """Index in the input of the last `run` of what made record `index` of its output."""
        return index

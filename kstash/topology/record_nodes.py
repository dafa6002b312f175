"""The nodes of functions that are given records and give some back; see `nodes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kstash.serdes import Serde
from kstash.topology.nodes import Apply
from kstash.topology.traits import ColumnSet


@dataclass(frozen=True, slots=True, eq=False)
class RecordApply(Apply):
    """A user's function on each record.

    Attributes:
        key: serde of keys that results have of their own; None: they have that of the record.
    """

    reads = ColumnSet.ALL
    # As a rule: what stands before must know that its timestamps may count after this node.
    keeps = ColumnSet.TIME

    key: Serde[Any] | None

    def canonical(self) -> list[Any]:
        """The serde of keys too."""
        return [*Apply.canonical(self), self.key.name if self.key else None]


@dataclass(frozen=True, slots=True, eq=False)
class MapRecords(RecordApply):
    """The results are the new records."""


@dataclass(frozen=True, slots=True, eq=False)
class FlatMapRecords(RecordApply):
    """The items of the results are the new records."""

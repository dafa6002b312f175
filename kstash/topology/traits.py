"""What nodes say of themselves: the columns that they need, and the stores that they keep."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from kstash.ports.state import StoreSpec
from kstash.serdes import Serde


class ColumnSet(enum.Flag):
    """Columns of records: those that a node reads or keeps decide what is decoded and shipped."""

    NONE = 0
    KEY = enum.auto()
    VALUE = enum.auto()
    BOTH = KEY | VALUE


@dataclass(frozen=True, slots=True)
class KeyedStore:
    """A store that a node keeps: one value for each key.

    Attributes:
        name: unique in the application.
        verb: the method that made it, which says what its values mean.
        key: serde of the keys.
        value: serde of the values.
    """

    name: str
    verb: str
    key: Serde[Any]
    value: Serde[Any]

    @property
    def contents(self) -> str:
        """What it holds, as START says it: a store of other contents cannot be taken over."""
        return f"{self.verb} {self.key.name} -> {self.value.name}"

    @property
    def spec(self) -> StoreSpec:
        """What a state backend needs to know of it."""
        return StoreSpec(self.name, self.value.serialize, self.value.deserialize)

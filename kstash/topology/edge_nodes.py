"""The nodes that give records other keys, and other tasks where they are wide; see `nodes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kstash.serdes import Serde
from kstash.topology.nodes import Node
from kstash.topology.traits import ColumnSet
from kstash.topology.user_code import function_name


@dataclass(frozen=True, slots=True, eq=False)
class EdgeNode(Node):
    """A repartition topic, where it is wide; keys are its own from there on.

    Attributes:
        is_always_wide: whether it is even where no keyed state follows.
        name: of the edge, or None: that of the stateful operator after it.
        key: serde of the key.
        value: serde of the value, or None when it is not known.
    """

    kind = "keyby"
    reads = ColumnSet.TIME | ColumnSet.HEADERS
    keeps = ~ColumnSet.KEY
    spreads = True
    is_always_wide: ClassVar[bool]

    name: str | None
    key: Serde[Any]
    value: Serde[Any] | None

    def canonical(self) -> list[Any]:
        """What travels, under which name."""
        value = self.value.name if self.value else None
        return [self.kind, self.is_always_wide, self.name, self.key.name, value]


@dataclass(frozen=True, slots=True, eq=False)
class KeyBy(EdgeNode):
    """A new key for each record, and a repartition topic where keyed state follows.

    Attributes:
        function: makes the key of the value.
    """

    reads = ColumnSet.VALUE | ColumnSet.TIME | ColumnSet.HEADERS
    is_always_wide = False

    function: Callable[[Any], Any]

    def label(self) -> str:
        """After the function."""
        return f"key_by({function_name(self.function)})"


@dataclass(frozen=True, slots=True, eq=False)
class Repartition(EdgeNode):
    """All records pass through a topic, spread by the key that they have."""

    reads = ~ColumnSet.VALUE
    is_always_wide = True

    def label(self) -> str:
        """After its name."""
        return f"repartition({self.name})"

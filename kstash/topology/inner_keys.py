"""The node that takes the windows off the keys of results; see `kstash.topology.nodes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kstash.serdes import Serde
from kstash.topology.nodes import Node
from kstash.topology.traits import ColumnSet


@dataclass(frozen=True, slots=True, eq=False)
class InnerKey(Node):
    """Each record has the key of its window.

    Records stay where they are: keys of windows are spread over partitions by the keys within them.

    Attributes:
        key: serde of those.
    """

    kind = "inner_key"
    reads = ColumnSet.KEY
    keeps = ~ColumnSet.KEY

    key: Serde[Any]

    def canonical(self) -> list[Any]:
        """The serde of the keys."""
        return [self.kind, self.key.name]


def is_spread_by_inner_keys(node: Node) -> bool:
    """Whether kstash itself has put the records of a node where the keys within theirs belong.

    It has where they are of windows or of an edge: who writes a user topic may do otherwise.
    """
    if node.spreads:
        return True
    return bool(node.parents) and all(map(is_spread_by_inner_keys, node.parents))

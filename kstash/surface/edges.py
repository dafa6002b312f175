"""What `Stream.key_by` and `Stream.repartition` declare."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kstash.serdes import Serde
from kstash.surface.checks import check_name, check_serde
from kstash.topology.edge_nodes import EdgeNode
from kstash.topology.nodes import Node
from kstash.topology.user_code import user_location

if TYPE_CHECKING:  # which declares edges
    from kstash.surface.streams import Stream


def edge_of(
    stream: Stream[Any, Any],
    kind: type[EdgeNode],
    name: str | None,
    key: Serde[Any],
    value: Serde[Any] | None,
    **functions: Callable[[Any], Any],
) -> tuple[Serde[Any] | None, Node]:
    """The serde of the values that pass, where it is known, and the node."""
    location = user_location()
    serde = stream._value_serde if value is None else value
    if name is not None:
        check_name(name, location)
    check_serde("key", key, location, is_needed=True)
    check_serde("value", serde, location)
    node = stream._graph.add(
        lambda index: kind(
            index, (stream._node,), location, name=name, key=key, value=serde, **functions
        )
    )
    return serde, node

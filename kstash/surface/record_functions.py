"""What `map_records` and `flat_map_records` declare."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kstash.serdes import Serde
from kstash.surface.checks import check_function, check_serde
from kstash.topology.record_nodes import RecordApply
from kstash.topology.user_code import user_location

if TYPE_CHECKING:  # which makes streams
    from kstash.surface.streams import Stream


def record_stream(
    stream: Stream[Any, Any],
    kind: type[RecordApply],
    verb: str,
    function: Callable[..., Any],
    key: Serde[Any] | None,
) -> Stream[Any, Any]:
    """The stream after a function of records: keyed as before, unless results have keys of theirs.

    Raises:
        TopologyError: no such function, or no serde.
    """
    location = user_location()
    check_function(verb, function, location, "record")
    check_serde("key", key, location)
    node = stream._graph.add(
        lambda index: kind(index, (stream._node,), location, verb=verb, function=function, key=key)
    )
    if key is None:
        return stream._of_other_values(node, None)
    reason = f"{verb} gives records keys of their own"
    return stream._graph.stream(node, key=key, value=None, unkeyed=reason)

"""What `KeyedStream.inner_key` declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kstash.errors import TopologyError
from kstash.topology.inner_keys import InnerKey, is_spread_by_inner_keys
from kstash.topology.user_code import user_location

if TYPE_CHECKING:  # which makes streams
    from kstash.surface.keyed import KeyedStream
    from kstash.surface.streams import Stream


def unwindowed(stream: KeyedStream[Any, Any]) -> Stream[Any, Any]:
    """The stream of the same records under the keys within those of their windows.

    Raises:
        TopologyError: there are none, or records need not be where they belong.
    """
    location = user_location()
    key = stream._key_serde
    inner = None if key is None else key.inner
    if inner is None:
        name = None if key is None else key.name
        raise TopologyError(
            f"inner_key takes the windows off keys of windows, and these are {name!r}: the stream "
            "is keyed by them as it is",
            location,
        )
    if not is_spread_by_inner_keys(stream._node):
        raise TopologyError(
            "inner_key after a topic of windowed keys, which is spread as its writer did: use "
            "records() and key_by(lambda record: record.key.key, key=...)",
            location,
        )
    node = stream._graph.add(lambda index: InnerKey(index, (stream._node,), location, key=inner))
    return stream._graph.stream(node, key=inner, value=stream._value_serde)

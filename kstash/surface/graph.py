"""The graph of an application: what is declared so far, and what its streams are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kstash.errors import TopologyError
from kstash.escape import short_repr
from kstash.serdes import Serde, raw
from kstash.surface.checks import check_topic
from kstash.surface.keyed import KeyedStream
from kstash.surface.streams import Stream
from kstash.surface.times import Times
from kstash.surface.windows import WindowedStream, windowed_stream
from kstash.topology import nodes as n


class Graph:
    """Nodes in the order of their declaration, and the names that are taken.

    It alone decides whether a stream is keyed: what types cannot say, such as two serdes of one
    type whose bytes differ, is known here.

    Attributes:
        nodes: what is declared, by index.
        is_watermark: whether time is the smallest over all that feeds a task.
    """

    def __init__(self, *, is_watermark: bool = False) -> None:
        self.is_watermark = is_watermark
        self.nodes: list[n.Node] = []
        self._sources: dict[str, tuple[n.Source, Times, n.Node]] = {}
        self._keepers: dict[str, n.Node] = {}
        self._ports: dict[tuple[int, str], n.Node] = {}

    def add(self, make: Callable[[int], n.Node]) -> n.Node:
        """Declare a node; `make` is given its index. The names of its stores are taken then.

        Raises:
            TopologyError: one of them is taken already.
        """
        node = make(len(self.nodes))
        for store in node.stores:
            keeper = self._keepers.get(store.name)
            if keeper is not None:
                raise TopologyError(
                    f"{keeper.title} and {node.label()} would both keep a store {store.name!r}: "
                    "rename one of them",
                    node.location,
                )
        self._keepers.update({store.name: node for store in node.stores})
        self.nodes.append(node)
        return node

    def source(
        self,
        topic: str,
        *,
        key: Serde[Any] | None,
        value: Serde[Any],
        immediate_of: str | None,
        times: Times,
        location: str,
    ) -> Stream[Any, Any]:
        """The records of one topic, which is read once however often it is declared.

        Raises:
            TopologyError: a name that Kafka does not allow, or other serdes or times than before.
        """
        check_topic("stream", topic, location)
        key_serde = key or raw
        known = self._sources.get(topic)
        if known is None:
            source = n.Source(
                len(self.nodes),
                (),
                location,
                topic=topic,
                key=key_serde,
                value=value,
                immediate_of=immediate_of,
            )
            self.nodes.append(source)
            watermark = self.is_watermark
            timed = times.node(len(self.nodes), source, topic, is_watermark=watermark)
            if timed is not None:
                self.nodes.append(timed)
            known = self._sources[topic] = source, times, timed or source
        source, said, end = known
        now = (key_serde, value, immediate_of, times)
        if (source.key, source.value, source.immediate_of, said) != now:
            raise TopologyError(
                f"topic {topic!r} was declared otherwise at {source.location}: use that stream",
                location,
            )
        unkeyed = None if key else f"no key= was given for topic {topic!r} in stream()"
        return self.stream(end, key=key_serde, value=value, unkeyed=unkeyed)

    def merged(self, streams: tuple[Stream[Any, Any], ...], location: str) -> Stream[Any, Any]:
        """The union of streams; what they disagree about is not known after it.

        Raises:
            TopologyError: only one is given, or what is no stream, or is of another graph.
        """
        if len(streams) == 1:
            raise TopologyError("merge needs another stream", location)
        given: tuple[object, ...] = streams
        if strangers := [other for other in given if not isinstance(other, Stream)]:
            hint = ""
            if isinstance(strangers[0], list | tuple | set | frozenset):
                hint = ": give streams one by one, as merge(a, b)"
            raise TopologyError(
                f"merge takes streams, not {short_repr(strangers[0])}{hint}", location
            )
        if any(stream._graph is not self for stream in streams):
            raise TopologyError("merge of streams of two applications", location)
        parents = tuple(stream._node for stream in streams)
        node = self.add(lambda index: n.Merge(index, parents, location))
        keys = {serde.name if serde else None for serde in (s._key_serde for s in streams)}
        values = {serde.name if serde else None for serde in (s._value_serde for s in streams)}
        unkeyed = next((stream._unkeyed for stream in streams if stream._unkeyed), None)
        if len(keys) > 1:
            names = ", ".join(sorted(map(str, keys)))
            unkeyed = f"the merged streams have different keys ({names})"
        return self.stream(
            node,
            key=streams[0]._key_serde if len(keys) == 1 else None,
            value=streams[0]._value_serde if len(values) == 1 else None,
            unkeyed=unkeyed,
        )

    def stream(
        self,
        node: n.Node,
        *,
        key: Serde[Any] | None,
        value: Serde[Any] | None,
        unkeyed: str | None = None,
    ) -> Stream[Any, Any]:
        """The records that a node makes: keyed, or with the reason why no state can follow."""
        kind: type[Stream[Any, Any]] = KeyedStream if unkeyed is None else Stream
        return kind(self, node, _key_serde=key, _value_serde=value, _unkeyed=unkeyed)

    def windowed(
        self,
        stream: KeyedStream[Any, Any],
        windows: object,
        *,
        location: str,
        **options: object,
    ) -> WindowedStream[Any, Any]:
        """A keyed stream parted by time."""
        return windowed_stream(stream, windows, location=location, **options)

    def aside(self, parent: n.Node, output: str) -> Stream[Any, Any]:
        """What a node sends to another output than that of its results, under its records' keys."""
        node = self.port(parent, output, parent.location)
        return self.stream(node, key=parent.record_key, value=None)

    def port(self, parent: n.Node, output: str, location: str) -> n.Node:
        """The node of an output of another one: there is one, however often it is asked for."""
        known = self._ports.get((parent.index, output))
        if known is None:
            known = self.add(lambda index: n.Port(index, (parent,), location, output))
            self._ports[parent.index, output] = known
        return known

"""Streams that a test reads although they go to no topic: side outputs, late records, any other.

Each gets a sink to a topic of its own in the program that is driven. So it is read like any output:
by the reader rule, once, across crashes too.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from kstash.app import App
from kstash.errors import ConfigError
from kstash.escape import short_repr
from kstash.serdes import Serde
from kstash.surface.streams import Stream
from kstash.topology.compiler import compile_topology
from kstash.topology.model import Topology
from kstash.topology.nodes import Node, Sink

_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+\b")


class Taps:
    """The streams of one application that a test reads beside its topics.

    Args:
        app: the application.
        streams: of it.

    Raises:
        ConfigError: one of them is no stream, or is of another application.
    """

    def __init__(self, app: App, streams: Sequence[Stream[Any, Any]]) -> None:
        self._app = app
        self._nodes: list[Node] = []
        self._sinks: list[Sink] = []
        count = len(app._graph.nodes)
        for number, stream in enumerate(streams):
            check_stream(stream)
            if stream._graph is not app._graph:
                raise ConfigError(f"{stream!r} is a stream of another application")
            self._nodes.append(stream._node)
            self._sinks.append(
                Sink(
                    count + number,
                    (stream._node,),
                    stream._node.location,
                    topic=f"{app.application_id}-stream-{number}",
                    key=stream._key_serde or as_it_is(),
                    value=stream._value_serde or as_it_is(),
                    delivery="immediate",
                )
            )

    def topology(self) -> Topology:
        """The program with the sinks.

        Raises:
            TopologyError: it cannot work.
        """
        if not self._sinks:
            return self._app.topology()
        graph = self._app._graph
        return compile_topology(
            self._app.application_id,
            [*graph.nodes, *self._sinks],
            is_watermark=graph.is_watermark,
        )

    def topic_of(self, stream: Stream[Any, Any]) -> str:
        """Where a stream is read.

        Raises:
            ConfigError: it is none, or was not named before the worker was started.
        """
        check_stream(stream)
        for node, sink in zip(self._nodes, self._sinks, strict=True):
            if _is_same(node, stream._node):
                return sink.topic
        raise ConfigError(
            f"{stream!r} goes to no topic that the driver knows: name it before, as "
            "TestDriver(app, streams=[...])"
        )


def check_stream(stream: object) -> None:
    """Refuse what is no stream.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(stream, Stream):
        raise ConfigError(f"a test reads topics and streams, not {short_repr(stream)}")


def _is_same(one: Node, other: Node) -> bool:
    """Whether two nodes are the same, or the same output of one: `side()` makes one each time."""
    if one.is_port and other.is_port:
        return one.parents == other.parents and one.label() == other.label()
    return one is other


def as_it_is() -> Serde[Any]:
    """A serde for tests, of whatever a stream holds: what is read is a copy of what was sent.

    It knows values again by what `repr` says of them.
    """
    known: dict[bytes, Any] = {}

    def serialize(value: Any) -> bytes:
        said = repr(value)
        if _ADDRESS.search(said):
            raise TypeError(
                f"{short_repr(value)} does not say what it holds, so that a replay could not "
                "compare it: give its class a __repr__, or write the stream by to(), with a serde"
            )
        data = said.encode()
        known.setdefault(data, copy.deepcopy(value))
        return data

    return Serde("as it is", serialize, lambda data: copy.deepcopy(known[data]))

"""What a source says of the time of its records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kstash.errors import TopologyError
from kstash.surface.checks import check_function
from kstash.topology.intervals import check_interval
from kstash.topology.nodes import Node
from kstash.topology.time_nodes import EventTime

TimestampFunction = Callable[[Any], int | datetime]
"""Makes Unix milliseconds, or a moment with a time zone, of a value."""


@dataclass(frozen=True, slots=True)
class Times:
    """The attributes of `EventTime`, or nothing of it."""

    function: TimestampFunction | None = None
    out_of_order_ms: int = 0
    max_ahead_ms: int | None = None

    @classmethod
    def of(
        cls,
        timestamp: TimestampFunction | None,
        out_of_order: timedelta | None,
        max_ahead: timedelta | None,
        location: str,
    ) -> Times:
        """What users have declared.

        Raises:
            TopologyError: something that it cannot be, with the location of the user's code.
        """
        ahead_ms = None
        if timestamp is not None:
            check_function("timestamp=", timestamp, location, "value")
        if max_ahead is not None:
            ahead_ms = check_interval("max_ahead", max_ahead, location, least=0)
            if timestamp is None:
                raise TopologyError(
                    "max_ahead compares what a function given as timestamp= makes with the "
                    "timestamp of the Kafka record, and there is none: how far that may be ahead, "
                    "the topic says to Kafka by message.timestamp.after.max.ms",
                    location,
                )
        if out_of_order is None:
            return cls(timestamp, max_ahead_ms=ahead_ms)
        out_of_order_ms = check_interval("out_of_order", out_of_order, location, least=0)
        return cls(timestamp, out_of_order_ms, ahead_ms)

    def node(self, index: int, source: Node, topic: str) -> EventTime | None:
        """The node after the source; None where the records have their own time."""
        if self == Times():
            return None
        return EventTime(
            index,
            (source,),
            source.location,
            topic=topic,
            function=self.function,
            out_of_order_ms=self.out_of_order_ms,
            max_ahead_ms=self.max_ahead_ms,
        )

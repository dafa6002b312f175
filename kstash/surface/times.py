"""What a source says of the time of its records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kstash.errors import TopologyError
from kstash.surface.checks import check_choice, check_function
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
    is_idle_held: bool = False

    @classmethod
    def of(
        cls,
        timestamp: TimestampFunction | None,
        out_of_order: timedelta | None,
        max_ahead: timedelta | None,
        idle: object,
        location: str,
    ) -> Times:
        """What users have declared.

        Raises:
            TopologyError: something that it cannot be, with the location of the user's code.
        """
        check_choice("idle", idle, ("clock", "hold"), location)
        is_held = idle == "hold"
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
            return cls(timestamp, max_ahead_ms=ahead_ms, is_idle_held=is_held)
        out_of_order_ms = check_interval("out_of_order", out_of_order, location, least=0)
        return cls(timestamp, out_of_order_ms, ahead_ms, is_idle_held=is_held)

    def node(self, index: int, source: Node, topic: str, *, is_watermark: bool) -> EventTime | None:
        """The node after the source; None where the records have their own time."""
        if self == Times() and not is_watermark:
            return None
        return EventTime(
            index,
            (source,),
            source.location,
            topic=topic,
            function=self.function,
            out_of_order_ms=self.out_of_order_ms,
            max_ahead_ms=self.max_ahead_ms,
            is_idle_held=self.is_idle_held,
        )

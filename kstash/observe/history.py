"""A worker's last minutes, and its last errors: bounded, for the status page."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import structlog

from kstash.observe import schema

CLIENT_SAYS = "the Kafka client says"
UNREACHABLE = "broker unreachable, waiting"
REACHABLE = "broker reachable again"
"""Not an error but the end of one: without this line the outage would seem to last."""

POINT_INTERVAL_S = 2.0
POINTS_MAX = 150
ERRORS_MAX = 20
CLIENT_LINES_MAX = 5
"""Most lines of the Kafka client that are kept: in an outage they would push out all others."""
TEXT_LENGTH_MAX = 1000
"""Longest text of an error that is kept: it may contain a record."""


class Counted(Protocol):
    """The metrics, as far as they are read here."""

    def total(self, name: str) -> float:
        """A counter over all its labels, or a gauge without labels."""

    def summed(self, name: str) -> tuple[float, float]:
        """A histogram over all its labels: seconds in all, and how many times."""

    def buckets(self, name: str) -> dict[float, float]:
        """A histogram over all its labels: how many were at most that long, by seconds."""


class History:
    """The last `POINTS_MAX` intervals of a worker.

    Args:
        metrics: of the worker.
        now: monotonic seconds.
        wall: Unix time in seconds.
    """

    def __init__(self, metrics: Counted, now: float, wall: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._wall = wall
        self._points: deque[schema.Point] = deque(maxlen=POINTS_MAX)
        self._since = now
        self._seen = (0.0, 0.0, 0.0, 0.0)

    @property
    def points(self) -> tuple[schema.Point, ...]:
        """The oldest first."""
        return tuple(self._points)

    def sample(self, now: float) -> None:
        """Add a point when `POINT_INTERVAL_S` has passed."""
        passed_s = now - self._since
        if passed_s < POINT_INTERVAL_S:
            return
        self._since = now
        total = self._metrics.total
        before = self._seen
        seconds, batches = self._metrics.summed("end_to_end_seconds")
        self._seen = total("records_in"), total("records_out"), seconds, batches
        came, left, latency_s, count = (
            new - old for new, old in zip(self._seen, before, strict=True)
        )
        self._points.append(
            schema.Point(
                time=self._wall(),
                records_in_per_second=came / passed_s,
                records_out_per_second=left / passed_s,
                latency_seconds=latency_s / count if count else None,
                lineage_unacked_bytes=int(total("lineage_unacked_bytes")),
                state_bytes=int(total("state_memory_bytes")),
            )
        )


complaints: deque[schema.LoggedError] = deque(maxlen=ERRORS_MAX)
"""The newest warnings and errors of this process's log, the oldest first."""


def note_complaint(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """A processor of the log; it follows those that add a line's level and logger name."""
    is_complaint = event.get("level") in ("warning", "error", "critical")
    if is_complaint or event.get("event") == REACHABLE:
        made = schema.LoggedError(
            time=time.time(),
            logger=str(event.get("logger", "")),
            event=_short(event.get("event", "")),
            error=_error(event),
            place=_place(event),
        )
        if made.event == CLIENT_SAYS:
            same = [found for found in tuple(complaints) if found.event == CLIENT_SAYS]
            with suppress(ValueError):  # another thread was faster
                for old in same[: max(0, len(same) - CLIENT_LINES_MAX + 1)]:
                    complaints.remove(old)
        complaints.append(made)
    return event


def why_unreachable(within_s: float) -> str | None:
    """The last reason in the log, of so many seconds, why a broker could not be reached."""
    since = time.time() - within_s
    said = {found.event: found.error for found in tuple(complaints) if found.time >= since}
    return said.get(UNREACHABLE) or said.get(CLIENT_SAYS)


def _error(event: structlog.typing.EventDict) -> str | None:
    if (away_s := event.get("away_seconds")) is not None:
        return f"after {away_s} s"
    # Lines have different names for the reason; `message` is the Kafka client's text.
    names = ("reason", "exc_info", "error", "message")
    found: Any = next((event[name] for name in names if event.get(name)), None)
    if isinstance(found, tuple):
        found = found[1]
    if isinstance(found, BaseException):
        return _short(f"{type(found).__name__}: {found}")
    return _short(found) if isinstance(found, str) else None


def _place(event: structlog.typing.EventDict) -> str | None:
    parts = []
    if operator := event.get("operator"):
        parts.append(str(operator))
    if (topic := event.get("topic")) is not None:
        place = (topic, event.get("partition"), event.get("offset"))
        parts.append("/".join(str(part) for part in place if part is not None))
    if (group := event.get("group")) is not None:
        parts.append(f"task group {group}")
    return _short(" at ".join(parts)) if parts else None


def _short(text: object) -> str:
    return str(text)[:TEXT_LENGTH_MAX]

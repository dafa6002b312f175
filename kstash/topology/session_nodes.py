"""The node of session windows, and how they are kept; see `kstash.topology.nodes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kstash.serdes import Serde, msgpack
from kstash.topology.intervals import interval_text
from kstash.topology.keyed_nodes import Stateful
from kstash.topology.traits import KeyedStore, time_store
from kstash.topology.window_nodes import WindowFold, WindowKind
from kstash.topology.window_places import queue_store
from kstash.topology.windowed import Windowed, windowed_by_session


@dataclass(frozen=True, slots=True)
class Sessions(WindowKind):
    """Windows that reach from the first to the last of records close to each other.

    Attributes:
        gap_ms: the largest distance between two records of one session; 1 or more.
    """

    gap_ms: int

    def __str__(self) -> str:
        """As they are declared."""
        return f"session({interval_text(self.gap_ms)})"

    @property
    def measures(self) -> dict[str, int | str]:
        """The gap."""
        return {"gap_ms": self.gap_ms}

    def result_key(self, key: Serde[Any]) -> Serde[Windowed[Any]]:
        """That of Kafka Streams' session windows."""
        return windowed_by_session(key)

    def problem(self, fold: Stateful) -> str | None:
        """Where two sessions become one, so do their states."""
        if fold.merging == "missing":
            return "two sessions may become one: give the function of two states as merge="
        return None


@dataclass(slots=True)
class Session:
    """One session of a key.

    Attributes:
        start_ms: timestamp of its first record.
        end_ms: timestamp of its last record.
        queued_end_ms: with `queued_start_ms`, where it stands in the queue: at its end and start,
            or before them.
        queued_start_ms: see there.
        state: of the fold.
    """

    start_ms: int
    end_ms: int
    queued_end_ms: int
    queued_start_ms: int
    state: Any


@dataclass(frozen=True, slots=True, eq=False)
class SessionFold(WindowFold[Sessions]):
    """A state for each session."""

    @property
    def closes_after_ms(self) -> int:
        """Gap, grace and the millisecond in which a record could still belong to it."""
        return self.windows.gap_ms + self.grace_ms + 1

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """The open sessions of each key, how far time has come, and the order of closing."""
        fold = self.fold
        sessions = KeyedStore(
            name=self.name,
            verb=fold.verb,
            key=fold.key,
            value=sessions_of(fold.state),
            detail=self.detail,
        )
        queue = queue_store(self.name, holds="windows")
        return (sessions, time_store(self.name), queue, *self.unsent_stores)


Sessions.node = SessionFold


def sessions_of(state: Serde[Any]) -> Serde[list[Session]]:
    """The serde of the open sessions of a key.

    Args:
        state: serde of the states.
    """

    def serialize(sessions: list[Session]) -> bytes:
        return msgpack.serialize(
            [
                (s.start_ms, s.end_ms, s.queued_end_ms, s.queued_start_ms, state.serialize(s.state))
                for s in sessions
            ]
        )

    def deserialize(data: bytes) -> list[Session]:
        return [
            Session(start, end, queued_end, queued_start, state.deserialize(made))
            for start, end, queued_end, queued_start, made in msgpack.deserialize(data)
        ]

    return Serde(f"sessions of {state.name}", serialize, deserialize)

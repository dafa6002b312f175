"""The node of sliding windows, and how they are kept; see `kstash.topology.nodes`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kstash.serdes import Serde, msgpack
from kstash.topology.intervals import interval_text
from kstash.topology.keyed_nodes import Stateful
from kstash.topology.traits import ColumnSet, KeyedStore, time_store
from kstash.topology.window_nodes import WindowFold, WindowKind
from kstash.topology.window_places import queue_store
from kstash.topology.windowed import Windowed, windowed_by_time


@dataclass(frozen=True, slots=True)
class Sliding(WindowKind):
    """Windows of one size around records: one ends at each, and one begins after each.

    Attributes:
        size_ms: from the start to the end of each, which it holds too; 1 or more.
    """

    size_ms: int

    def __str__(self) -> str:
        """As they are declared."""
        return f"sliding({interval_text(self.size_ms)})"

    @property
    def measures(self) -> dict[str, int | str]:
        """The size."""
        return {"size_ms": self.size_ms}

    def result_key(self, key: Serde[Any]) -> Serde[Windowed[Any]]:
        """That of Kafka Streams' time windows."""
        return windowed_by_time(key, self.size_ms)

    def problem(self, fold: Stateful) -> str | None:
        """Records are kept for windows to come."""
        if ColumnSet.VALUE in fold.reads and fold.window_values is None:
            return (
                "sliding windows keep the values of records, but their serde is not known here: "
                "give it as values="
            )
        return WindowKind.problem(self, fold)  # `super` does not go with slots


@dataclass(slots=True)
class Slides:
    """What is kept for a key: its windows and its records, each as columns.

    Attributes:
        starts: of windows, rising: their first milliseconds.
        latest: the largest timestamp in each.
        states: of the fold, for each; None: it was deleted.
        stamps: of each record that a window to come may hold or begin after: its timestamp; they
            rise, and equal ones stand in the order of arrival.
        numbers: of each, its number in the order of arrival.
        values: of each, encoded.
        arrivals: number of the next record.
    """

    starts: list[int] = field(default_factory=list)
    latest: list[int] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    arrivals: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SlidingFold(WindowFold[Sliding]):
    """A state for each sliding window."""

    @property
    def closes_after_ms(self) -> int:
        """Size, which it ends with, and grace."""
        return self.windows.size_ms + self.grace_ms + 1

    @property
    def drops_nulls(self) -> bool:
        """Counts too, as those of Kafka Streams do."""
        return True

    @property
    def reads(self) -> ColumnSet:  # type: ignore[override] # what the fold reads, which varies
        """Whether a value is null is asked for in any case."""
        return self.fold.reads | ColumnSet.VALUE | ColumnSet.TIME

    @property
    def values(self) -> Serde[Any] | None:
        """Serde of the values of records, which are kept; None: the fold does not read them."""
        return self.fold.window_values

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """Windows and records of each key, how far time has come, and the order of closing."""
        fold, values = self.fold, self.values
        slides = KeyedStore(
            name=self.name,
            verb=fold.verb,
            key=fold.key,
            value=slides_of(fold.state, "nothing" if values is None else values.name),
            detail=self.detail,
        )
        time = time_store(self.name, counts_windows=True)
        return (slides, time, queue_store(self.name), *self.unsent_stores)


Sliding.node = SlidingFold


def slides_of(state: Serde[Any], values: str) -> Serde[Slides]:
    """The serde of what is kept for a key.

    Args:
        state: serde of the states.
        values: name of the serde of the values.
    """

    def serialize(slides: Slides) -> bytes:
        states = [None if made is None else state.serialize(made) for made in slides.states]
        windows = list(zip(slides.starts, slides.latest, states, strict=True))
        records = list(zip(slides.stamps, slides.numbers, slides.values, strict=True))
        return msgpack.serialize((windows, records, slides.arrivals))

    def deserialize(data: bytes) -> Slides:
        windows, records, arrivals = msgpack.deserialize(data)
        starts, latest, states = _columns(windows)
        return Slides(
            starts,
            latest,
            [None if made is None else state.deserialize(made) for made in states],
            *_columns(records),
            arrivals,
        )

    return Serde(f"sliding windows of {state.name} over {values}", serialize, deserialize)


def _columns(rows: list[list[Any]]) -> tuple[list[Any], list[Any], list[Any]]:
    """Rows of three fields by columns."""
    first, second, third = zip(*rows, strict=True) if rows else ((), (), ())
    return list(first), list(second), list(third)

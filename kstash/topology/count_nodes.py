"""The node of windows by the number of records, and how they are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kstash.serdes import Serde, msgpack
from kstash.topology.traits import OUT, KeyedStore
from kstash.topology.window_nodes import DROPS, WindowFold, WindowKind


@dataclass(frozen=True, slots=True)
class ByNumber(WindowKind):
    """Windows of so many records of a key, one after the other as they come.

    Attributes:
        size: records of a window; 1 or more.
        step: records from the first one of a window to the first one of the next; 1 to `size`.
    """

    emits = ("final",)
    goes_by_time = False

    size: int
    step: int

    def __str__(self) -> str:
        """As they are declared."""
        if self.step == self.size:
            return f"tumbling_count({self.size})"
        return f"hopping_count({self.size}, {self.step})"

    @property
    def measures(self) -> dict[str, int | str]:
        """Both numbers of records."""
        return {"size": self.size, "step": self.step}

    def result_key(self, key: Serde[Any]) -> Serde[Any]:
        """The key itself: a window has no times that it is between."""
        return key


@dataclass(slots=True)
class OpenCount:
    """A window that is not full.

    Attributes:
        count: of its records so far.
        latest_ms: the largest timestamp of them.
        state: of the fold; None: it was deleted.
    """

    count: int
    latest_ms: int
    state: Any


@dataclass(slots=True)
class OpenCounts:
    """What is kept for a key.

    Attributes:
        until: records before the one that begins the next window.
        windows: those that are not full, the oldest first.
    """

    until: int = 0
    windows: list[OpenCount] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class CountedFold(WindowFold[ByNumber]):
    """A state for each key and window that is not full."""

    may_leave_work = False
    closes_at_end = False

    @property
    def closes_after_ms(self) -> int:
        """It closes with a record: nothing of it is held back."""
        return 0

    @property
    def ports(self) -> tuple[str, ...]:
        """The results: nothing comes too late."""
        return (OUT,)

    @property
    def drops(self) -> tuple[str, ...]:
        """What has no key, or no value."""
        return DROPS[:2]

    @property
    def stores(self) -> tuple[KeyedStore, ...]:
        """The windows of each key."""
        fold = self.fold
        counts = counts_of(fold.state)
        return (KeyedStore(self.name, fold.verb, fold.key, counts, detail=self.detail),)


ByNumber.node = CountedFold


def counts_of(state: Serde[Any]) -> Serde[OpenCounts]:
    """The serde of the windows of a key.

    Args:
        state: serde of the states.
    """

    def serialize(counts: OpenCounts) -> bytes:
        windows = [
            (w.count, w.latest_ms, None if w.state is None else state.serialize(w.state))
            for w in counts.windows
        ]
        return msgpack.serialize((counts.until, windows))

    def deserialize(data: bytes) -> OpenCounts:
        until, windows = msgpack.deserialize(data)
        return OpenCounts(
            until,
            [
                OpenCount(count, latest, None if made is None else state.deserialize(made))
                for count, latest, made in windows
            ],
        )

    return Serde(f"counted windows of {state.name}", serialize, deserialize)

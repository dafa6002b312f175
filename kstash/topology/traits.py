"""What nodes say of themselves: the columns that they need, and the stores that they keep."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from kstash.ports.state import StoreKind, StoreSpec
from kstash.serdes import Serde, int_text, raw

OUT = "out"
"""The output that a node has as a rule."""

PART_RECORDS = 500
"""How many results an operator sends before it leaves the rest as work (`Scope.later`). A constant:
where branches meet again, it is part of what the program means."""

TIME_VERB = "time"
"""The verb of stores that hold the stream time of an operator."""


STAMP_BYTES = 8
"""The time of a stamped value: Unix milliseconds, signed, big-endian."""


def stamp(at_ms: int) -> bytes:
    """What stands in front of a value that was written at a time."""
    return at_ms.to_bytes(STAMP_BYTES, "big", signed=True)


def stamped_at_ms(data: bytes) -> int:
    """When a stamped value was written."""
    return int.from_bytes(data[:STAMP_BYTES], "big", signed=True)


FlushReason = Literal["idle", "interval", "end"]
"""Why an operator does what neither a record nor a time of the clock decides: no record has reached
it for long, or some time has passed, or a run is at its end that closes windows."""

Holdings = Literal["", "windows", "timers", "wall_timers"]
"""What the entries of a store are, where their number says how much is open or pending."""


class ColumnSet(enum.Flag):
    """Columns of records: those that nodes read decide what is decoded, carried and shipped."""

    NONE = 0
    KEY = enum.auto()
    VALUE = enum.auto()
    TIME = enum.auto()
    HEADERS = enum.auto()
    ALL = KEY | VALUE | TIME | HEADERS


class SourceTimes(NamedTuple):
    """When what the records of a source tell of has happened.

    Attributes:
        function: makes the timestamp of the value; None: it is that of the Kafka record.
        max_ahead_ms: how much larger it may be than that of the Kafka record; None: any.
    """

    function: Callable[[Any], int | datetime] | None
    max_ahead_ms: int | None


@dataclass(frozen=True, slots=True)
class KeyedStore:
    """A store that a node keeps.

    Attributes:
        name: unique in the application.
        verb: the method that made it, which says what its values mean.
        key: serde of the keys.
        value: serde of the values.
        kind: what the operator can do with it.
        is_stamped: whether it holds bytes, in front of which stands when they were written, so
            that each value is encoded as it is set.
        show: makes what people know of a value; None: it is that.
        detail: what else its contents depend on.
        holds: what people count its entries as; empty: as entries of a state.
        counts_windows: whether it holds beside a time how many windows are open.
    """

    name: str
    verb: str
    key: Serde[Any]
    value: Serde[Any]
    kind: StoreKind = StoreKind.KEYED
    is_stamped: bool = False
    show: Callable[[Any], Any] | None = None
    detail: str = ""
    holds: Holdings = ""
    counts_windows: bool = False

    @property
    def contents(self) -> str:
        """What it holds, as START says it: a store of other contents cannot be taken over."""
        kind = "" if self.kind is StoreKind.KEYED else f" ({self.kind.value})"
        detail = f" by {self.detail}" if self.detail else ""
        return f"{self.verb}{kind}{detail} {self.key.name} -> {self.value.name}"

    @property
    def is_time(self) -> bool:
        """Whether it holds the stream time of its operator."""
        return self.verb == TIME_VERB

    @property
    def spec(self) -> StoreSpec:
        """What a state backend needs to know of it."""
        value = raw if self.is_stamped else self.value
        return StoreSpec(self.name, value.serialize, value.deserialize, self.kind)

    def shown(self, value: Any) -> Any:
        """A value of the store, as people know it."""
        if self.show is not None:
            return self.show(value)
        return self.value.deserialize(value[STAMP_BYTES:]) if self.is_stamped else value


def time_store(operator: str, *, counts_windows: bool = False) -> KeyedStore:
    """The store with the stream time of an operator, for the `stores` of its node.

    It comes after those of keys: the first one of a node has the keys of its records.

    Args:
        operator: name of the operator.
        counts_windows: as of `KeyedStore`.
    """
    return KeyedStore(f"{operator}.time", TIME_VERB, raw, int_text, counts_windows=counts_windows)

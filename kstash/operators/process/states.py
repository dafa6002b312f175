"""The states of a processor in a task: what `kstash.topology.keyed_state` declares, over stores.

Each entry begins with the stream time at which it was written. One that has outlived its time to
live is not there for who reads it; `expiry.py` removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from kstash.errors import OutsideCallError
from kstash.operators.process.call import Call
from kstash.operators.process.entries import Entries, KeyedEntries, OrderedEntries
from kstash.ports.state import end_of_prefix
from kstash.topology.item_lists import add_item, cut_before, item_count, items_of
from kstash.topology.keyed_state import KeyedState, List, Map, Value
from kstash.topology.pairs import prefix_of
from kstash.topology.traits import STAMP_BYTES, stamp, stamped_at_ms
from kstash.topology.user_code import user_location


class Bound:
    """What is the same of all kinds.

    Attributes:
        declared: what the user declared.
        attribute: of the processor, where it stands.
        entries: its store.
    """

    def __init__(self, declared: KeyedState, operator: str, call: Call) -> None:
        self.declared = declared
        self.attribute = declared.attribute
        self.name, self.serde, self.ttl_ms = declared.name, declared.serde, declared.ttl_ms
        self._call = call
        name = f"{operator}.{declared.name}" if declared.name else operator
        self.entries: Entries = self._entries(name, call)

    def _entries(self, name: str, call: Call) -> Entries:
        return KeyedEntries(name, call.journal)

    def _key(self) -> bytes:
        """The present key, as the state has it."""
        key = self._call.present
        if key is None:
            self._is_outside()
        return key

    def _is_outside(self) -> NoReturn:
        what = f"self.{self.attribute}, a state of {self._call.label},"
        raise OutsideCallError(what, user_location())

    def live(self, data: bytes | None) -> bytes | None:
        """An entry, unless its time to live is over by now."""
        if data is None or self.ttl_ms is None:
            return data
        is_over = stamped_at_ms(data) + self.ttl_ms <= self._call.time_ms
        return None if is_over else data

    def _write(self, key: bytes, payload: bytes) -> None:
        call = self._call
        # An entry that is there has its time to go already: it is looked at again then.
        if self.ttl_ms is not None and self.entries.read(key) is None:
            call.expiring.append((key, self.name, call.time_ms + self.ttl_ms))
        self.entries.write(key, stamp(call.time_ms) + payload)

    def expire(self, key: bytes, now_ms: int) -> int | None:
        """Remove what of an entry is over; returns when more of it is, None where nothing is left.

        Args:
            key: of the entry.
            now_ms: the stream time.
        """
        assert self.ttl_ms is not None
        data = self.entries.read(key)
        if data is None:
            return None
        at_ms = stamped_at_ms(data) + self.ttl_ms
        if at_ms > now_ms:
            return at_ms
        self.entries.write(key, None)
        return None


class BoundValue(Bound, Value[Any]):
    """A value of the present key."""

    def get(self, default: Any = None) -> Any:
        """The value, or `default`."""
        data = self.live(self.entries.read(self._key()))
        if data is None:
            return default
        return self._call.decode(self.serde, data[STAMP_BYTES:], "value")

    def set(self, value: Any) -> None:
        """Keep a value."""
        self._write(self._key(), self._call.encode(self.serde, value, "value"))

    def delete(self) -> None:
        """Forget the value."""
        self.entries.write(self._key(), None)


class BoundMap(Bound, Map[Any, Any]):
    """The entries of the present key."""

    entries: OrderedEntries

    def __init__(self, declared: Map[Any, Any], operator: str, call: Call) -> None:
        Bound.__init__(self, declared, operator, call)
        self.key_serde = declared.key_serde

    def _entries(self, name: str, call: Call) -> OrderedEntries:
        return OrderedEntries(name, call.journal)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of an entry, or `default`."""
        data = self.live(self.entries.read(self._place(key)))
        if data is None:
            return default
        return self._call.decode(self.serde, data[STAMP_BYTES:], "value")

    def set(self, key: Any, value: Any) -> None:
        """Keep an entry."""
        self._write(self._place(key), self._call.encode(self.serde, value, "value"))

    def delete(self, key: Any) -> None:
        """Forget an entry."""
        self.entries.write(self._place(key), None)

    def __contains__(self, key: object) -> bool:
        return self.live(self.entries.read(self._place(key))) is not None

    def items(self, start: Any = None, end: Any = None) -> Iterator[tuple[Any, Any]]:
        """Entries in the order of their keys."""
        present = self._key()
        prefix = prefix_of(present)
        lower = prefix if start is None else self._place(start)
        upper = end_of_prefix(prefix) if end is None else self._place(end)
        decode = self._call.decode
        return (
            (key, decode(self.serde, data[STAMP_BYTES:], "value"))
            for key, data in self._walk(present, lower, upper)
        )

    def _walk(
        self, present: bytes, lower: bytes, upper: bytes | None
    ) -> Iterator[tuple[Any, bytes]]:
        """Keys and encoded entries, for as long as the key is the present one."""
        prefix_bytes = len(prefix_of(present))
        for place, data in self.entries.walk(lower, upper):
            if self.live(data) is not None:
                yield self._call.decode(self.key_serde, place[prefix_bytes:], "key"), data
            # What was kept of it would go on reading this key in calls of others.
            if self._key() != present:
                self._is_outside()

    def __iter__(self) -> Iterator[Any]:
        """The keys in their order."""
        present = self._key()
        prefix = prefix_of(present)
        return (key for key, _ in self._walk(present, prefix, end_of_prefix(prefix)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def clear(self) -> None:
        """Forget all entries."""
        prefix = prefix_of(self._key())
        for place, _ in self.entries.walk(prefix, end_of_prefix(prefix)):
            self.entries.write(place, None)

    def _place(self, key: Any) -> bytes:
        return prefix_of(self._key()) + self._call.encode(self.key_serde, key, "key")


class BoundList(Bound, List[Any]):
    """The items of the present key."""

    def extend(self, items: Iterable[Any]) -> None:
        """Add items at the end."""
        call = self._call
        key = self._key()
        encoded = [call.encode(self.serde, item, "value") for item in items]
        if encoded:
            before = self._present()
            added = b"".join(add_item(call.time_ms, data) for data in encoded)
            self._write(key, before + added)

    def __iter__(self) -> Iterator[Any]:
        return iter([self._call.decode(self.serde, data, "value") for data in self._encoded()])

    def _encoded(self) -> Iterator[bytes]:
        return (data for _, data in items_of(self._present()))

    def __len__(self) -> int:
        return item_count(self._present())

    def __getitem__(self, index: int | slice) -> Any:
        """An item, or a list of them."""
        found = list(self._encoded())[index]
        if isinstance(found, bytes):
            return self._call.decode(self.serde, found, "value")
        return [self._call.decode(self.serde, data, "value") for data in found]

    def clear(self) -> None:
        """Forget all items."""
        self.entries.write(self._key(), None)

    def _present(self) -> bytes:
        """All items that are not over."""
        data = self.entries.read(self._key())
        return b"" if data is None else self._left(data, self._call.time_ms)

    def _left(self, data: bytes, now_ms: int) -> bytes:
        items = data[STAMP_BYTES:]
        return items if self.ttl_ms is None else cut_before(items, now_ms - self.ttl_ms)

    def expire(self, key: bytes, now_ms: int) -> int | None:
        """Remove the items that are over; returns when the next one is."""
        assert self.ttl_ms is not None
        data = self.entries.read(key)
        if data is None:
            return None
        left = self._left(data, now_ms)
        if not left:
            self.entries.write(key, None)
            return None
        if len(left) < len(data) - STAMP_BYTES:
            self.entries.write(key, data[:STAMP_BYTES] + left)
        return next(items_of(left))[0] + self.ttl_ms


BoundState = BoundValue | BoundMap | BoundList


def bound(declared: KeyedState, operator: str, call: Call) -> BoundState:
    """The state of a processor in a task, as the user's code calls it."""
    if isinstance(declared, Map):
        return BoundMap(declared, operator, call)
    if isinstance(declared, List):
        return BoundList(declared, operator, call)
    return BoundValue(declared, operator, call)

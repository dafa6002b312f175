"""Timers in an ordered store: each one twice, in a queue by time, and by its key and name.

The first byte of an entry's key says which of the two it is. The queue stands first, so that timers
that have fired are below the floor of the store, and one read finds the next timer.
"""

from __future__ import annotations

from kstash.ports.state import OrderedStore, StoreKind, StoreSpec, Timer

_QUEUE = b"\x00"
_BY_NAME = b"\x01"

_SIGN = 1 << 63
"""Added to a time, which may be negative: unsigned, its bytes have the order of its value."""

_ALL_MS = _SIGN - 1


def _encode_time(at_ms: int) -> bytes:
    return (at_ms + _SIGN).to_bytes(8, "big")


def _serialize(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else _encode_time(value)


def _deserialize(data: bytes) -> int | bytes:
    return int.from_bytes(data, "big") - _SIGN if data else b""


def entries_spec(spec: StoreSpec) -> StoreSpec:
    """The ordered store in which the timers of a store of timers are kept."""
    return StoreSpec(spec.name, _serialize, _deserialize, StoreKind.ORDERED)


def encode_timer(key: bytes, name: str) -> bytes:
    """Key and name as bytes whose order is that of the pair (key, name)."""
    # A zero byte ends the key, so one inside is followed by what begins no text in UTF-8.
    return key.replace(b"\x00", b"\x00\xff") + b"\x00" + name.encode()


def decode_timer(data: bytes) -> tuple[bytes, str]:
    """The key and the name of `encode_timer`."""
    end = data.find(b"\x00")
    while data[end + 1 : end + 2] == b"\xff":
        end = data.find(b"\x00", end + 2)
    return data[:end].replace(b"\x00\xff", b"\x00"), data[end + 1 :].decode()


class StoredTimers:
    """`kstash.ports.state.Timers` over an ordered store of `entries_spec`."""

    def __init__(self, entries: OrderedStore) -> None:
        self._entries = entries

    def set(self, key: bytes, name: str, at_ms: int, every_ms: int = 0) -> None:
        """Set a timer of a key, or move it.

        Raises:
            OverflowError: the time does not fit into 64 bits.
            StateError: reading, or writing to make room, failed. Nothing is lost.
        """
        identity = encode_timer(key, name)
        place = _QUEUE + _encode_time(at_ms) + identity
        self._remove(identity)
        self._entries.put({place: every_ms or b"", _BY_NAME + identity: at_ms})

    def cancel(self, key: bytes, name: str) -> bool:
        """Remove a timer; returns whether it was set.

        Raises:
            StateError: reading failed.
        """
        identity = encode_timer(key, name)
        if not self._remove(identity):
            return False
        self._entries.delete([_BY_NAME + identity])
        return True

    def due(self, until_ms: int, *, limit: int) -> list[Timer]:
        """The first timers that are due at `until_ms` or before, in order, at most `limit`.

        Raises:
            StateError: reading failed.
        """
        upper = _QUEUE + _encode_time(until_ms + 1) if until_ms < _ALL_MS else _BY_NAME
        return [
            Timer(
                int.from_bytes(place[1:9], "big") - _SIGN, *decode_timer(place[9:]), every_ms or 0
            )
            for place, every_ms in self._entries.range(b"", upper, limit=limit)
        ]

    def next_due(self) -> int | None:
        """When the first timer is due; None: none is set.

        Raises:
            StateError: reading failed.
        """
        first = self.due(_ALL_MS, limit=1)
        return first[0].at_ms if first else None

    def _remove(self, identity: bytes) -> bool:
        """Take a timer out of the queue; returns whether it was there."""
        named = _BY_NAME + identity
        at_ms = self._entries.peek([named]).get(named)
        if at_ms is None:
            return False
        self._entries.delete([_QUEUE + _encode_time(at_ms) + identity])
        return True

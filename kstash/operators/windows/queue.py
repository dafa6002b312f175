"""The order in which windows close that are not aligned: an ordered store beside them.

A place is two numbers and a key. What is due is read once, at most `PART_RECORDS` places, so that
their windows can be loaded together; new places count at once. What comes of it is written by
`keep`.
"""

from __future__ import annotations

from heapq import heappop, heappush

from kstash.ports.state import OrderedStore
from kstash.topology.traits import PART_RECORDS
from kstash.topology.window_places import Place, decode_place, encode_place, places_before


class ClosingQueue:
    """The queue of one operator during one run.

    Args:
        store: with the places.
        horizon_ms: the run asks for no place whose first number is this or more, but for new ones.

    Attributes:
        keys: of the places that were read: all of their windows are to be there.
        is_blocked: whether `PART_RECORDS` places were taken: this run ends here.
    """

    def __init__(self, store: OrderedStore, horizon_ms: int) -> None:
        rows = store.range(b"", places_before(horizon_ms), limit=PART_RECORDS)
        self._store = store
        self._due: list[Place] = [decode_place(data) for data, _ in rows]
        self.keys = [key for _, _, key in self._due]
        self.is_blocked = False
        self._new: set[Place] = set()
        self._removed: list[bytes] = []
        self._last: Place | None = None
        # After so many there may be others that were not read.
        self._left = PART_RECORDS

    def is_due(self, horizon_ms: int) -> bool:
        """Whether there is a place whose first number is less, or may be."""
        due = self._due
        return not self._left or (bool(due) and due[0][0] < horizon_ms)

    def take(self, horizon_ms: int) -> Place | None:
        """Take the first place whose first number is less; None: there is none, or none is known.

        It may be one that was removed.
        """
        if not self._left:
            self.is_blocked = True
            return None
        if not self.is_due(horizon_ms):
            return None
        self._left -= 1
        place = heappop(self._due)
        self._new.discard(place)
        self._last = place
        return place

    def put(self, place: Place) -> None:
        """Add a place, which is not before one that was taken."""
        self._new.add(place)
        heappush(self._due, place)

    def remove(self, place: Place) -> None:
        """Remove a place that was not taken."""
        if place in self._new:
            self._new.remove(place)
        else:
            self._removed.append(encode_place(place))

    def keep(self) -> None:
        """Write what has changed."""
        if self._last is not None:
            # Places are taken in order: all up to the last one are done.
            self._store.expire_below(encode_place(self._last) + b"\0", limit=PART_RECORDS)
        if self._removed:
            self._store.delete(self._removed)
        if self._new:
            self._store.put({encode_place(place): b"" for place in self._new})

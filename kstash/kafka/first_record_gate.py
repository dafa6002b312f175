"""The first record of each partition goes alone: until it is acknowledged, the others wait.

A broker that knows nothing of a producer takes whatever sequence comes first (KIP-360). So when the
client's first request for a partition is refused, while its leader is elected or replicas are
missing, and the second one, sent after it, is taken, then the first one can never be written: it
counts as a duplicate, and librdkafka reports it *delivered*, with no offset. With nothing else in
flight that cannot happen, and once the broker has a record of the producer it refuses gaps
(decision 0020).

A first record that fails is the end of its producer, as any other is (H12): nothing is sent after
it, and the producer's owner learns of it (`error`). Producers that are not idempotent have no
sequences, and need none of this.

Brokers forget a producer that wrote nothing to a partition for `producer.id.expiration.ms`, a day
by default: a partition at rest for an hour or two begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from kstash.ports.kafka import DeliveredMessage, Headers, OnDelivery, Partition

REST_S = 3600.0

GatedRecord = tuple[str, bytes | None, bytes | None, int, OnDelivery | None, int, Headers | None]
"""The arguments of `kstash.ports.kafka.Producer.produce`."""


class FirstRecordGate:
    """Holds records back until their partition is open.

    Args:
        send: hands a record to the client; a `BufferError` says that there is no room now.
        now: monotonic seconds.

    Attributes:
        open: partitions to which the caller sends by itself; of all others it gives to `offer`.
        error: of the first record that failed, as the client called back with it, and its place.
    """

    def __init__(self, send: Callable[[GatedRecord], None], now: float) -> None:
        self.open: set[Partition] = set()
        self.error: tuple[Any, Partition] | None = None
        self._send = send
        self._resting: set[Partition] = set()
        self._rest_due = now + REST_S
        self._waiting: dict[Partition, deque[GatedRecord]] = {}
        self._acked: deque[Partition] = deque()

    def offer(self, record: GatedRecord) -> None:
        """Send a record if it is the first one of its partition, else keep it."""
        topic, value, key, partition, on_delivery, timestamp_ms, headers = record
        place = topic, partition
        waiting = self._waiting.get(place)
        if waiting is not None:
            waiting.append(record)
        elif place in self._resting:
            self._send(record)
            self.open.add(place)
        else:
            first = partial(self._delivered, place, on_delivery)
            self._send((topic, value, key, partition, first, timestamp_ms, headers))
            self._waiting[place] = deque()

    def release(self, now: float) -> bool:
        """Send the records that need not wait any longer; returns whether there were any.

        To be called after the delivery callbacks, not within them: it may find no room.
        """
        if now >= self._rest_due:
            self._rest_due = now + REST_S
            self._resting, self.open = self.open, set()
        is_any = bool(self._acked)
        while self._acked:
            place = self._acked[0]
            waiting = self._waiting[place]
            while waiting:
                try:
                    self._send(waiting[0])
                except BufferError:
                    return is_any
                waiting.popleft()
            del self._waiting[place]
            self.open.add(place)
            self._acked.popleft()
        return is_any

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._acked.clear()

    def __len__(self) -> int:
        """Records that wait."""
        return sum(map(len, self._waiting.values())) if self._waiting else 0

    def _delivered(
        self,
        place: Partition,
        on_delivery: OnDelivery | None,
        error: Any,
        message: DeliveredMessage,
    ) -> None:
        if error is not None:
            self.error = self.error or (error, place)
        elif place in self._waiting:
            self._acked.append(place)
        if on_delivery is not None:
            on_delivery(error, message)

"""Producers of the in-memory Kafka.

What a producer is asked to do waits in a queue of its own. `poll` first carries waiting requests
out, in order (the records are then in the log), and then serves their acknowledgements. A `Link`
holds either half back, so that a test can crash a worker between any two of these moments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kstash.errors import KstashError, ProducerFailedError, RecordTooLargeError
from kstash.ports.kafka import Headers, OnDelivery, OnDone, Partition
from kstash.testing.kafka.allowance import Allowance
from kstash.testing.kafka.log import MemoryRecord, PartitionLog

if TYPE_CHECKING:
    from kstash.testing.kafka.broker import MemoryKafka


@dataclass(slots=True)
class Link:
    """How one kind of producer reaches the cluster; tests bend it.

    Attributes:
        holds_requests: nothing is carried out: neither durable nor visible.
        holds_acks: what is carried out is not acknowledged.
        delay_s: seconds by the clock from a request until it is carried out, 0 or more.
        error: fails the next request that is carried out, once.
        refusal: fails every request that is carried out, as long as it stands here.
        allowance: how many requests are carried out; the links of a worker share it.
    """

    holds_requests: bool = False
    holds_acks: bool = False
    delay_s: float = 0.0
    error: KstashError | None = None
    refusal: KstashError | None = None
    allowance: Allowance = field(default_factory=Allowance)


@dataclass(slots=True)
class Request:
    """One thing that a producer asks of the cluster."""

    carry_out: Callable[[], None]
    acknowledge: Callable[[KstashError | None], None]
    asked_s: float
    error: KstashError | None = None


class MemoryProducer:
    """`kstash.ports.kafka.Producer`.

    Args:
        kafka: the cluster.
        link: the way to it.
        is_gapless: whether an error is fatal, as for an idempotent producer: all requests after
            a failed one fail too, and `poll` raises.
    """

    def __init__(self, kafka: MemoryKafka, link: Link, *, is_gapless: bool) -> None:
        self._kafka = kafka
        self._link = link
        self._is_gapless = is_gapless
        self._waiting: deque[Request] = deque()
        self._sent: deque[Request] = deque()
        self._fatal: KstashError | None = None
        self._asked_s = 0.0  # of the request that is being carried out

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: OnDelivery | None = None,
        timestamp_ms: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Queue one record; `timestamp_ms` 0 means now.

        Raises:
            RecordTooLargeError: it exceeds the topic's `max.message.bytes`.
        """
        size = len(value or b"") + len(key or b"") + _header_bytes(headers)
        size_max = self._kafka.message_bytes_max(topic)
        if size > size_max:
            raise RecordTooLargeError(
                f"a record of {size} bytes exceeds max.message.bytes of {size_max}",
                topic=topic,
                partition=partition,
            )
        timestamp_ms = timestamp_ms or self._kafka.clock.time_ms()
        record = MemoryRecord(
            topic=topic,
            partition=partition,
            offset=-1001,
            key=key,
            value=value,
            headers=headers,
            timestamp_ms=timestamp_ms,
        )

        def carry_out() -> None:
            nonlocal record
            log = self._kafka.log((topic, partition))
            record = self._append(log, key, value, headers, timestamp_ms)

        def acknowledge(error: KstashError | None) -> None:
            if on_delivery is not None:
                on_delivery(error, record)

        self._ask(carry_out, acknowledge)

    def poll(self) -> None:
        """Carry waiting requests out, then serve acknowledgements.

        Raises:
            ProducerFailedError: a request of a gapless producer failed.
        """
        self.carry_out()
        # Callbacks may ask for more: only what was there before is served.
        for _ in range(0 if self._link.holds_acks else len(self._sent)):
            request = self._sent.popleft()
            self._kafka.activity += 1
            request.acknowledge(request.error)
        if isinstance(self._fatal, ProducerFailedError):
            raise self._fatal
        if self._fatal is not None:
            raise ProducerFailedError(f"a record was lost: {self._fatal}") from self._fatal

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def flush(self, timeout_s: float) -> int:
        """Do what `poll` does; returns how many requests are still not acknowledged.

        The clock moves instead of a wait, so a caller that flushes up to a deadline gets there.
        """
        self.poll()
        self._kafka.clock.advance(timeout_s)
        return len(self)

    def close(self) -> None:
        """Forget what waits; what was carried out stays in the log, never acknowledged."""
        self._waiting.clear()
        self._sent.clear()

    def carry_out(self) -> None:
        """Carry out what waits, as far as the link lets it."""
        now_s = self._kafka.clock.monotonic()
        while self._waiting and not self._link.holds_requests and not self._kafka.is_away:
            if self._waiting[0].asked_s + self._link.delay_s > now_s:
                break
            if self._link.allowance.is_spent:
                break
            self._link.allowance.spend()
            request = self._waiting.popleft()
            self._asked_s = request.asked_s
            self._sent.append(request)
            self._kafka.activity += 1
            try:
                self._check_link()
                request.carry_out()
            except KstashError as error:
                request.error = error
                if self._is_gapless:
                    self._fatal = error

    def carry_out_late(self) -> None:
        """Carry out all that waits, as requests that were in flight at a crash may."""
        for request in self._waiting:
            # The dead hear of no error: what is fenced by now simply does not happen.
            with suppress(KstashError):
                request.carry_out()
        self._waiting.clear()

    def _ask(
        self, carry_out: Callable[[], None], acknowledge: Callable[[KstashError | None], None]
    ) -> None:
        now_s = self._kafka.clock.monotonic()
        self._waiting.append(Request(carry_out, acknowledge, now_s))
        self._kafka.activity += 1

    def _check_link(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        if self._link.error is not None:
            error, self._link.error = self._link.error, None
            raise error
        if self._link.refusal is not None:
            raise self._link.refusal

    def _append(
        self,
        log: PartitionLog,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
    ) -> MemoryRecord:
        return log.append(key, value, headers, timestamp_ms)


class MemorySinkProducer(MemoryProducer):
    """`kstash.ports.kafka.SinkProducer`: begins a transaction with the first record after a commit.

    Args:
        kafka: the cluster.
        link: the way to it.
        transactional_id: what fences it.
        position: consumer group and partition of the committed position.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        link: Link,
        *,
        transactional_id: str,
        position: tuple[str, Partition],
    ) -> None:
        super().__init__(kafka, link, is_gapless=True)
        self._transactional_id = transactional_id
        self._position = position
        self._epoch = 0

    def initialise(self, on_done: Callable[[Exception | None, str | None], None]) -> None:
        """Fence and abort predecessors, then read the committed position."""
        metadata: str | None = None

        def carry_out() -> None:
            nonlocal metadata
            self._epoch = self._kafka.coordinator.fence(self._transactional_id)
            metadata = self._kafka.coordinator.positions.get(self._position)

        self._ask(carry_out, lambda error: on_done(error, metadata))

    def commit(self, metadata: str, on_done: OnDone) -> None:
        """Commit what was produced, and `metadata` as the position."""

        def carry_out() -> None:
            self._kafka.coordinator.commit(
                self._transactional_id, self._epoch, self._position, metadata
            )

        self._ask(carry_out, on_done)

    def _append(
        self,
        log: PartitionLog,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
    ) -> MemoryRecord:
        # A real producer sends at once, whenever its caller polls.
        transaction = self._kafka.coordinator.begun(
            self._transactional_id, self._epoch, self._asked_s
        )
        return log.append(key, value, headers, timestamp_ms, transaction)


def _header_bytes(headers: Headers | None) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers or ())

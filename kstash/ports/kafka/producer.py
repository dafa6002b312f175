"""Producers: of records, and of a task group's transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kstash.ports.kafka.record import Headers


class DeliveredMessage(Protocol):
    """What a delivery callback gets: the produced record with its offset."""

    def offset(self) -> int | None:
        """Offset that the record got; None when only a repetition was acknowledged, without it."""


OnDelivery = Callable[[Any, DeliveredMessage], None]
"""`(error or None, message)`: called once, when the record is acknowledged or failed for good."""

OnDone = Callable[[Exception | None], None]
"""`(error or None)`: called once, when what was asked for is done or failed."""


class Producer(Protocol):
    """Appends records to partitions named explicitly, in order."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: OnDelivery | None,
        timestamp_ms: int,
        headers: Headers | None,
    ) -> None:
        """Queue one record (positional order of `confluent_kafka.Producer.produce`).

        `timestamp_ms` 0 means now. A full local queue is waited out by serving callbacks; a record
        that can never fit raises `RecordTooLargeError`.
        """

    def poll(self) -> None:
        """Serve delivery callbacks without waiting. Raises `ProducerFailedError` when fatal."""

    def __len__(self) -> int:
        """Records not yet acknowledged."""

    def close(self) -> None:
        """Purge what is queued and in flight, and destroy the client. No flush."""

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements up to the deadline; returns how many are missing."""


class SinkProducer(Producer, Protocol):
    """The transactional producer of one task group. Blocking calls run in a thread of its own.

    `produce` begins a transaction when none is open. Between `commit` and its `on_done` the caller
    produces nothing.
    """

    def initialise(self, on_done: Callable[[Exception | None, str | None], None]) -> None:
        """Fence and abort predecessors (`init_transactions`), then read the committed position.

        `on_done(error, metadata)`: the metadata string last committed for this group's offset
        `(lineage topic, group)` in the consumer group `<application_id>-positions`, or None.
        """

    def commit(self, metadata: str, on_done: OnDone) -> None:
        """Wait for all acks, send the committed position as `metadata`, commit.

        Works without an open transaction too (an offsets-only transaction).
        """

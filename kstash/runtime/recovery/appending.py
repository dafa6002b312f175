"""Appends the records of a recovery to the group's lineage partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from kstash.core.events import Event
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import LineageRecord
from kstash.errors import ProducerFailedError, ProducerRefusedError, RecordRefusedError
from kstash.failpoints import around
from kstash.ports.kafka import DeliveredMessage, Partition, Producer
from kstash.ports.process import Clock
from kstash.runtime.lineage_points import ACKS, APPENDS

CLAIM_BACKOFF_S = 0.2
"""Pause before a CLAIM or CONFIG whose append failed is tried again with a fresh nonce."""

log = structlog.get_logger("kstash.recovery")


class Appender:
    """Appends records one after the other, and reports each.

    Args:
        clock: time.
        partition: of the lineage topic.
        post: takes what an acknowledgement means, or the error that ends the attempt.
    """

    def __init__(
        self, clock: Clock, partition: Partition, post: Callable[[Event | Exception], None]
    ) -> None:
        self._clock = clock
        self._partition = partition
        self._post = post
        self._is_cancelled = False
        # When to try again, and how.
        self._retry: tuple[float, Callable[[], None]] | None = None

    def append(
        self,
        producer: Producer,
        record: LineageRecord,
        event: Callable[[int], Event],
        *,
        again: Callable[[], None] | None = None,
    ) -> None:
        """Append a record; `event` makes an event of its offset.

        `again` is called after a pause when the append failed in a way that allows another one.
        """

        def delivered(error: Any, message: DeliveredMessage) -> None:
            offset = message.offset()
            if error is None and offset is not None:
                with around(ACKS[type(record)]):
                    self._post(event(offset))
            elif isinstance(error, ProducerRefusedError | RecordRefusedError):
                self._post(error)  # a right or the topic is missing, or the record will never do
            elif again is not None and not self._is_cancelled:
                log.warning(
                    "append failed, trying again", group=self._partition[1], error=str(error)
                )
                self._retry = (self._clock.monotonic() + CLAIM_BACKOFF_S, again)
            else:
                self._post(ProducerFailedError(f"cannot append {type(record).__name__}: {error}"))

        with around(APPENDS[type(record)]):
            producer.produce(
                topic=self._partition[0],
                value=encode_value(record),
                key=encode_key(record),
                partition=self._partition[1],
                on_delivery=delivered,
                timestamp_ms=self._clock.time_ms(),
                headers=None,
            )

    def tick(self, now: float) -> None:
        """Try again when due."""
        if self._retry is not None and now >= self._retry[0]:
            again = self._retry[1]
            self._retry = None
            again()

    def cancel(self) -> None:
        """Try nothing again."""
        self._is_cancelled = True

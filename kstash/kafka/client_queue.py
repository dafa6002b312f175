"""What every producer does with its client: queue a record, wait for room, name what went wrong.

Delivery callbacks are served in `poll`, `flush` and, when the client's queue is full, `produce`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import Producer as Client

from kstash.errors import KstashError, ProducerFailedError, RecordTooLargeError
from kstash.kafka import failures
from kstash.kafka.first_record_gate import FirstRecordGate, GatedRecord
from kstash.ports.kafka import DeliveredMessage, Headers, OnDelivery, Partition

ROOM_POLL_S = 0.05

Tell = Callable[[OnDelivery, Any, DeliveredMessage], None]
"""Takes the outcome of one record before the caller's callback, its first argument, has it."""


class ClientQueue:
    """A client of Kafka's and the records that wait for it: the base of the producers.

    It is a base class and not a part of them, since `produce` runs for each record: there is no
    call besides the client's own.

    Args:
        name: of the producer, for messages.
        room_deadline_s: how long `produce` waits for room in the client's queue before the
            producer counts as failed.
        has_gate: whether the first record of each partition goes alone.
        tell: see `Tell`; None: the client calls the caller's callback by itself.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        *,
        room_deadline_s: float,
        has_gate: bool,
        tell: Tell | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._room_deadline_s = room_deadline_s
        self._has_gate = has_gate
        self._tell = tell
        self._monotonic = monotonic
        self._failure: ProducerFailedError | None = None
        self._client: Client | None = None
        # The client's method. Untyped: the stubs know no callbacks for a structural message type.
        self._produce: Callable[..., None] | None = None
        self._gate = FirstRecordGate(self._send, monotonic())

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
            RecordTooLargeError: it can never fit.
            TopicMissingError: the client knows that there is no such topic; not of a
                transactional producer.
            ProducerFailedError: this producer is fenced or failed for good, or its queue was full
                for too long.
        """
        try:
            if (topic, partition) in self._gate.open:
                # Nearly every record. Positions, since keywords cost half as much again: callback,
                # on_delivery (its other name), timestamp, headers.
                tell = self._tell
                reported = partial(tell, on_delivery) if tell and on_delivery else on_delivery
                self._produce(  # type: ignore[misc] # set before a partition is open
                    topic, value, key, partition, reported, None, timestamp_ms, headers
                )
            elif self._failure is not None:
                raise self._failure
            elif self._has_gate:
                self._gate.offer((topic, value, key, partition, on_delivery, timestamp_ms, headers))
            else:
                self._send((topic, value, key, partition, on_delivery, timestamp_ms, headers))
        except BufferError:
            self._wait_for_room()
            self.produce(topic, value, key, partition, on_delivery, timestamp_ms, headers)
        except failures.CLIENT_ERRORS as error:
            raise self._produce_error(error, topic, partition) from error

    def __len__(self) -> int:
        return 0 if self._client is None else len(self._client) + len(self._gate)

    def _send(self, record: GatedRecord) -> None:
        *place, on_delivery, timestamp_ms, headers = record
        if self._tell is not None and on_delivery is not None:
            on_delivery = partial(self._tell, on_delivery)
        self._produce(  # type: ignore[misc] # set before the first record
            *place, on_delivery, None, timestamp_ms, headers
        )

    def _wait_for_room(self) -> None:
        """Serve callbacks until a record was acknowledged."""
        assert self._client is not None
        waiting = len(self._client)
        deadline = self._monotonic() + self._room_deadline_s
        while self._monotonic() < deadline:
            self._client.poll(ROOM_POLL_S)
            if self._failure is not None:
                raise self._failure
            if len(self._client) < waiting:
                return
        raise ProducerFailedError(
            f"{self._name}: {waiting} records wait and none was acknowledged for "
            f"{self._room_deadline_s:g} s"
        )

    def _produce_error(self, error: BaseException, topic: str, partition: int) -> KstashError:
        """The error of a record that the client did not take."""
        inner = failures.kafka_error(error)
        if inner is not None and inner.code() in failures.TOO_LARGE_CODES:
            return RecordTooLargeError(
                f"{self._name}: {failures.describe(error)}", topic=topic, partition=partition
            )
        return self._fail(error)

    def _fail(self, error: object, place: Partition | None = None) -> ProducerFailedError:
        """Note an error, of which the first one counts, and return that one."""
        self._failure = self._failure or self._failed(error, place)
        return self._failure

    def _failed(self, error: object, place: Partition | None = None) -> ProducerFailedError:
        return failures.producer_failed(self._name, error, place=place)

    def _on_error(self, error: KafkaError) -> None:
        # Connection errors are the member's to report, and the client mends them.
        if error.fatal() or error.code() in failures.FATAL_CODES:
            self._fail(error)

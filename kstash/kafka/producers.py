"""Producers: plain ones, and the delay of acknowledgements that tests ask for.

Delivery callbacks are served in `poll`, `flush` and, when the client's queue is full, `produce`.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError

from kstash.errors import KstashError, ProducerFailedError, RecordTooLargeError, TopicMissingError
from kstash.failpoints import around
from kstash.kafka import failures
from kstash.kafka.clients import make_producer
from kstash.kafka.first_record_gate import Opening, Record
from kstash.ports.kafka import Headers, OnDelivery, Producer

WARM_DEADLINE_S = 1.0
ROOM_DEADLINE_S = 60.0
"""How long `produce` waits for room in the client's queue before the producer counts as failed."""
ROOM_POLL_S = 0.05


class KafkaProducer:
    """`kstash.ports.kafka.Producer` over confluent-kafka.

    Made early and warmed: a cold idempotent producer's first acknowledgement takes half a second.

    Args:
        settings: of the client.
        topic: one that exists, for which the client asks to be connected soon; None: it connects
            when it has something to do.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        topic: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = str(settings["client.id"])
        self._monotonic = monotonic
        self._failure: ProducerFailedError | None = None
        self._client = make_producer(settings, on_error=self._on_error)
        # Untyped: the stubs know no callbacks for a structural message type.
        self._produce: Callable[..., None] = self._client.produce
        self._opening = Opening(self._send, monotonic())
        self._is_idempotent = bool(settings["enable.idempotence"])
        if topic is not None:
            with contextlib.suppress(*failures.CLIENT_ERRORS):
                # When the broker is away, records wait in the queue until it is back.
                self._client.list_topics(topic, timeout=WARM_DEADLINE_S)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Queue one record; `timestamp` in ms, 0 means now.

        Raises:
            RecordTooLargeError: it can never fit.
            TopicMissingError: the client knows that there is no such topic.
            ProducerFailedError: this producer failed for good, or its queue was full for 60 s.
        """
        try:
            if (topic, partition) in self._opening.open:
                # Positions, since keywords cost half as much again: callback, on_delivery (its
                # other name), timestamp, headers.
                self._produce(topic, value, key, partition, on_delivery, None, timestamp, headers)
            elif self._failure is not None:
                raise self._failure
            elif self._is_idempotent:
                self._opening.offer((topic, value, key, partition, on_delivery, timestamp, headers))
            else:
                told = on_delivery and partial(self._tell, on_delivery)
                self._produce(topic, value, key, partition, told, None, timestamp, headers)
        except BufferError:
            self._wait_for_room()
            self.produce(topic, value, key, partition, on_delivery, timestamp, headers)
        except failures.CLIENT_ERRORS as error:
            raise self._produce_error(error, topic, partition) from error

    def poll(self) -> None:
        """Serve delivery callbacks without waiting.

        Raises:
            ProducerFailedError: the producer failed for good; so do all later calls.
        """
        try:
            self._client.poll(0)
            self._opening.release(self._monotonic())
        except failures.CLIENT_ERRORS as error:
            self._failure = self._failure or failures.producer_failed(self._name, error)
        if self._failure is None and self._opening.error is not None:
            cause, place = self._opening.error
            self._failure = failures.producer_failed(self._name, cause, place=place)
        if self._failure is not None:
            raise self._failure

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements, serving callbacks; returns how many are missing."""
        deadline = self._monotonic() + timeout_s
        try:
            with around("lineage.flush"):
                missing = self._client.flush(timeout_s)
                while self._opening.release(now := self._monotonic()):
                    missing = self._client.flush(max(0.0, deadline - now))
        except failures.CLIENT_ERRORS as error:
            raise failures.producer_failed(self._name, error) from error
        return missing + len(self._opening)

    def close(self) -> None:
        """Purge what is queued and in flight, and destroy the client; no callback runs."""
        self._opening.clear()
        self._client.purge(blocking=False)
        # Not the client's `close`: it would flush without a deadline. The last reference destroys.
        del self._client, self._produce

    def __len__(self) -> int:
        return len(self._client) + len(self._opening)

    def _send(self, record: Record) -> None:
        *place, timestamp, headers = record
        self._produce(*place, None, timestamp, headers)

    def _tell(self, on_delivery: OnDelivery, error: Any, message: Any) -> None:
        """Tell of one record of a producer that goes on behind a failed one."""
        if error is not None:
            place = message.topic(), message.partition()
            error = failures.producer_failed(self._name, error, place=place)
        on_delivery(error, message)

    def _on_error(self, error: KafkaError) -> None:
        # Connection errors are the member's to tell, the client mends them.
        if error.fatal() or error.code() in failures.FATAL_CODES:
            self._failure = self._failure or failures.producer_failed(self._name, error)

    def _wait_for_room(self) -> None:
        """Serve callbacks until a record was acknowledged."""
        waiting = len(self._client)
        deadline = self._monotonic() + ROOM_DEADLINE_S
        while self._monotonic() < deadline:
            self._client.poll(ROOM_POLL_S)
            if self._failure is not None:
                raise self._failure
            if len(self._client) < waiting:
                return
        raise ProducerFailedError(
            f"{self._name}: {waiting} records wait and none was acknowledged for "
            f"{ROOM_DEADLINE_S:g} s"
        )

    def _produce_error(self, error: BaseException, topic: str, partition: int) -> KstashError:
        inner = failures.kafka_error(error)
        code = None if inner is None else inner.code()
        if code in failures.TOO_LARGE_CODES:
            return RecordTooLargeError(
                f"{self._name}: {failures.describe(error)}", topic=topic, partition=partition
            )
        if code in failures.MISSING_TOPIC_CODES:
            is_partition = code == KafkaError._UNKNOWN_PARTITION
            return TopicMissingError([f"{topic}[{partition}]" if is_partition else topic])
        return self._failure or failures.producer_failed(self._name, error)


class DelayedAcks:
    """A producer that holds records back before it writes them, so that all acks come late.

    A setting for tests (`lineage_ack_delay_ms`): a crash then loses lineage on which outputs that
    are out already rely. (Acknowledgements alone told late would not: what was written is found.)

    Args:
        producer: what writes.
        delay_s: seconds by which records are held back; their order is kept.
        monotonic: seconds that never go back.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        producer: Producer,
        delay_s: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._producer = producer
        self._delay_s = delay_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._held: deque[tuple[float, Callable[[], None]]] = deque()

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Hold back one record; errors of `KafkaProducer.produce` come out of `poll`."""
        write = partial(
            self._producer.produce, topic, value, key, partition, on_delivery, timestamp, headers
        )
        self._held.append((self._monotonic() + self._delay_s, write))

    def poll(self) -> None:
        """Write what is due, then serve callbacks."""
        now = self._monotonic()
        while self._held and self._held[0][0] <= now:
            self._held.popleft()[1]()
        self._producer.poll()

    def flush(self, timeout_s: float) -> int:
        """Wait for the delay and for acknowledgements; returns how many are missing."""
        deadline = self._monotonic() + timeout_s
        self.poll()
        while self._held and self._held[0][0] <= deadline:
            self._sleep(max(0.0, self._held[0][0] - self._monotonic()))
            self.poll()
        missing = self._producer.flush(max(0.0, deadline - self._monotonic()))
        return missing + len(self._held)

    def close(self) -> None:
        """Close the producer; what is held back is never written."""
        self._held.clear()
        self._producer.close()

    def __len__(self) -> int:
        return len(self._producer) + len(self._held)

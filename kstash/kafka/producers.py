"""Producers: plain ones, and the delay of acknowledgements that tests ask for."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import Producer as Client

from kstash.errors import KstashError, TopicMissingError
from kstash.failpoints import around
from kstash.kafka import failures
from kstash.kafka.client_queue import ClientQueue
from kstash.kafka.clients import make_producer
from kstash.ports.kafka import Headers, OnDelivery, Producer

WARM_DEADLINE_S = 1.0
ROOM_DEADLINE_S = 60.0


class KafkaProducer(ClientQueue):
    """`kstash.ports.kafka.Producer` over confluent-kafka.

    Made early and warmed: a cold idempotent producer's first acknowledgement takes half a second.

    Args:
        settings: of the client.
        topic: one that exists, for which the client asks to be connected soon; None: it connects
            when it has something to do.
        monotonic: seconds that never go back.
    """

    _client: Client

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        topic: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        is_idempotent = bool(settings["enable.idempotence"])
        super().__init__(
            str(settings["client.id"]),
            room_deadline_s=ROOM_DEADLINE_S,
            has_gate=is_idempotent,
            tell=None if is_idempotent else self._deliver,
            monotonic=monotonic,
        )
        self._client = make_producer(settings, on_error=self._on_error)
        self._produce = self._client.produce
        if topic is not None:
            with contextlib.suppress(*failures.CLIENT_ERRORS):
                # When the broker is away, records wait in the queue until it is back.
                self._client.list_topics(topic, timeout=WARM_DEADLINE_S)

    def poll(self) -> None:
        """Serve delivery callbacks without waiting.

        Raises:
            ProducerFailedError: the producer failed for good; so do all later calls.
        """
        try:
            self._client.poll(0)
            self._gate.release(self._monotonic())
        except failures.CLIENT_ERRORS as error:
            self._fail(error)
        if self._gate.error is not None:
            self._fail(*self._gate.error)
        if self._failure is not None:
            raise self._failure

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements, serving callbacks; returns how many are missing."""
        deadline = self._monotonic() + timeout_s
        try:
            with around("lineage.flush"):
                missing = self._client.flush(timeout_s)
                while self._gate.release(now := self._monotonic()):
                    missing = self._client.flush(max(0.0, deadline - now))
        except failures.CLIENT_ERRORS as error:
            raise self._failed(error) from error
        return missing + len(self._gate)

    def close(self) -> None:
        """Purge what is queued and in flight, and destroy the client; no callback runs."""
        self._gate.clear()
        self._client.purge(blocking=False)
        # Not the client's `close`: it would flush without a deadline. The last reference destroys.
        del self._client, self._produce

    def _deliver(self, on_delivery: OnDelivery, error: Any, message: Any) -> None:
        """Report one record of a producer that goes on after a failed one."""
        if error is not None:
            error = self._failed(error, (message.topic(), message.partition()))
        on_delivery(error, message)

    def _produce_error(self, error: BaseException, topic: str, partition: int) -> KstashError:
        inner = failures.kafka_error(error)
        code = None if inner is None else inner.code()
        if code in failures.MISSING_TOPIC_CODES:
            is_partition = code == KafkaError._UNKNOWN_PARTITION
            return TopicMissingError([f"{topic}[{partition}]" if is_partition else topic])
        if code in failures.TOO_LARGE_CODES:
            return super()._produce_error(error, topic, partition)
        return self._failure or self._failed(error)  # not noted: records on their way may arrive


class DelayedAcks:
    """A producer that holds records back before it writes them, so that all acks come late.

    A setting for tests (`lineage_ack_delay_ms`): a crash then loses lineage on which outputs that
    are out already rely. (Late reports of acknowledgements would not: what was written is found.)

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
        timestamp_ms: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Hold back one record; errors of `KafkaProducer.produce` come out of `poll`."""
        write = partial(
            self._producer.produce, topic, value, key, partition, on_delivery, timestamp_ms, headers
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

"""Fences what the predecessors of an incarnation may still write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kstash.core.events import Event, Fenced
from kstash.core.wire import MARKER_HEADER, Fence, encode_marker
from kstash.errors import ProducerFailedError, ProducerRefusedError, RecordRefusedError
from kstash.failpoints import around
from kstash.ports.kafka import DeliveredMessage, Partition, Producer, SinkProducer
from kstash.ports.process import Clock


class Fencing:
    """A FENCE to every internal partition that the group writes, and its sinks' producers anew.

    Args:
        clock: time.
        producer: appends the FENCEs.
        targets: every internal partition that the group writes.
        sinks: its transactional producers.
        post: takes `Fenced`, once all of it is done, or the error that ends the attempt.

    Attributes:
        offsets: of the FENCE in each internal partition.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        producer: Producer,
        targets: Sequence[Partition],
        sinks: Sequence[SinkProducer],
        post: Callable[[Event | Exception], None],
    ) -> None:
        self.offsets: dict[Partition, int] = {}
        self._clock = clock
        self._producer = producer
        self._targets = targets
        self._sinks = sinks
        self._post = post
        self._waiting: set[Partition | SinkProducer] = {*targets, *sinks}
        # Positions as the sinks' predecessors committed them.
        self._committed: list[str | None] = []

    def begin(self, marker: Fence) -> None:
        """Fence all at once; does not wait."""
        if not self._waiting:
            self._post(Fenced(()))
        encoded = encode_marker(marker)
        for target in self._targets:
            self._fence(target, encoded)
        for sink in self._sinks:
            self._initialise(sink)

    def _fence(self, partition: Partition, marker: bytes) -> None:
        def delivered(error: Any, message: DeliveredMessage) -> None:
            offset = message.offset()
            if isinstance(error, ProducerRefusedError | RecordRefusedError):
                self._post(error)
                return
            if error is not None or offset is None:
                self._post(ProducerFailedError(f"cannot fence {partition}: {error}"))
                return
            with around("fence.ack"):
                self.offsets[partition] = offset
                self._arrived(partition)

        with around("fence.append"):
            self._producer.produce(
                topic=partition[0],
                value=None,
                key=None,
                partition=partition[1],
                on_delivery=delivered,
                timestamp_ms=self._clock.time_ms(),
                headers=[(MARKER_HEADER, marker)],
            )

    def _initialise(self, sink: SinkProducer) -> None:
        def initialised(error: Exception | None, metadata: str | None) -> None:
            if error is not None:
                self._post(error)
                return
            self._committed.append(metadata)
            self._arrived(sink)

        sink.initialise(initialised)

    def _arrived(self, what: Partition | SinkProducer) -> None:
        self._waiting.discard(what)
        if not self._waiting:
            self._post(Fenced(tuple(self._committed)))

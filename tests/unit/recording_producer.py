"""A producer that keeps what it is given, and is answered by hand."""

from __future__ import annotations

from typing import Any

from kstash.ports.kafka import Headers, OnDelivery


class Delivered:
    """A record that was produced, at an offset."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        """Where it is."""
        return self._offset


class RecordingProducer:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[tuple[Any, ...]] = []

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
        """Keep one record."""
        self.records.append((topic, value, key, partition, on_delivery, timestamp_ms, headers))

    def poll(self) -> None:
        """Nothing comes by itself."""

    def __len__(self) -> int:
        return len(self.records)

    def close(self) -> None:
        """Nothing to close."""

    def flush(self, timeout_s: float) -> int:  # noqa: ARG002 - as the port has it
        """Nothing to wait for."""
        return 0

    def answer(self, index: int, offset: int | None, error: Any = None) -> None:
        """Call back for a record."""
        self.records[index][4](error, Delivered(offset))

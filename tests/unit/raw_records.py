"""The client's own broker in memory, and records that no client sends."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Producer
from kafka.record.memory_records import MemoryRecordsBuilder


class _Name(str):
    """A header name that brings its bytes along."""

    data: bytes

    def encode(self, *_: Any) -> bytes:
        """What kafka-python asks for."""
        return self.data


def _named(data: bytes) -> _Name:
    name = _Name("x")
    name.data = data
    return name


class MockBroker:
    """librdkafka's mock broker with one topic; a context manager.

    Attributes:
        address: `host:port`.
    """

    def __init__(self, topic: str) -> None:
        # It lives as long as the client that makes it.
        self._client = Producer(
            {"test.mock.num.brokers": 1, "bootstrap.servers": "none:1", "log_level": 0}
        )
        broker = next(iter(self._client.list_topics(topic, timeout=20).brokers.values()))
        self._topic = topic
        self._place = broker.host, broker.port
        self.address = f"{broker.host}:{broker.port}"

    def send(self, value: bytes, headers: list[tuple[bytes, bytes | None]]) -> None:
        """Append a record to partition 0, with header names of any bytes."""
        builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 24)
        named = [(_named(name), content) for name, content in headers]
        builder.append(timestamp=1000, key=b"k", value=value, headers=named)
        builder.close()
        records = builder.buffer()
        # Produce, version 7: https://kafka.apache.org/protocol
        topic = self._topic.encode()
        request = (
            struct.pack(">hhih4s", 0, 7, 1, 4, b"test")
            + struct.pack(">hhi", -1, -1, 10_000)
            + struct.pack(f">ih{len(topic)}s", 1, len(topic), topic)
            + struct.pack(">iii", 1, 0, len(records))
            + records
        )
        with socket.create_connection(self._place, timeout=20) as link:
            link.sendall(struct.pack(">i", len(request)) + request)
            assert link.recv(1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._client

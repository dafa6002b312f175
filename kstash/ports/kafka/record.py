"""A consumed record, and where it lies."""

from __future__ import annotations

from typing import Protocol

Partition = tuple[str, int]
"""A Kafka partition: (topic, partition number)."""

Headers = list[tuple[str, bytes | None]]
"""Kafka record headers, in order, repeats allowed."""

LOG_APPEND_TIME = 2
"""Kind of a timestamp that the broker gave (`message.timestamp.type`), as Kafka numbers it."""


class Message(Protocol):
    """A consumed Kafka record; `confluent_kafka.Message` fulfils it as it is."""

    def topic(self) -> str:
        """Name of the topic."""

    def partition(self) -> int:
        """Partition number."""

    def offset(self) -> int:
        """Offset in the partition."""

    def key(self) -> bytes | None:
        """Key."""

    def value(self) -> bytes | None:
        """Value; None is a tombstone."""

    def headers(self) -> Headers | None:
        """Headers, None when there are none.

        Raises `RecordUnreadableError`, with the location: the name of one is no UTF-8.
        """

    def timestamp(self) -> tuple[int, int]:
        """(Kind, Unix time in milliseconds); kind `LOG_APPEND_TIME`: the broker's, not ours."""

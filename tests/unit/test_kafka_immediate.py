"""A reader of immediate sinks, without a broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from kstash.kafka import immediate


class Closing:
    """A client whose group gives it a partition while it closes."""

    def __init__(self, _settings: object) -> None:
        self.assigned: list[list[TopicPartition]] = []
        self._on_assign: Callable[..., None] | None = None

    def subscribe(self, _topics: list[str], **callbacks: Callable[..., None]) -> None:
        """Join the group."""
        self._on_assign = callbacks["on_assign"]

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read these."""
        self.assigned.append(partitions)

    incremental_assign = assign

    def committed(self, *_: object) -> list[TopicPartition]:
        """No answer comes any more."""
        raise AssertionError("asked for committed offsets")

    def close(self) -> None:
        """Another member left just before."""
        assert self._on_assign is not None
        self._on_assign(self, [TopicPartition("out", 0)])


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_reader_that_closes_begins_nothing(
    monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """What it is given then is not looked up: that would wait, and fail, within `close`."""
    clients: list[Closing] = []

    def make(settings: Any) -> Closing:
        clients.append(Closing(settings))
        return clients[-1]

    monkeypatch.setattr(immediate, "Consumer", make)
    reader = immediate.ImmediateReader({"partition.assignment.strategy": strategy}, ["out"])
    reader.close()
    assert clients[0].assigned == [[]]
    assert reader.bookmarks() == {}

"""A plain `read_committed` consumer that counts what comes into topics, as it comes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition


class Counts(threading.Thread):
    """Reads topics until it is stopped.

    Args:
        bootstrap: brokers, without a proxy.
        topics: which.
        partition_count: of each of them.
        starts: where to begin, by topic and partition; else at the beginning.

    Attributes:
        seen: records by topic.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Iterable[str],
        partition_count: int,
        starts: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        super().__init__(name="counts", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"counts-{uuid4().hex[:8]}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        places = [(topic, number) for topic in topics for number in range(partition_count)]
        offsets = starts or {}
        self._consumer.assign(
            [TopicPartition(*place, offsets.get(place, OFFSET_BEGINNING)) for place in places]
        )
        self._stopping = threading.Event()
        self.seen: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Records of all topics."""
        return self.seen.total()

    def run(self) -> None:
        """Read until `finish`."""
        while not self._stopping.is_set():
            for message in self._consumer.consume(2_000, 0.02):
                if message.error() is None:
                    self.seen[message.topic() or ""] += 1
        self._consumer.close()

    def finish(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self.is_alive():
            self.join(30)

"""How much of a topic is alive: what a reader that starts now would have to read and to keep.

Written from the protocol's text and read with kafka-python. Of a compacted topic the newest record
of each key counts, unless it is a tombstone; of any other topic all records from the log start on.
So the figure does not depend on when the broker compacts, or on the size of its segments.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from tests.chaos.ends import ends_of, starts_of

READ_S_MAX = 60.0


class LiveBytes:
    """Follows topics and adds up what is alive in them; use one object for all samples.

    Args:
        bootstrap: brokers.
        compacted: topics with one live record per key.
        purged: topics whose beginning is deleted from time to time.
    """

    def __init__(self, bootstrap: str, compacted: Iterable[str], purged: Iterable[str]) -> None:
        self._bootstrap = bootstrap
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=5000,
        )
        self._compacted = frozenset(compacted)
        self._topics = [*self._compacted, *purged]
        self._by_key: dict[TopicPartition, dict[bytes, int]] = {}
        self._by_offset: dict[TopicPartition, dict[int, int]] = {}

    def sample(self) -> dict[str, int]:
        """Read on to the ends as they are now; live bytes by topic."""
        partitions = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]
        if set(partitions) != self._consumer.assignment():
            self._consumer.assign(partitions)
        ends = ends_of(self._bootstrap, partitions, deadline_s=READ_S_MAX)
        deadline = time.monotonic() + READ_S_MAX
        while any(self._consumer.position(place) < ends[place] for place in partitions):
            assert time.monotonic() < deadline, f"{self._topics} not read to their ends in time"
            for place, records in self._consumer.poll(timeout_ms=200).items():
                for record in records:
                    self._take(place, record)
        starts = starts_of(self._bootstrap, partitions, deadline_s=READ_S_MAX)
        for place in partitions:
            sizes = self._by_offset.get(place, {})
            for offset in [offset for offset in sizes if offset < starts[place]]:
                del sizes[offset]
        return {topic: self._sum(topic) for topic in self._topics}

    def _take(self, place: TopicPartition, record: Any) -> None:
        key, value = record.key or b"", record.value or b""
        headers = sum(len(name) + len(data or b"") for name, data in record.headers)
        size = len(key) + len(value) + headers
        if place.topic not in self._compacted:
            self._by_offset.setdefault(place, {})[record.offset] = size
            return
        alive = self._by_key.setdefault(place, {})
        if record.value is None:
            alive.pop(key, None)
        else:
            alive[key] = size

    def _sum(self, topic: str) -> int:
        sizes = self._by_key if topic in self._compacted else self._by_offset
        return sum(sum(of.values()) for place, of in sizes.items() if place.topic == topic)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

"""A plain `read_committed` consumer that notes when outputs come, and how long none did."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from itertools import pairwise
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition


class Watch(threading.Thread):
    """Reads a topic from its beginning and remembers when each partition had something new.

    Args:
        bootstrap: brokers, without a proxy.
        topic: the outputs.
        partition_count: of the topic.
    """

    def __init__(self, bootstrap: str, topic: str, partition_count: int) -> None:
        super().__init__(name="watch", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"watch-{uuid4().hex[:8]}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partition_count)]
        )
        self._arrivals: dict[int, list[float]] = defaultdict(list)
        self._stopping = threading.Event()
        self.count = 0

    def run(self) -> None:
        """Read until `finish`."""
        while not self._stopping.is_set():
            messages = self._consumer.consume(5000, 0.05)
            now = time.monotonic()
            good = [message for message in messages if message.error() is None]
            for partition in {message.partition() or 0 for message in good}:
                self._arrivals[partition].append(now)
            self.count += len(good)
        self._consumer.close()

    def finish(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self.is_alive():
            self.join(30)

    def silence_s(self, start: float, end: float) -> float:
        """Longest time without output of any partition between two moments, in seconds.

        A silence counts from `start` on when it began before, and until its own end, even when
        that lies after `end`: it is there because of what happened between.
        """
        longest = 0.0
        for arrivals in self._arrivals.values():
            times = list(arrivals)
            for before, after in pairwise(times):
                if before <= end and after >= start:
                    longest = max(longest, after - max(before, start))
        return longest

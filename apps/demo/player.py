"""Plays a book into a topic, line by line, at a steady rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from confluent_kafka import Producer

TICK_S = 0.01
FLUSH_S_MAX = 30


class Player(threading.Thread):
    """A thread that sends lines, spread evenly over a time.

    Attributes:
        sent_words: words handed to the client so far.
        is_done: every line has been acknowledged.
        error: why a line could not be sent, or None.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        lines: Sequence[str],
        *,
        partition_count: int,
        play_s: float,
    ) -> None:
        super().__init__(name="player", daemon=True)
        self.sent_words = 0
        self.is_done = False
        self.error: str | None = None
        self._lines = lines
        self._topic = topic
        self._partition_count = partition_count
        self._play_s = play_s
        self._stopping = threading.Event()
        # Idempotent, and one request at a time, so that the demo's own input has neither losses nor
        # duplicates (decision 0020).
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "max.in.flight.requests.per.connection": 1,
                "linger.ms": 0,
                "log_level": 0,  # its log lines would tear the live table
            }
        )

    def run(self) -> None:
        """Send everything, or until `stop`."""
        start = time.monotonic()
        sent = 0
        while sent < len(self._lines) and not self._stopping.is_set() and not self.error:
            due = int((time.monotonic() - start) / self._play_s * len(self._lines)) + 1
            for line in self._lines[sent:due]:
                self._send(line, sent % self._partition_count)
                sent += 1
            self._producer.poll(0)
            self._stopping.wait(TICK_S)
        if not self._stopping.is_set():
            missing = self._producer.flush(FLUSH_S_MAX)
            if missing and not self.error:
                self.error = f"{missing} lines not acknowledged within {FLUSH_S_MAX} s"
            self.is_done = sent == len(self._lines) and not self.error

    def stop(self) -> None:
        """End early; nothing is flushed."""
        self._stopping.set()
        if self.is_alive():
            self.join(FLUSH_S_MAX)
        self._producer.purge()

    def _send(self, line: str, partition: int) -> None:
        self._producer.produce(
            self._topic, line.encode(), partition=partition, on_delivery=self._on_delivery
        )
        self.sent_words += len(line.split())

    def _on_delivery(self, error: object, _message: object) -> None:
        if error is not None:
            self.error = str(error)

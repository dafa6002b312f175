"""The load generator of docker-compose.yml: lines of a book, again and again, at an even rate.

It runs in the image: `python load.py --topic sentences --rate 500`. SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Iterator
from importlib import resources

from confluent_kafka import Producer

TURN_S = 0.05
"""Lines are sent this often, as many as are due: one by one would cost more than the sending."""

FLUSH_S_MAX = 10.0


def lines() -> Iterator[bytes]:
    """The book's lines with words in them, for ever."""
    book = resources.files("kstash.apps.demo").joinpath("book.txt").read_text(encoding="utf-8")
    return itertools.cycle([line.encode() for line in book.splitlines() if line.strip()])


def due(seconds: float, rate: float, sent: int) -> int:
    """How many lines are to be sent now, at most two seconds' worth after a pause."""
    return max(0, min(int(seconds * rate) - sent, int(2 * rate)))


def main() -> int:
    """Send until a signal comes; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topic", default="sentences")
    parser.add_argument("--rate", type=float, default=500, help="lines a second")
    options = parser.parse_args()
    if options.rate <= 0:
        parser.error("--rate must be above 0")
    stopped: list[int] = []
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda received, _: stopped.append(received))
    # One request on its way: the first records of a new producer are not lost to an election.
    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap_servers,
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 1,
            "linger.ms": 10,
        }
    )
    book, sent, began = lines(), 0, time.monotonic()
    while not stopped:
        number = due(time.monotonic() - began, options.rate, sent)
        for line in itertools.islice(book, number):
            while True:
                try:
                    producer.produce(options.topic, line)
                    break
                except BufferError:  # the broker is away, or slower than the rate
                    if stopped:
                        return 0
                    producer.poll(0.1)
        sent += number
        if number < due(time.monotonic() - began, options.rate, sent):
            sent, began = 0, time.monotonic()  # after a pause the rate begins anew
        producer.poll(0)
        time.sleep(TURN_S)
    left = producer.flush(FLUSH_S_MAX)
    print(f"sent all but {left} lines" if left else "sent all lines", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())

"""Where partitions begin and end, as a foreign client finds it while leaders move.

kafka-python 3.0 asks a node that no longer leads a partition again and again and never for the
new leader (`Fetcher._fetch_offsets_by_times_async` takes NOT_LEADER for a reason to ask again at
once, with the metadata it has), so a client that learned of the cluster before a leader moved gets
no offset. Each try is therefore of a client of its own, which knows the leaders of now.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Literal

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

TRY_MS = 3_000
"""Of one client; a cluster that is well answers within some hundredths of a second."""


def ends_of(
    bootstrap: str,
    places: Sequence[TopicPartition],
    *,
    deadline_s: float,
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_uncommitted",
) -> dict[TopicPartition, int]:
    """Offsets after the last record; with `read_committed`, before the first open transaction.

    Raises:
        AssertionError: there was no answer within `deadline_s` seconds.
    """
    return _ask("end_offsets", bootstrap, places, deadline_s, isolation_level)


def starts_of(
    bootstrap: str, places: Sequence[TopicPartition], *, deadline_s: float
) -> dict[TopicPartition, int]:
    """Offsets of the first records that were not deleted.

    Raises:
        AssertionError: there was no answer within `deadline_s` seconds.
    """
    return _ask("beginning_offsets", bootstrap, places, deadline_s, "read_uncommitted")


def _ask(
    question: str,
    bootstrap: str,
    places: Sequence[TopicPartition],
    deadline_s: float,
    isolation_level: str,
) -> dict[TopicPartition, int]:
    deadline = time.monotonic() + deadline_s
    while True:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=None, isolation_level=isolation_level
        )
        with closing(consumer):
            try:
                answer: dict[TopicPartition, int] = getattr(consumer, question)(
                    places, timeout_ms=TRY_MS
                )
            except KafkaTimeoutError:
                assert time.monotonic() < deadline, f"no {question} of {places} in {deadline_s} s"
            else:
                return answer

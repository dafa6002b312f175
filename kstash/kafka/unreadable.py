"""The end of a batch that the client cannot read: the client reports its first offset only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from kstash.kafka import failures
from kstash.kafka.clients import make_consumer
from kstash.kafka.closing import close_in_time
from kstash.ports.kafka import Partition

SEARCH_S_MAX = 10.0
"""A worker that ends searches for the end of a batch for so long; each try fetches it once."""

POLL_S = 0.2


def last_offset_of(
    settings: Mapping[str, Any],
    partition: Partition,
    first: int,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> int | None:
    """Last offset of the batch that begins at `first` and cannot be read.

    A fetch from within the batch fails with the batch's own first offset, one from after it does
    not: so its end is found by halving.

    Args:
        settings: of a consumer.
        partition: where it is.
        first: its first offset.
        monotonic: seconds that never go back.

    Returns:
        None when it was not found within `SEARCH_S_MAX`.
    """
    chosen = {name: value for name, value in settings.items() if not name.endswith("_cb")} | {
        "isolation.level": "read_uncommitted",
        "enable.partition.eof": True,
    }
    deadline = monotonic() + SEARCH_S_MAX
    client = make_consumer(chosen)
    try:
        _, end = client.get_watermark_offsets(TopicPartition(*partition), timeout=SEARCH_S_MAX)
        # `inside` is in the batch, `outside` is not.
        inside, outside, step = first, end, 1
        while outside - inside > 1:
            at = inside + step if inside + step < outside else (inside + outside) // 2
            is_within = _is_within(client, partition, at, first, lambda: monotonic() < deadline)
            if is_within is None:
                return None
            if is_within:
                inside, step = at, step * 2
            else:
                outside, step = at, max(1, (at - inside) // 2)
        return inside
    except failures.CLIENT_ERRORS:
        return None
    finally:
        close_in_time(str(settings["client.id"]), client.close)


def _is_within(
    client: Consumer,
    partition: Partition,
    at: int,
    first: int,
    has_time: Callable[[], bool],
) -> bool | None:
    """Whether an offset lies in the batch; None when there was no answer in time."""
    client.assign([TopicPartition(*partition, at)])
    while has_time():
        message = client.poll(POLL_S)
        if message is None:
            continue
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return False
        if error.code() in failures.UNREADABLE_CODES:
            return message.offset() == first
    return None

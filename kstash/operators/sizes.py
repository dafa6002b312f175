"""Sizes of records, and what topics accept: checked while the input of a record is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kstash.errors import NullKeyError, RecordTooLargeError
from kstash.operators.batch import Batch
from kstash.ports.kafka import Headers

RECORD_OVERHEAD_BYTES = 64
"""Room for lengths, timestamps and Kafka's own framing of one logical record."""

RECORD_MEMORY_BYTES = 256
"""What a record takes in memory beside its bytes: our objects and the client's."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What an output's topic takes.

    Attributes:
        topic: its name.
        record_bytes_max: size of a record that fits whatever lineage it carries; None: any.
        reserved_bytes: what is kept of `max.message.bytes` for lineage and framing.
        client_bytes_max: what the client takes, where that is less than the topic does; else None.
        needs_keys: whether it is compacted, so that the broker refuses null keys.
    """

    topic: str
    record_bytes_max: int | None = None
    reserved_bytes: int = 0
    client_bytes_max: int | None = None
    needs_keys: bool = False

    def check_sizes(self, batch: Batch, size_bytes: int) -> None:
        """Refuse what may fit at times only, before anything of its event is out.

        Args:
            batch: records that were made.
            size_bytes: of them, as of `bytes_of`.

        Raises:
            RecordTooLargeError: with the index in the batch.
        """
        limit = self.record_bytes_max
        # The first sample is the whole batch, which is small, as a rule.
        if (
            limit is None
            or size_bytes <= limit
            or (batch.headers is None and _largest_at_most(batch) <= limit)
        ):
            return
        for index, size in enumerate(record_sizes(batch)):
            if size > limit:
                raise RecordTooLargeError(
                    f"a record of {size} bytes was made for topic {self.topic!r}, and {limit} fit "
                    f"with the lineage that it may have to carry; {self._fix(size)}",
                    record_index=index,
                )

    def _fix(self, size: int) -> str:
        needed = size + self.reserved_bytes
        if self.client_bytes_max is not None:
            return (
                f"the client takes {self.client_bytes_max}: set "
                f"kafka={{'message.max.bytes': {needed}}} and the topic's max.message.bytes to as "
                "much, or make smaller records"
            )
        return (
            "raise the topic's max.message.bytes, or make smaller records: kafka-configs.sh "
            f"--alter --entity-type topics --entity-name {self.topic} --add-config "
            f"max.message.bytes={needed}"
        )

    def check_keys(self, batch: Batch) -> None:
        """Refuse what the broker would refuse, over and over again.

        Raises:
            NullKeyError: with the index in the batch.
        """
        if self.needs_keys and None in batch.keys:
            raise NullKeyError(
                f"a record without a key cannot be sent to a compacted topic, as {self.topic!r} "
                "is: filter such records out, or give them a key with key_by() before to()",
                record_index=batch.keys.index(None),
            )


def bytes_of(batch: Batch) -> int:
    """Memory that the records of a batch take, about: keys, values, headers, and each record."""
    size = content_bytes(batch)
    for headers in batch.headers or ():
        size += sum(len(name) + len(content or b"") for name, content in headers or ())
    return size + len(batch) * RECORD_MEMORY_BYTES


def content_bytes(batch: Batch) -> int:
    """Of all keys and values."""
    return sum(map(len, filter(None, batch.keys))) + sum(map(len, filter(None, batch.values)))


def record_sizes(batch: Batch) -> Iterator[int]:
    """What each record takes in a topic, at most."""
    headers: Sequence[Headers | None] = batch.headers or [None] * len(batch)
    for key, value, record_headers in zip(batch.keys, batch.values, headers, strict=True):
        size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        for name, content in record_headers or ():
            size += 8 + len(name.encode()) + len(content or b"")
        yield size


def _largest_at_most(batch: Batch) -> int:
    """No record without headers takes more, at the speed of a column."""
    keys, values = filter(None, batch.keys), filter(None, batch.values)
    largest = max(map(len, keys), default=0) + max(map(len, values), default=0)
    return largest + RECORD_OVERHEAD_BYTES

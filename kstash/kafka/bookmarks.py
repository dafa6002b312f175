"""Where a reader is in its partitions, as its group's offsets say or the program itself."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Message, TopicPartition

from kstash.core.fields import number
from kstash.core.reader import ReaderState
from kstash.errors import KafkaUnavailableError, WireCorruptError
from kstash.kafka import failures
from kstash.ports.kafka import Partition

BOOKMARK_BYTES_MAX = 4 << 20
"""Of a bookmark's JSON: 50 bytes for each task that writes the partition. Some kilobytes of zlib
can stand for many megabytes, which JSON makes twenty times as large in memory, and who can commit
offsets for the group can make them up."""

COMMITTED_DEADLINE_S = 30.0


@dataclass(slots=True)
class Bookmark:
    """Where a reader is in one partition.

    Attributes:
        offset: of the Kafka record to read next; -1: none came yet.
        reader: what the reader rule knows there.
    """

    offset: int
    reader: ReaderState = field(default_factory=lambda: ReaderState(is_internal=False))

    def encode(self) -> str:
        """Return the bookmark as text: `z1;` and the compressed JSON in base64."""
        data = json.dumps(
            {"offset": self.offset, "table": self.reader.to_json()}, separators=(",", ":")
        )
        return "z1;" + base64.b64encode(zlib.compress(data.encode(), 9)).decode()

    @classmethod
    def decode(cls, text: str) -> Bookmark:
        """Decode what `encode` gave.

        Raises:
            WireCorruptError: not a bookmark, or one of more than `BOOKMARK_BYTES_MAX` bytes.
        """
        version, _, data = text.partition(";")
        if version != "z1":
            raise WireCorruptError(f"{text[:40]!r} is not a bookmark of a kstash reader")
        try:
            found = json.loads(_inflated(base64.b64decode(data, validate=True)))
            return cls(number(found["offset"] + 1) - 1, ReaderState.from_json(found["table"]))
        except (binascii.Error, zlib.error, ValueError, KeyError, TypeError) as error:
            raise WireCorruptError(f"malformed bookmark: {error!r}") from error
        except RecursionError as error:
            raise WireCorruptError("bookmark nested too deep") from error


def committed_offsets(client: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """What the group has committed for partitions.

    Raises:
        KafkaUnavailableError: it is not to be had; names the partitions.
    """
    if not partitions:
        return []
    concerned, cause = partitions, None
    try:
        found = client.committed(partitions, COMMITTED_DEADLINE_S)
    except failures.CLIENT_ERRORS as error:
        cause, reason = error, failures.describe(error)
    else:
        concerned = [each for each in found if each.error is not None]
        if not concerned:
            return found
        reason = failures.describe(concerned[0].error)
    places = ", ".join(f"{topic!r} partition {number}" for topic, number in places_of(concerned))
    raise KafkaUnavailableError(
        f"the bookmarks of {places} were not to be had: {reason}; check that Kafka is up and that "
        "this user may READ the group, close this reader and start another, which goes on there"
    ) from cause


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, BOOKMARK_BYTES_MAX)
    if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
        raise WireCorruptError(f"no bookmark of at most {BOOKMARK_BYTES_MAX} bytes")
    return inflated


def places_of(partitions: Iterable[TopicPartition]) -> list[Partition]:
    """As the ports name them."""
    return [(partition.topic, partition.partition) for partition in partitions]


def partition_of(message: Message) -> Partition:
    """Of a record that came from Kafka, where both are known."""
    topic, number = message.topic(), message.partition()
    assert topic is not None
    assert number is not None
    return topic, number

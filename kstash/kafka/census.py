"""Who has which task group of an application, and a way to have them shared out anew."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from kstash.errors import WireCorruptError
from kstash.kafka.clients import make_consumer
from kstash.kafka.closing import close_in_time
from kstash.kafka.groups import describe_group, known
from kstash.ports.kafka import Census

_SETTLED = ("Stable", "Empty")


def census_of(
    settings: Mapping[str, Any], *, group: str, topic: str, own: str, timeout_s: float
) -> Census:
    """Who has which partition of a topic in a group.

    Args:
        settings: of an admin client.
        group: consumer group.
        topic: the one whose partitions count.
        own: member id of who asks.
        timeout_s: deadline in seconds.

    Raises:
        KafkaException: no answer; it may come later.
    """
    answers = known(describe_group(settings, group=group, timeout_s=timeout_s))
    owners = {
        partition: str(member.id)
        for answer in answers
        for member in answer.members
        for partition in assigned(member.assignment or b"", topic)
    }
    return Census(
        is_settled=all(answer.state in _SETTLED for answer in answers),
        members=frozenset(str(m.id) for answer in answers for m in answer.members),
        owners=owners,
        own=own,
    )


def assigned(data: bytes, topic: str) -> list[int]:
    """Partitions of a topic in what a group's leader gave a member (ConsumerProtocolAssignment).

    Raises:
        WireCorruptError: it is no such thing.
    """
    if not data:
        return []
    at = 6
    found: list[int] = []
    try:
        (topic_count,) = struct.unpack_from(">i", data, 2)
        for _ in range(topic_count):  # each takes bytes, so that it ends with them
            (length,) = struct.unpack_from(">H", data, at)
            name = data[at + 2 : at + 2 + length].decode()
            at += 2 + length
            (count,) = struct.unpack_from(">I", data, at)
            at += 4
            if 4 * count > len(data) - at:
                raise WireCorruptError(f"assignment of {count} partitions in {len(data)} bytes")
            if name == topic:
                found += struct.unpack_from(f">{count}i", data, at)
            at += 4 * count
    except (struct.error, UnicodeDecodeError) as error:
        raise WireCorruptError(f"malformed assignment of a group's member: {error}") from error
    return found


def share_out(settings: Mapping[str, Any], topic: str, deadline_s: float) -> None:
    """Have a group rebalance: a member of another topic's comes, gets all of it, and goes.

    The others keep what they have, as far as it is evenly spread, and do not stop for it.

    Args:
        settings: of a member, without an instance id.
        topic: any one that the others do not subscribe to.
        deadline_s: seconds that it may take to join.

    Raises:
        KafkaException: the cluster did not let it.
    """
    client = make_consumer(settings)
    is_there = False

    def assign(_: Consumer, __: list[TopicPartition]) -> None:
        nonlocal is_there
        is_there = True
        client.incremental_assign([])  # nothing is read

    try:
        client.subscribe([topic], on_assign=assign)
        deadline = time.monotonic() + deadline_s
        while not is_there and time.monotonic() < deadline:
            client.poll(0.1)
    finally:
        close_in_time(str(settings["client.id"]), client.close)

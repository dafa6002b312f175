"""Who holds the place of a static member in its group.

When the session of a static member ends, the client forgets its member id, and until the caller
has taken note of the loss it sends heartbeats without one; once it has joined again, requests that
were on the way are of the id before. The broker refuses both as of a member that another one has
replaced, and the client calls that fatal, so the group is asked who is there.
"""

from __future__ import annotations

import struct
import time
import warnings
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from kstash.core import names
from kstash.errors import WireCorruptError
from kstash.kafka.clients import make_admin, make_consumer
from kstash.kafka.closing import close_in_time
from kstash.ports.kafka import Census

_SETTLED = ("Stable", "Empty")


def holder_of(
    settings: Mapping[str, Any], *, group: str, instance_id: str, timeout_s: float
) -> str | None:
    """Member id that has an instance id in a group, or None when none has it.

    Args:
        settings: of an admin client.
        group: consumer group.
        instance_id: `group.instance.id` of the member.
        timeout_s: deadline in seconds.

    Raises:
        KafkaException: no answer; it may come later.
    """
    for member in members_of(settings, group=group, timeout_s=timeout_s):
        if names.instance_of(member.id) == instance_id:
            return str(member.id)
    return None


def members_of(settings: Mapping[str, Any], *, group: str, timeout_s: float) -> list[Any]:
    """Members of a group: objects with `id`, `client_id` and `client_host`.

    Args:
        settings: of an admin client.
        group: consumer group.
        timeout_s: deadline in seconds.

    Raises:
        KafkaException: no answer; it may come later.
    """
    return [member for answer in _groups(settings, group, timeout_s) for member in answer.members]


def census_of(
    settings: Mapping[str, Any], *, group: str, topic: str, own: str, timeout_s: float
) -> Census:
    """Who has which partition of a topic in a group.

    Args:
        settings: of an admin client.
        group: consumer group.
        topic: the one whose partitions are looked at.
        own: member id of who asks.
        timeout_s: deadline in seconds.

    Raises:
        KafkaException: no answer; it may come later.
    """
    answers = _groups(settings, group, timeout_s)
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


def _groups(settings: Mapping[str, Any], group: str, timeout_s: float) -> list[Any]:
    client = make_admin(settings)
    with warnings.catch_warnings():
        # The calls that replace it look up the coordinator, and such a call crashes the process
        # when the coordinator moves meanwhile (librdkafka 2.16).
        warnings.simplefilter("ignore", DeprecationWarning)
        answers: list[Any] = client.list_groups(group, timeout=timeout_s)
    known = [answer for answer in answers if answer.id == group and answer.error is None]
    if not known:
        raise KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE))
    return known

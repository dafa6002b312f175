"""Who holds the place of a static member in its group.

When the session of a static member ends, the client forgets its member id, and until the caller
has taken note of the loss it sends heartbeats without one; once it has joined again, requests that
were on the way are of the id before. The broker refuses both as of a member that another one has
replaced, and the client calls that fatal, so the group is asked who is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from kstash.kafka.settings import client_logger

_UUID_LENGTH = 36
"""The broker calls a static member `<instance id>-<uuid>`."""


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
        if member.id[: -(_UUID_LENGTH + 1)] == instance_id:
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
    client = AdminClient(dict(settings), logger=client_logger(str(settings["client.id"])))
    with warnings.catch_warnings():
        # The calls that replace it look up the coordinator, and such a call crashes the process
        # when the coordinator moves meanwhile (librdkafka 2.16).
        warnings.simplefilter("ignore", DeprecationWarning)
        answers: list[Any] = client.list_groups(group, timeout=timeout_s)
    known = [answer for answer in answers if answer.id == group and answer.error is None]
    if not known:
        raise KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE))
    return [member for answer in known for member in answer.members]

"""Consumer groups: which there are, who is in one and holds which place, what it has committed.

Members are asked for by `list_groups`. The calls that replace it look up the group's coordinator,
and such a call crashes the process when the coordinator moves meanwhile (librdkafka 2.16): an
assertion of the client's, which no error code announces. Committed offsets are read by a consumer
for the same reason. To delete a group there is no other call, and only a person's command does so.

When the session of a static member ends, the client forgets its member id, and until the caller has
taken note of the loss it sends heartbeats without one; once it has joined again, requests that were
on the way are of the id before. The broker refuses both as of a member that another one has
replaced, and the client calls that fatal, so the group is asked who is there.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from kstash.core import names
from kstash.kafka import failures
from kstash.kafka.admin_requests import AdminRequests
from kstash.kafka.clients import make_admin
from kstash.kafka.positions import CommittedPositionsReader
from kstash.ports.kafka import Partition

ATTEMPT_S_MAX = 5.0
RETRY_PAUSE_S = 0.2


class KafkaGroups:
    """Groups of a cluster, for people's commands.

    Args:
        requests: asks the cluster.
    """

    def __init__(self, requests: AdminRequests) -> None:
        self._requests = requests
        # Errors are raised where they matter; the clients' own lines would mix with output.
        self._settings = {**requests.settings, "log_level": 0}

    def existing(self, names: Collection[str]) -> list[str]:
        """Those of the consumer groups that exist.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
        """
        found = self._requests.ask_all(
            "list the groups",
            ["all"],
            lambda _, timeout_s: {
                "all": self._requests.client.list_consumer_groups(request_timeout=timeout_s)
            },
            absent=(),
            right=("cluster", "DESCRIBE"),
        )
        listed = {group.group_id for group in found["all"].valid}
        return [name for name in names if name in listed]

    def members(self, group: str) -> list[str]:
        """Names of a group's members, with their hosts; none for a group that does not exist.

        A group that no broker lists may not exist, may be on its way from one coordinator to the
        next, or may not be shown to this client. So its coordinator is asked for offsets, which
        takes the right and waits until the group is where it belongs; then the brokers are asked
        once more.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the cluster refuses to say.
        """
        answers = self._described(group)
        if not answers:
            self.committed(group, [(group, 0)])
            answers = self._described(group)
        return sorted(
            f"{names.instance_of(member.id)} at {member.client_host}"
            for answer in answers
            for member in answer.members
        )

    def committed(self, group: str, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Offsets that a group has committed for these; those without one are left out.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the cluster refuses to say.
        """
        self._requests.contact()
        settings = self._settings | {"group.id": group, "enable.auto.commit": False}
        reader = CommittedPositionsReader(settings, deadline_s=self._requests.deadline_s)
        try:
            return reader.offsets(partitions)
        finally:
            reader.close()

    def delete(self, groups: Collection[str]) -> None:
        """Delete groups with their offsets; a group that is gone is left alone.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            ClusterError: the cluster refuses it.
        """
        if groups:
            self._requests.ask_all(
                "delete groups",
                sorted(groups),
                lambda rest, timeout_s: self._requests.client.delete_consumer_groups(
                    rest, request_timeout=timeout_s
                ),
                absent={KafkaError.GROUP_ID_NOT_FOUND},
                right=("group", "DELETE"),
            )

    def _described(self, group: str) -> list[Any]:
        self._requests.contact()
        what = f"describe group {group!r}"
        deadline = time.monotonic() + self._requests.deadline_s
        timeout_s = min(ATTEMPT_S_MAX, self._requests.deadline_s)
        while True:
            try:
                return describe_group(self._settings, group=group, timeout_s=timeout_s)
            except failures.CLIENT_ERRORS as error:
                inner = failures.kafka_error(error)
                if inner is not None and inner.code() in failures.REFUSED_CODES:
                    right = "group", group, "DESCRIBE"
                    raise failures.refused(what, error, right=right) from error
                if time.monotonic() > deadline:
                    raise self._requests.unavailable(what, error) from error
            time.sleep(RETRY_PAUSE_S)


def describe_group(settings: Mapping[str, Any], *, group: str, timeout_s: float) -> list[Any]:
    """What the brokers say of a group: objects with `state` and `members`; empty: none lists it.

    Args:
        settings: of an admin client.
        group: consumer group.
        timeout_s: deadline in seconds.

    Raises:
        KafkaException: no answer, or not of all brokers; it may come later.
    """
    client = make_admin(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        answers: list[Any] = client.list_groups(group, timeout=timeout_s)
    found = [answer for answer in answers if answer.id == group]
    for answer in found:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return found


def members_of(settings: Mapping[str, Any], *, group: str, timeout_s: float) -> list[Any]:
    """Members of a group: objects with `id`, `client_id` and `client_host`.

    Args:
        settings: of an admin client.
        group: consumer group.
        timeout_s: deadline in seconds.

    Raises:
        KafkaException: no answer; it may come later. Nor is it one that no broker lists the group.
    """
    answers = known(describe_group(settings, group=group, timeout_s=timeout_s))
    return [member for answer in answers for member in answer.members]


def known(answers: list[Any]) -> list[Any]:
    """The answers, if there are any.

    Raises:
        KafkaException: none; it may come later.
    """
    if not answers:
        raise KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE))
    return answers


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

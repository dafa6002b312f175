"""Kafka, its topics or the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kstash.errors.base import KstashError, LocatedError
from kstash.escape import printable


class ClusterError(KstashError):
    """Kafka does not offer what the application needs."""


class AccessRefusedError(ClusterError):
    """Kafka refuses this client: its user, its certificate, or how it connects.

    Only at a start: what worked once is waited for.

    Attributes:
        setting: what is to be mended: `bootstrap_servers`, or one of `kafka`.
    """

    is_lasting = True

    def __init__(self, detail: str, setting: str, *, is_lasting: bool = True) -> None:
        super().__init__(detail)
        self.setting = setting
        self.is_lasting = is_lasting


class RightMissingError(ClusterError):
    """Kafka's access rules do not allow what the application needs. It may pass: rules are changed.

    Attributes:
        missing: (kind of resource, its name, operation) of each right: the kind is `topic`,
            `group`, `transactional id` or `cluster`.
    """

    def __init__(self, missing: Sequence[tuple[str, str, str]], said: str = "") -> None:
        rights = "; ".join(
            operation + (f" on {kind} {name!r}" if name else f" on the {kind}")
            for kind, name, operation in missing
        )
        kind, name, operation = missing[0]
        option = {"transactional id": "--transactional-id"}.get(kind, f"--{kind}")
        why = f" (Kafka says: {said})" if said else ""
        super().__init__(
            f"Kafka does not allow this client: {rights}{why}; check the client's credentials and "
            "the ACLs: kafka-acls.sh --add --allow-principal User:... --operation "
            f"{operation} {option}{f' {name}' if name else ''}"
        )
        self.missing = tuple(missing)


class TopicMismatchError(ClusterError):
    """A topic exists with a setting that the application cannot work with.

    Attributes:
        topic: its name.
        setting: name of the topic setting, or `partition count`.
        found: the value it has.
        needed: the value or range that is needed.
        fix: the command that fixes it.
    """

    is_lasting = True

    def __init__(
        self, topic: str, setting: str, *, found: object, needed: object, fix: str
    ) -> None:
        super().__init__(
            f"topic {topic!r}: {setting} is {found}, needed is {needed}; to fix it: {fix}"
        )
        self.topic = topic
        self.setting = setting
        self.found = found
        self.needed = needed
        self.fix = fix


class TopicMissingError(ClusterError):
    """A topic that the application needs does not exist.

    Attributes:
        topics: the missing topics.
        fix: the command that creates them, or None.
    """

    is_lasting = True

    def __init__(self, topics: Sequence[str], fix: str | None = None) -> None:
        names = ", ".join(repr(topic) for topic in topics)
        super().__init__(f"no such topic: {names}" + (f"; to fix it: {fix}" if fix else ""))
        self.topics = tuple(topics)
        self.fix = fix


class TopicMadeAnewError(ClusterError):
    """Topics of the application were deleted and made anew: its offsets mean nothing there.

    Attributes:
        topics: their names.
        is_written: they are sinks, and nothing that is read: the next start goes on.
    """

    def __init__(self, topics: Sequence[str], *, is_written: bool = False) -> None:
        names = ", ".join(repr(topic) for topic in topics)
        if is_written:
            what = (
                f"deleted and made anew under the application, which writes there: {names}; "
                "what they held is gone, and the next start goes on with the next outputs"
            )
        else:
            what = (
                f"deleted and made anew since the application read it: {names}; what it had not "
                "processed is lost. Nothing else was changed: its state, its other topics and its "
                "outputs are what they were. To go on with what is there now beside them, give the "
                "program another application_id; `kstash reset` starts this one afresh, and gives "
                "up its state"
            )
        super().__init__(what)
        self.topics = tuple(topics)
        self.is_written = is_written
        self.is_lasting = not is_written


class TopicSharedError(LocatedError, ClusterError):
    """An internal topic holds records of another application.

    Attributes:
        other: the other application's id, or its tag in hexadecimal where the id is not known.
    """

    is_lasting = True

    def __init__(self, topic: str, other: str) -> None:
        super().__init__(
            f"internal topic {topic!r} holds records of application {other!r}, which called it so "
            "too (older versions did not keep such names apart): leave the topic alone, and give "
            "the key edge of this application another name (`name=` of key_by, or the name in "
            "repartition), or this application another application_id"
        )
        self.other = other


class ApplicationRunningError(ClusterError):
    """Workers of the application are active, and what was asked for needs them stopped.

    Attributes:
        members: names of the workers.
    """

    def __init__(self, application_id: str, members: Sequence[str]) -> None:
        who = printable(", ".join(members))
        super().__init__(
            f"workers of {application_id!r} are active: {who}; stop them with SIGTERM "
            "(one that was stopped or killed counts until its session, session_timeout_ms, "
            "has timed out), then try again"
        )
        self.members = tuple(members)


class ResetUnfinishedError(ClusterError):
    """A reset of the application is under way, or was cut short: no worker may start.

    Attributes:
        journal: the topic that says so.
    """

    def __init__(self, application_id: str, journal: str) -> None:
        super().__init__(
            f"a reset of {application_id!r} is under way, or was cut short, as topic {journal!r} "
            f"shows: run `kstash reset {application_id}` again, with the options that it had"
        )
        self.journal = journal


class OffsetOutOfRangeError(LocatedError, ClusterError):
    """A record that is needed is no longer (or not yet) in its partition."""


class RecordUnreadableError(LocatedError, ClusterError):
    """Records of a partition cannot be read: now and at each later try."""


class MemberFencedError(ClusterError):
    """Another process took this worker's membership; this worker must end at once."""


class ApplicationIdTakenError(ClusterError):
    """Another program, or the same one under another guarantee, runs under this application id.

    Attributes:
        members: who runs it, as the group knows them.
    """

    is_lasting = True

    def __init__(self, application_id: str, members: Sequence[str]) -> None:
        super().__init__(
            f"application_id {application_id!r} is in use by another program, or under another "
            f"guarantee ({printable(', '.join(members))}): stop that one, or give this one another "
            "application_id"
        )
        self.members = tuple(members)


class ProducerFailedError(ClusterError):
    """A producer lost a record or failed for good; every task that uses it must claim again.

    Attributes:
        is_fenced: whether a newer producer of the same name took over.
    """

    def __init__(self, detail: str, *, is_fenced: bool = False) -> None:
        super().__init__(detail)
        self.is_fenced = is_fenced


class ProducerRefusedError(ProducerFailedError):
    """A producer was refused what it needs: a right, or the topic.

    Soon over (rules for access take a while to reach every broker), or never: the worker tries
    again for some seconds, then it ends with this.
    """


class RecordRefusedError(LocatedError, ProducerFailedError):
    """A topic refuses a record, and will whenever it comes: the worker ends.

    Attributes:
        suspect: what is wrong with it, where Kafka says so: `timestamp`, `size` or `record` (in
            a compacted topic, that it has no key); else None.
    """

    def __init__(
        self,
        detail: str,
        *,
        topic: str | None = None,
        partition: int | None = None,
        suspect: Literal["timestamp", "size", "record"] | None = None,
    ) -> None:
        super().__init__(detail, topic=topic, partition=partition)
        self.suspect = suspect


class RecordTooLargeError(LocatedError, ClusterError):
    """A record can never fit into the topic's `max.message.bytes`.

    Attributes:
        record_index: as for `OperatorError`, where a program made the record.
    """

    def __init__(
        self,
        detail: str,
        *,
        topic: str | None = None,
        partition: int | None = None,
        record_index: int = 0,
    ) -> None:
        super().__init__(detail, topic=topic, partition=partition)
        self.record_index = record_index


class KafkaUnavailableError(ClusterError):
    """Kafka did not answer within the deadline; it may later."""


class CheckpointStoreError(ClusterError):
    """The store of remote checkpoints did not do what it was asked; it may later."""


class BookmarkTooLargeError(LocatedError, ClusterError):
    """What a reader knows does not fit into the metadata of a committed offset.

    Attributes:
        size: of the encoded bookmark, in bytes.
        size_max: the broker's limit, in bytes.
    """

    def __init__(
        self, topic: str, partition: int, *, size: int, size_max: int, writers: int
    ) -> None:
        super().__init__(
            f"the bookmark takes {size} bytes ({writers} tasks write here), but the broker's "
            f"offset.metadata.max.bytes is {size_max}: raise it and `metadata_bytes_max`, or keep "
            "`bookmarks()` in a store of your own and give them back through `restore`",
            topic=topic,
            partition=partition,
        )
        self.size = size
        self.size_max = size_max

"""All errors that kstash raises, as one tree sorted by whose fault it is.

- `ProgramError`: the user's code or its topology. Fix the program.
- `ConfigError`: a setting. Fix the configuration.
- `ClusterError`: Kafka, its topics or the network. Fix the cluster, or wait for it.
- `ProtocolError`: bytes in Kafka that break the lineage protocol. Never ignored.
- `StateError`: the disk under the state directory.
- `StepDeadlineError`: kstash itself waited longer than it may.
- `WorkerFailedError`: a supervised worker does not stay alive; what ended it is in its last lines.

Operating errors carry the ids of the case (topic, partition, offset, setting) as attributes and in
their message. Programmer errors inside kstash are `assert`s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self


class KstashError(Exception):
    """Base of every error that kstash raises on purpose."""


class LocatedError(KstashError):
    """An error at a record of a topic. Who knows the place adds it with `at`.

    Attributes:
        detail: what is wrong, without the place.
        topic: Kafka topic, or None when not known.
        partition: partition number, or None when not known.
        offset: offset of the Kafka record, or None when not known.
    """

    def __init__(
        self,
        detail: str,
        *,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.topic = topic
        self.partition = partition
        self.offset = offset

    def at(self, topic: str, partition: int | None = None, offset: int | None = None) -> Self:
        """Add the place where it happened, and return the error itself.

        What is known already stays: the innermost caller knows best.
        """
        if self.topic is None:
            self.topic, self.partition, self.offset = topic, partition, offset
        return self

    def __str__(self) -> str:
        if self.topic is None:
            return self.detail
        place = f"topic {self.topic!r}"
        if self.partition is not None:
            place += f", partition {self.partition}"
        if self.offset is not None:
            place += f", offset {self.offset}"
        return f"{self.detail} ({place})"


# --- the user's program -------------------------------------------------------------------------


class ProgramError(KstashError):
    """The user's program is wrong."""


class TopologyError(ProgramError):
    """A program that cannot work was built; nothing has run.

    Attributes:
        location: `file:line` of the user's code that declared it, or None.
    """

    def __init__(self, detail: str, location: str | None = None) -> None:
        super().__init__(f"{location}: {detail}" if location else detail)
        self.detail = detail
        self.location = location


class OperatorError(LocatedError, ProgramError):
    """A user's function raised.

    Attributes:
        operator: name of the operator in the topology.
        record_index: index of the record in the batch that the operator was given; out of a
            `StageProgram`: in the batch that the stage was given.
        cause: the exception with the user's traceback.
    """

    def __init__(self, operator: str, record_index: int, cause: BaseException) -> None:
        super().__init__(f"operator {operator!r} failed: {type(cause).__name__}: {cause}")
        self.operator = operator
        self.record_index = record_index
        self.cause = cause
        self.__cause__ = cause


class SerdeError(LocatedError, ProgramError):
    """A key or value could not become bytes, or bytes not a key or value.

    Attributes:
        operator: name of the operator in the topology that needed it.
        serde: name of the serde.
        action: `serialize` or `deserialize`.
        field: `key` or `value`.
        record_index: as for `OperatorError`.
        cause: the exception that the serde raised.
    """

    def __init__(
        self,
        operator: str,
        serde: str,
        action: str,
        field: str,
        record_index: int,
        cause: BaseException,
    ) -> None:
        super().__init__(
            f"serde {serde!r} of {operator!r} cannot {action} a {field}: "
            f"{type(cause).__name__}: {cause}"
        )
        self.operator = operator
        self.serde = serde
        self.action = action
        self.field = field
        self.record_index = record_index
        self.cause = cause
        self.__cause__ = cause


# --- settings -----------------------------------------------------------------------------------


class NullKeyError(LocatedError, ProgramError):
    """A record without a key was made for a compacted topic, where Kafka refuses it."""


class ConfigError(KstashError):
    """A setting is unknown, missing or out of its range.

    Attributes:
        setting: its name, or None when the message is about several.
    """

    def __init__(self, detail: str, setting: str | None = None) -> None:
        super().__init__(detail)
        self.setting = setting


# --- Kafka --------------------------------------------------------------------------------------


class ClusterError(KstashError):
    """Kafka does not offer what the application needs."""


class TopicMismatchError(ClusterError):
    """A topic exists with a setting that the application cannot work with.

    Attributes:
        topic: its name.
        setting: name of the topic setting, or `partition count`.
        found: the value it has.
        needed: the value or range that is needed.
        fix: the command that fixes it.
    """

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

    def __init__(self, topics: Sequence[str], fix: str | None = None) -> None:
        names = ", ".join(repr(topic) for topic in topics)
        super().__init__(f"no such topic: {names}" + (f"; to fix it: {fix}" if fix else ""))
        self.topics = tuple(topics)
        self.fix = fix


class TopicMadeAnewError(ClusterError):
    """Topics that the application reads were deleted and made anew: its offsets mean nothing there.

    Attributes:
        topics: their names.
    """

    def __init__(self, topics: Sequence[str]) -> None:
        names = ", ".join(repr(topic) for topic in topics)
        super().__init__(
            f"deleted and made anew since the application read it: {names}; what it had not "
            "processed is lost. `kstash reset` starts it afresh on what is there now"
        )
        self.topics = tuple(topics)


class ApplicationRunningError(ClusterError):
    """Workers of the application are active, and what was asked for needs them stopped.

    Attributes:
        members: names of the workers.
    """

    def __init__(self, application_id: str, members: Sequence[str]) -> None:
        super().__init__(
            f"workers of {application_id!r} are active: {', '.join(members)}; stop them with "
            "SIGTERM (a killed one counts until its session times out), then try again"
        )
        self.members = tuple(members)


class OffsetOutOfRangeError(LocatedError, ClusterError):
    """A record that is needed is no longer (or not yet) in its partition."""


class MemberFencedError(ClusterError):
    """Another process took this worker's place in the group; this worker must end at once."""


class ApplicationIdTakenError(ClusterError):
    """Another program, or the same one under another guarantee, runs under this application id.

    Attributes:
        members: who runs it, as the group knows them.
    """

    def __init__(self, application_id: str, members: Sequence[str]) -> None:
        super().__init__(
            f"application_id {application_id!r} is in use by another program, or under another "
            f"guarantee ({', '.join(members)}): stop that one, or give this one another "
            "application_id"
        )
        self.members = tuple(members)


class ProducerFailedError(ClusterError):
    """A producer lost a record or failed for good; every task behind it must claim again.

    Attributes:
        is_fenced: whether a newer producer of the same name took over.
    """

    def __init__(self, detail: str, *, is_fenced: bool = False) -> None:
        super().__init__(detail)
        self.is_fenced = is_fenced


class RecordTooLargeError(LocatedError, ClusterError):
    """A record can never fit into the topic's `max.message.bytes`."""


class KafkaUnavailableError(ClusterError):
    """Kafka did not answer within the deadline; it may later."""


class CheckpointStoreError(ClusterError):
    """The store of remote checkpoints did not do what it was asked; it may later."""


class BookmarkTooLargeError(LocatedError, ClusterError):
    """A reader's table does not fit into the metadata of a committed offset.

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


# --- the protocol -------------------------------------------------------------------------------


class ProtocolError(LocatedError):
    """What was read from Kafka breaks the lineage protocol."""


class WireCorruptError(ProtocolError):
    """Bytes that kstash should have written do not decode."""


class SequenceGapError(ProtocolError):
    """A reader saw a sequence number jump: records of the writer are missing in the partition."""


class IncarnationFencedError(ProtocolError):
    """A higher incarnation of the task group exists: this one is the zombie and must stop."""


class ReplayDivergedError(ProtocolError):
    """Replay made another output than the one that is stored.

    The program is not deterministic (threads, `hash()`, a clock or a network call inside an
    operator), or its code was changed between crash and restart.
    """


class LineageGapError(ProtocolError):
    """Lineage that recovery needs is in neither the lineage topic nor any output partition."""


class CommittedPositionLostError(ProtocolError):
    """A checkpoint exists, but the committed position of its sinks does not.

    Replay cannot tell which outputs are out already.
    """


class ProgramChangedError(ProgramError):
    """The program, or a setting that changes results, is not the one that left lineage and state.

    Attributes:
        differences: setting name to (value in the lineage, value now).
        changes: every change of the program for people: `+` added, `-` removed, `~` changed.
        refused: those of them that a drain does not make possible.
    """

    def __init__(
        self,
        differences: Mapping[str, tuple[str | None, str | None]],
        changes: Sequence[str] = (),
        refused: Sequence[str] = (),
    ) -> None:
        settings = [f"{k}: was {a!r}, is {b!r}" for k, (a, b) in differences.items()]
        lines = "\n  ".join(["", *(changes or settings)])
        if refused:
            what = "\n  ".join(["", *refused])
            fix = (
                f"these cannot be taken over, drained or not:{what}\nA store is given up by "
                "--drop-store NAME (setting drop_stores); all else needs the old declaration, "
                "another application_id, or `kstash reset`"
            )
        else:
            fix = (
                "stop all workers, run `kstash drain PROGRAM` with the old program (it finishes "
                "what is in flight, checkpoints all tasks and stops), then start this one"
            )
        super().__init__(
            f"the program changed since it last ran, and cannot replay the old lineage:{lines}\n"
            f"To go on: {fix}"
        )
        self.differences = dict(differences)
        self.changes = tuple(changes)
        self.refused = tuple(refused)


# --- local state --------------------------------------------------------------------------------


class StateError(KstashError):
    """The state directory cannot be used (disk full, I/O error, locked by another process).

    Attributes:
        folder: the folder concerned, or None.
    """

    def __init__(self, detail: str, folder: str | None = None) -> None:
        super().__init__(f"{folder}: {detail}" if folder else detail)
        self.folder = folder


class CheckpointCorruptError(StateError):
    """A checkpoint's files are not what was written."""


# --- kstash itself ------------------------------------------------------------------------------


class StepDeadlineError(KstashError):
    """A step of recovery or shutdown was not done within its deadline.

    Attributes:
        step: what was waited for.
        deadline_s: the deadline in seconds.
    """

    def __init__(self, step: str, deadline_s: float) -> None:
        super().__init__(f"{step} was not done within {deadline_s:g} s")
        self.step = step
        self.deadline_s = deadline_s


class WorkerFailedError(KstashError):
    """A supervised worker died again and again.

    Attributes:
        worker: its name, `worker-<number>`.
        ended_with: how the last process ended: `exit code <n>`, or the name of a signal.
        lines: the last lines that it logged.
    """

    def __init__(
        self,
        worker: str,
        ended_with: str,
        *,
        deaths: int,
        quick_life_s: float,
        lines: Iterable[str],
    ) -> None:
        self.worker = worker
        self.ended_with = ended_with
        self.lines = tuple(lines)
        shown = "\n".join(self.lines) or "(none)"
        super().__init__(
            f"{worker} ended {deaths} times within {quick_life_s:g} s of its start, the last time "
            f"with {ended_with}, and is given up; the other workers were stopped; its last "
            f"lines:\n{shown}"
        )


class JobCancelledError(KstashError):
    """Nobody wants the result of this background job any more; never leaves its thread."""

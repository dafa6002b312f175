"""The user's program, or its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kstash.errors.base import KstashError, LocatedError
from kstash.escape import error_text, short_repr


class ProgramError(KstashError):
    """The user's program is wrong."""


class TopologyError(ProgramError):
    """A program that cannot work was built; nothing has run.

    Attributes:
        location: `file:line` of the user's code that declared it, or None.
    """

    is_lasting = True

    def __init__(self, detail: str, location: str | None = None) -> None:
        super().__init__(f"{location}: {detail}" if location else detail)
        self.detail = detail
        self.location = location


class UnknownWordError(TopologyError, AttributeError):
    """A word of another library that kstash has not; the message says what to use."""


class OperatorError(LocatedError, ProgramError):
    """A user's function raised.

    Attributes:
        operator: name of the operator in the topology.
        record_index: index of the record in the batch that the operator was given; out of a
            `StageProgram`: in the batch that the stage was given.
        cause: the exception with the user's traceback.
    """

    def __init__(self, operator: str, record_index: int, *, cause: BaseException) -> None:
        super().__init__(f"operator {operator!r} failed: {error_text(cause)}")
        self.operator = operator
        self.record_index = record_index
        self.cause = cause
        self.__cause__ = cause


class ProcessorError(ProgramError):
    """What sets up or gives up a processor raised: no record has set that off.

    Attributes:
        operator: name of the operator in the topology.
        method: the class and its method, as `Silence.open`.
        cause: the exception with the user's traceback.
    """

    def __init__(self, operator: str, method: str, *, cause: BaseException) -> None:
        super().__init__(
            f"operator {operator!r} failed in {method}(), which is given no record: "
            f"{error_text(cause)}. Mend that method, or what it needs, and start again"
        )
        self.operator = operator
        self.method = method
        self.cause = cause
        self.__cause__ = cause


class OutsideCallError(ProgramError):
    """The context or a state of a processor was used while no call of it was under way.

    Attributes:
        location: `file:line` of the user's code that used it.
    """

    def __init__(self, what: str, location: str) -> None:
        super().__init__(
            f"{location}: {what} is used outside the call that it is for, where there is no key "
            "whose state or timers it could reach: use it within on_record, on_timer or "
            "on_wall_timer, before that returns, and not in open, in close or in another thread"
        )
        self.location = location


class MisplacedKeyError(OperatorError):
    """A record lies in another partition than state over several topics has its key in.

    Attributes:
        key: encoded.
        partition: where the record is.
        needed: where the key belongs.
    """

    def __init__(
        self, operator: str, record_index: int, *, key: bytes, partition: int, needed: int
    ) -> None:
        super().__init__(
            operator,
            record_index,
            cause=ValueError(
                f"the state of key {short_repr(key)} is in partition {needed}, and this is "
                f"{partition}: the topic is not spread by Kafka's default partitioner (murmur2), "
                "as all topics of one state must be. Put .repartition(NAME) after the stream of "
                "that topic, or have its producers use that one (librdkafka: "
                "partitioner=murmur2_random)"
            ),
        )
        self.key = key
        self.partition = partition
        self.needed = needed


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
        *,
        action: str,
        field: str,
        record_index: int,
        cause: BaseException,
    ) -> None:
        super().__init__(
            f"serde {serde!r} of {operator!r} cannot {action} a {field}: {error_text(cause)}"
        )
        self.operator = operator
        self.serde = serde
        self.action = action
        self.field = field
        self.record_index = record_index
        self.cause = cause
        self.__cause__ = cause


class NullKeyError(LocatedError, ProgramError):
    """A record without a key was made for a compacted topic, where Kafka refuses it.

    Attributes:
        record_index: as for `OperatorError`.
    """

    def __init__(self, detail: str, *, record_index: int) -> None:
        super().__init__(detail)
        self.record_index = record_index


class TimestampError(LocatedError, ProgramError):
    """A record has no time: its Kafka record has none, or a `timestamp=` function made none.

    Attributes:
        operator: what needs it, as in the topology.
        record_index: as for `OperatorError`.
    """

    def __init__(self, operator: str, detail: str, *, record_index: int) -> None:
        super().__init__(f"{operator!r} finds no time of a record: {detail}")
        self.operator = operator
        self.record_index = record_index


class ProgramChangedError(ProgramError):
    """The program, or a setting that changes results, is not the one that left lineage and state.

    Attributes:
        differences: setting name to (value in the lineage, value now).
        changes: every change of the program for people: `+` added, `-` removed, `~` changed.
        refused: those of them that a drain does not make possible.
    """

    is_lasting = True

    def __init__(
        self,
        differences: Mapping[str, tuple[str | None, str | None]],
        changes: Sequence[str] = (),
        *,
        refused: Sequence[str] = (),
    ) -> None:
        settings = [f"{k}: was {a!r}, is {b!r}" for k, (a, b) in differences.items()]
        lines = "\n  ".join(["", *(changes or settings)])
        if refused:
            what = "\n  ".join(["", *refused])
            fix = (
                f"these cannot be taken over, drained or not:{what}\nA store is given up by "
                "--drop-store NAME (setting drop_stores); all else needs the old declaration, "
                "another application_id, or `kstash reset`, which gives up all state"
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


class ConfigError(KstashError):
    """A setting is unknown, missing or out of its range.

    Attributes:
        setting: its name, or None when the message is about several.
    """

    is_lasting = True

    def __init__(self, detail: str, setting: str | None = None) -> None:
        super().__init__(detail)
        self.setting = setting


class SkipTooLateError(LocatedError, ConfigError):
    """`skip_records` names a record that was processed before: what came of it is out.

    Attributes:
        stage: number of the stage that has processed it.
        input: index of the input of that stage.
    """

    def __init__(self, stage: int, input_index: int, *, offset: int) -> None:
        super().__init__(
            "skip_records names a record that was processed before, or that lies before what is "
            "read: what came of it is out, and cannot be passed over any more. Nothing was "
            "changed; take the record out of skip_records, and start again",
            offset=offset,
        )
        self.setting = "skip_records"
        self.stage = stage
        self.input = input_index


class OpenFilesError(ConfigError):
    """The process may not open as many files as it needs, connections included.

    Attributes:
        limit: how many it may.
        needed: how many it should be allowed, about.
    """

    is_lasting = False  # fewer task groups fall to it when others are back

    def __init__(self, detail: str, *, limit: int, needed: int) -> None:
        super().__init__(
            f"{detail}: raise the limit (`ulimit -n {needed}` before the start, LimitNOFILE= of a "
            "systemd unit, `nofile` of a container), or run more workers, each with fewer groups"
        )
        self.limit = limit
        self.needed = needed

"""Errors: one tree by fault, messages that carry the ids of the case."""

from __future__ import annotations

import pytest

import kstash
from kstash import errors


def test_every_public_error_is_a_kstash_error() -> None:
    """One `except KstashError` catches all that kstash raises on purpose."""
    public = [getattr(errors, name) for name in errors.__all__]
    assert len(public) > 20
    assert all(issubclass(error, kstash.KstashError) for error in public)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (errors.OperatorError, errors.ProgramError),
        (errors.TopologyError, errors.ProgramError),
        (errors.TopicMismatchError, errors.ClusterError),
        (errors.KafkaUnavailableError, errors.ClusterError),
        (errors.WireCorruptError, errors.ProtocolError),
        (errors.ReplayDivergedError, errors.ProtocolError),
        (errors.CheckpointCorruptError, errors.StateError),
    ],
)
def test_errors_are_sorted_by_fault(error: type[Exception], fault: type[Exception]) -> None:
    """Who has to act is told by the type."""
    assert issubclass(error, fault)


LASTING = {
    "AccessRefusedError",
    *(
        "ApplicationIdTakenError",
        "CommittedPositionLostError",
        "ConfigError",
        "ProgramChangedError",
    ),
    *("SkipTooLateError", "TopicMismatchError", "TopicMissingError", "TopicSharedError"),
    *("TopologyError", "UnknownWordError"),
}
"""Somebody has to change the program, its settings or the topics first."""


def test_what_a_restart_does_not_mend() -> None:
    """Told by the type; what passes by itself, or may pass, is tried again."""
    assert {name for name in errors.__all__ if getattr(errors, name).is_lasting} == LASTING
    assert errors.TopicMadeAnewError(["read"]).is_lasting
    assert not errors.TopicMadeAnewError(["written"], is_written=True).is_lasting


def test_the_innermost_place_stays() -> None:
    """A place is added as far as it is known, once."""
    error = errors.WireCorruptError("garbage")
    assert str(error) == "garbage"
    assert str(error.at("topic", 3)) == "garbage (topic 'topic', partition 3)"
    assert str(error.at("other", 1, 2)) == "garbage (topic 'topic', partition 3)"
    located = errors.SequenceGapError("gap", topic="t", partition=0, offset=0)
    assert str(located) == "gap (topic 't', partition 0, offset 0)"


def test_a_topic_mismatch_says_how_to_fix_it() -> None:
    """Topic, setting, found, needed and the command."""
    error = errors.TopicMismatchError(
        "t", "cleanup.policy", found="compact", needed="delete", fix="kafka-configs.sh …"
    )
    assert str(error) == (
        "topic 't': cleanup.policy is compact, needed is delete; to fix it: kafka-configs.sh …"
    )


def test_missing_topics_are_all_named() -> None:
    """With the command that creates them, where there is one."""
    assert str(errors.TopicMissingError(["a", "b"])) == "no such topic: 'a', 'b'"
    assert str(errors.TopicMissingError(["a"], "make it")).endswith("; to fix it: make it")


def test_deadlines_and_folders_are_in_the_message() -> None:
    """Seconds are shown as they are, folders first."""
    assert str(errors.StepDeadlineError("fencing", 2.5)) == "fencing was not done within 2.5 s"
    assert str(kstash.StateError("disk full", "/state")) == "/state: disk full"
    assert str(kstash.StateError("disk full")) == "disk full"


def test_what_somebody_elses_text_holds_is_shown_and_not_obeyed() -> None:
    """A record in the text of a user's error may be an escape sequence of a terminal."""
    cause = ValueError("bad \x1b]0;owned\x07 record")
    for error in (
        errors.OperatorError("map", 0, cause=cause),
        errors.SerdeError(
            "map", "json", action="deserialize", field="value", record_index=0, cause=cause
        ),
        errors.ApplicationRunningError("app", ["a\x1b[2J"]),
        errors.ApplicationIdTakenError("app", ["a\x1b[2J"]),
    ):
        assert str(error).isprintable()

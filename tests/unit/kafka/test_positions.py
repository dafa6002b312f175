"""What the answers about committed positions are taken for; no broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError

from kstash.errors import KafkaUnavailableError, RightMissingError
from kstash.kafka.positions import READ_DEADLINE_S, CommittedPositionsReader
from kstash.testing import ManualClock

PLACE = "app-lineage", 0


@dataclass
class Answer:
    """A committed offset as the client tells it: with an error it says nothing of the offset."""

    error: KafkaError | None = None
    offset: int = OFFSET_INVALID
    metadata: str | None = None


class Group:
    """A client whose group gives one answer after the other; each takes some seconds."""

    def __init__(self, clock: ManualClock, *answers: Answer) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.calls: list[str] = []

    def poll(self, timeout_s: float) -> None:
        """Brings the log of the client, without waiting."""
        assert timeout_s == 0
        self.calls.append("poll")

    def committed(self, _partitions: Any, _timeout_s: float) -> list[Answer]:
        """The next answer, the last one again and again."""
        self.calls.append("ask")
        self.clock.advance(READ_DEADLINE_S / 3)
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


def read(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> str | None:
    """What a reader makes of answers."""
    clock = ManualClock()
    settings = {"group.id": "app-positions", "bootstrap.servers": "127.0.0.1:9"}
    reader = CommittedPositionsReader(settings, monotonic=clock.monotonic)
    monkeypatch.setattr(reader, "_client", Group(clock, *answers))
    monkeypatch.setattr("kstash.kafka.positions.RETRY_PAUSE_S", 0)
    return reader.read(PLACE)


def test_a_position_is_what_was_committed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an offset there is none."""
    assert read(monkeypatch, Answer(offset=0, metadata="1;5;0:7")) == "1;5;0:7"
    assert read(monkeypatch, Answer()) is None


def test_an_error_is_not_taken_for_no_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again: else a replay would send again what is committed."""
    passing = Answer(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS))
    assert read(monkeypatch, passing, Answer(offset=0, metadata="1;5;0:7")) == "1;5;0:7"
    with pytest.raises(KafkaUnavailableError):
        read(monkeypatch, passing)
    with pytest.raises(RightMissingError, match="READ on group 'app-positions'"):
        read(monkeypatch, Answer(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)))


def test_its_log_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client says waits for a poll, and nothing else of it is ever polled for."""
    reader = CommittedPositionsReader({"group.id": "g", "bootstrap.servers": "127.0.0.1:9"})
    group = Group(ManualClock(), Answer())
    monkeypatch.setattr(reader, "_client", group)
    reader.read(PLACE)
    reader.read(PLACE)
    assert group.calls == ["poll", "ask"] * 2


def test_a_group_that_may_not_be_asked_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call itself times out; the reason is a message of the client."""

    @dataclass
    class Told:
        def error(self) -> KafkaError:
            return KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)

    monkeypatch.setattr(Group, "poll", lambda *_: Told())
    with pytest.raises(RightMissingError, match="READ on group 'app-positions'") as caught:
        read(monkeypatch, Answer(KafkaError(KafkaError._TIMED_OUT)))
    assert caught.value.missing == (("group", "app-positions", "READ"),)


@dataclass
class Part(Answer):
    """An answer with its partition."""

    topic: str = "in"
    partition: int = 0


def test_offsets_of_many_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no offset, or no topic for this client, is left out; others are asked again."""
    hidden = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    passing = KafkaError(KafkaError.NOT_COORDINATOR)
    answers = [
        [Part(passing), Part(offset=7, partition=1)],
        [Part(offset=5), Part(partition=1), Part(hidden, topic="theirs")],
    ]
    reader = CommittedPositionsReader({"group.id": "shop", "bootstrap.servers": "127.0.0.1:9"})
    group = Group(ManualClock())
    monkeypatch.setattr(group, "committed", lambda *_: answers.pop(0))
    monkeypatch.setattr(reader, "_client", group)
    assert reader.offsets([("in", 0), ("in", 1), ("theirs", 0)]) == {("in", 0): 5}
    assert answers == []

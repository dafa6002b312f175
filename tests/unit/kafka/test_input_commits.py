"""Offsets for lag tools, one commit at a time; no broker."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from kstash.kafka import input_commits
from kstash.kafka.input_commits import InputCommits
from kstash.testing import ManualClock

HERE = "in", 0


class Client:
    """A client that is given offsets, and answers when it is told to."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.refuses = False
        self.clock = ManualClock()
        self.commits = InputCommits(self.send, self.clock.monotonic)

    def send(self, offsets: list[TopicPartition]) -> None:
        """Take offsets."""
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.sent += [part.offset for part in offsets]

    def answer(self, error: KafkaError | None = None) -> bool:
        """The broker's answer to the last ones."""
        self.commits.on_commit(error, [])
        return True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client; nobody waits."""
    monkeypatch.setattr(input_commits, "FINISH_PAUSE_S", 0)
    return Client()


def test_one_commit_at_a_time_and_of_the_rest_the_last(client: Client) -> None:
    """While the broker is away nothing piles up."""
    for offset in (1, 2, 3):
        client.commits.note({HERE: offset})
    assert client.sent == [1]
    client.answer(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
    client.commits.note({HERE: 4})
    assert client.sent == [1, 4]


@pytest.mark.parametrize("fails", ["at once", "later", "with its client"])
def test_after_a_failure_the_next_one_goes(client: Client, fails: str) -> None:
    """Nothing is raised, and none is waited for in vain."""
    client.refuses = fails == "at once"
    client.commits.note({HERE: 1})
    client.refuses = False
    if fails == "later":
        client.answer(KafkaError(KafkaError._TIMED_OUT))
    elif fails == "with its client":
        client.commits.forget()
    client.commits.note({HERE: 2})
    assert client.sent[-1] == 2


def test_who_stops_sends_the_last_one(client: Client) -> None:
    """It waits for the commit that is under way."""
    client.commits.note({HERE: 1})
    client.commits.note({HERE: 2})
    client.commits.finish(client.answer)
    assert client.sent == [1, 2]


def test_who_stops_waits_for_no_broker_that_is_away(client: Client) -> None:
    """A second, or until the client is over; what is left is of no use to anybody."""
    served: list[float] = []

    def serve() -> bool:
        served.append(client.clock.monotonic())
        client.clock.advance(0.4)
        return True

    client.commits.note({HERE: 1})
    client.commits.note({HERE: 2})
    client.commits.finish(serve)
    assert client.sent == [1]
    assert len(served) == 3
    client.commits.finish(lambda: False)
    assert client.sent == [1]

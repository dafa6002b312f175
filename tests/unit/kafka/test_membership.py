"""A membership that may be lost; no broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import MemberFencedError, TopicMissingError
from kstash.kafka import client_health, membership
from kstash.kafka import client_settings as settings
from kstash.kafka.membership import HOLDER_RETRY_S, KafkaMembership
from kstash.settings.config import Config
from kstash.testing import ManualClock

FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID, "another one", True)


class World:
    """A static member without a broker, and what its callbacks were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, instance_id: str | None) -> None:
        self.clock = ManualClock()
        self.calls: list[tuple[str, list[int]]] = []
        self.holder: Callable[[], str | None] = lambda: None
        monkeypatch.setattr(membership, "holder_of", lambda *_, **__: self.holder())
        config = Config.load(
            application_id="place", bootstrap_servers="127.0.0.1:1", instance_id=instance_id
        )
        self.membership = KafkaMembership(
            settings.member(config, "program") | {"log_level": 0},
            admin_settings=settings.admin(config),
            lineage_topic="place-lineage",
            bootstrap_servers="127.0.0.1:1",
            monotonic=self.clock.monotonic,
        )
        self.membership.subscribe(
            on_assigned=lambda groups: self.calls.append(("assigned", groups)),
            on_revoked=lambda groups: self.calls.append(("revoked", groups)),
            on_lost=lambda groups: self.calls.append(("lost", groups)),
        )
        self.membership._owned.update((0, 2))

    def fence(self) -> None:
        """The broker refuses the member as one that was replaced."""
        self.membership._take_error(FENCED)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Of a static member that owns two task groups."""
    world = World(monkeypatch, "a")
    yield world
    world.membership.close()


def test_a_place_that_somebody_else_has_is_over(world: World) -> None:
    """Nothing may be read until that is known; then every call says so."""
    world.fence()
    world.holder = lambda: "a-somebody-else"
    for _ in range(2):
        with pytest.raises(MemberFencedError, match="took this membership"):
            world.membership.poll(0)
    assert world.calls == []


def test_a_place_that_nobody_has_is_taken_again(world: World) -> None:
    """The groups are lost, whoever has them now, and the worker goes on."""
    world.fence()
    assert not world.membership.poll(0)
    assert world.calls == [("lost", [0, 2])]
    assert world.membership.poll(0)


def test_a_group_that_gives_no_answer_is_asked_again(world: World) -> None:
    """After a pause; meanwhile nothing is read, and the membership is kept by no call."""
    asked: list[float] = []

    def no_answer() -> None:
        asked.append(world.clock.monotonic())
        raise KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE))

    world.fence()
    world.holder = no_answer
    for _ in range(3):
        assert not world.membership.poll(0)
    world.clock.advance(HOLDER_RETRY_S)
    assert not world.membership.poll(0)
    assert len(asked) == 2
    assert world.calls == []


def test_a_member_without_a_name_is_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can have its membership but a member of the same name."""
    world = World(monkeypatch, None)
    world.fence()
    world.holder = lambda: pytest.fail("nobody is asked")
    with pytest.raises(MemberFencedError):
        world.membership.poll(0)
    world.membership.close()


def test_a_lineage_topic_that_is_gone_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a look at it: for a moment it may seem so while leaders move."""
    unknown = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    looked: list[str | None] = []

    def look_up(topic: str | None, _: float) -> KafkaError:
        looked.append(topic)
        return unknown

    monkeypatch.setattr(world.membership._health, "_look_up", look_up)
    world.membership._take_error(unknown)
    assert world.membership.poll(0)
    world.clock.advance(client_health.TOPIC_MISSING_GRACE_S)
    assert world.membership.poll(0)
    assert [topic for topic in looked if topic] == ["place-lineage"]  # None: by the watch
    with pytest.raises(TopicMissingError, match="place-lineage"):
        world.membership.poll(0)


def test_what_is_gone_by_then_is_not_called_back(world: World) -> None:
    """A callback that waits for `poll` leaves out the groups that were lost meanwhile."""
    member = world.membership
    member._revoked.update((0, 2))
    calls = world.calls
    member._untold.append(
        lambda: member._tell(lambda g: calls.append(("revoked", g)), [0, 2], member._revoked)
    )
    member._forget_groups([0])
    assert member.poll(0)
    assert world.calls == [("revoked", [2])]

"""`kstash reset` deletes what is the application's, and nothing of another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from kstash.cli import reset as module
from kstash.cli.reset_plan import Plan, make_plan
from kstash.core.wire import Fence, application_tag, encode_marker
from kstash.errors import ApplicationRunningError, StateError
from kstash.kafka.console import KafkaConsole
from kstash.kafka.groups import KafkaGroups
from kstash.ports.kafka import Message, Partition, TopicInfo
from kstash.settings.config import Config
from kstash.testing import MemoryKafka
from tests.unit.sleeping_clock import SleepingClock


class Tools:
    """What a plan asks of a cluster, over topics in memory."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka

    def topics(self) -> list[TopicInfo]:
        """All topics."""
        return list(self._kafka.topics().values())

    def read(self, places: Mapping[Partition, int], *, uncommitted: bool) -> Iterator[Message]:
        """Records from the beginning."""
        assert uncommitted
        for topic, number in places:
            yield from self._kafka.read(topic, number)

    @property
    def admin(self) -> Tools:
        """All in one."""
        return self

    @property
    def groups(self) -> Tools:
        """All in one."""
        return self

    def existing(self, names: list[str]) -> list[str]:
        """All of them."""
        return names


@pytest.fixture
def kafka() -> MemoryKafka:
    """An empty cluster."""
    from kstash.testing.clock import ManualClock

    return MemoryKafka(ManualClock(0))


def write(kafka: MemoryKafka, topic: str, *writers: str) -> None:
    """A topic with a FENCE of each of these applications, one a partition."""
    kafka.create_topic(topic, max(1, len(writers)))
    for number, writer in enumerate(writers):
        marker = encode_marker(Fence(application_tag(writer), ()))
        kafka.append(topic, None, partition=number, headers=[("__kstash.m", marker)])


def planned(kafka: MemoryKafka, folder: Path, application_id: str) -> tuple[set[str], set[str]]:
    """Topics that would be deleted, and those left alone."""
    config = Config(application_id=application_id, state_dir=str(folder))
    tools: Any = Tools(kafka)
    plan = make_plan(config, cast("KafkaConsole", tools), None)
    assert plan.groups == [application_id, f"{application_id}-positions"]
    return {topic.name for topic in plan.topics}, set(plan.left_alone)


@pytest.mark.parametrize(("leaves_s", "is_done"), [(0.0, True), (9.0, True), (1e9, False)])
def test_workers_that_were_stopped_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    leaves_s: float,
    is_done: bool,
) -> None:
    """A static one keeps its membership for a session. Nothing is read before, and nothing deleted.

    One that runs never leaves: it is refused, by its name.
    """
    clock = SleepingClock()
    acts: list[float] = []
    monkeypatch.setattr("kstash.startup.members.time", clock)
    monkeypatch.setattr(
        KafkaGroups, "members", lambda *_: ["a at /host"] if clock.now < leaves_s else []
    )

    def plan(*_: object) -> Plan:
        acts.append(clock.now)
        return Plan(groups=["shop"])

    monkeypatch.setattr(module, "make_plan", plan)
    monkeypatch.setattr(module, "carry_out", lambda *_: acts.append(clock.now))
    if is_done:
        module.reset(application="shop")
        assert acts == [pytest.approx(leaves_s, abs=0.3)] * 2
    else:
        with pytest.raises(ApplicationRunningError, match="a at /host"):
            module.reset(application="shop")
        assert acts == []
        assert clock.now == pytest.approx(15, abs=0.3)
    shown = capsys.readouterr().err
    assert shown.count("waiting up to 15 s for a at /host to leave") == (leaves_s > 0)


def test_topics_of_an_application_that_is_called_alike_stay(
    kafka: MemoryKafka, tmp_path: Path
) -> None:
    """`shop` and `shop-orders`: each has its own, whether they hold records or not."""
    write(kafka, "shop-words-repartition", "shop")
    write(kafka, "shop-empty-repartition")
    write(kafka, "shop-orders-words-repartition", "shop-orders")
    write(kafka, "shop-orders-empty-repartition")
    write(kafka, "shop-checkpoints")
    write(kafka, "shop-orders-checkpoints")
    theirs = {"shop-orders-words-repartition", "shop-orders-empty-repartition"}
    assert planned(kafka, tmp_path, "shop") == (
        {"shop-words-repartition", "shop-empty-repartition", "shop-checkpoints"},
        theirs,
    )
    assert planned(kafka, tmp_path, "shop-orders") == ({*theirs, "shop-orders-checkpoints"}, set())


def test_a_topic_that_two_applications_wrote_stays(kafka: MemoryKafka, tmp_path: Path) -> None:
    """Older versions let it happen: neither may delete the other's records."""
    topic = "shop-orders-words-repartition"
    write(kafka, topic, "shop", "shop-orders")
    assert planned(kafka, tmp_path, "shop") == (set(), {topic})
    assert planned(kafka, tmp_path, "shop-orders") == (set(), {topic})


@pytest.mark.parametrize("name", ["shop", "shop/.lock", "worker-1/shop"])
def test_links_in_place_of_state_are_refused_before_anything_is_deleted(
    kafka: MemoryKafka, tmp_path: Path, name: str
) -> None:
    """While planning: what they point at is neither locked nor read."""
    victim, link = tmp_path / "victim", tmp_path / name
    victim.mkdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim)
    with pytest.raises(StateError, match=f"{tmp_path / name.removesuffix('/.lock')}.*a link"):
        planned(kafka, tmp_path, "shop")
    assert list(victim.iterdir()) == []


def test_an_id_of_which_there_is_nothing(
    kafka: MemoryKafka,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistyped one, as a rule: that is what is said, and not that it starts afresh."""

    class Nobody(Tools):
        def __enter__(self) -> Nobody:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def existing(self, _: list[str]) -> list[str]:
            """None of them."""
            return []

        def members(self, _: str) -> list[str]:
            """Nobody is there."""
            return []

    monkeypatch.setattr(module, "KafkaConsole", lambda *_: Nobody(kafka))
    module.reset(application="shpo", state_dir=tmp_path)
    printed = capsys.readouterr().out
    assert printed == "there is nothing of shpo here: is the application id right?\n"

"""`kstash reset` deletes what is the application's, and nothing of another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from kstash.cli.reset import make_plan
from kstash.config import Config
from kstash.core.wire import Fence, application_tag, encode_marker
from kstash.kafka.tools import KafkaTools
from kstash.kafka.upkeep import Upkeep
from kstash.ports import Message, Partition, TopicInfo
from kstash.testing import MemoryKafka


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

    def groups(self, names: list[str]) -> list[str]:
        """All of them exist."""
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
    plan = make_plan(config, cast("KafkaTools", tools), cast("Upkeep", tools), None)
    assert plan.groups == [application_id, f"{application_id}-positions"]
    return {topic.name for topic in plan.topics}, set(plan.left_alone)


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

"""A start right after topics were made asks again, as for topics that it makes itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import kstash
from kstash import App
from kstash.errors import TopicMismatchError, TopicMissingError
from kstash.ports.kafka import NewTopic, TopicInfo
from kstash.startup.topics import check_topics
from kstash.testing import MemoryCluster, MemoryKafka
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.cluster import MemoryAdmin

SETTINGS = {
    "cleanup.policy": "compact",
    "unclean.leader.election.enable": "false",
    "max.message.bytes": "10000000",
}


class Lagging(MemoryAdmin):
    """A broker that hears of some topics late: it knows them once it is asked again."""

    def __init__(self, kafka: MemoryKafka, *late: str) -> None:
        super().__init__(kafka)
        self.late = set(late)
        self.asked_again: list[str] = []

    def describe(
        self, topics: Sequence[str], *, are_created: bool = False, may_be_new: bool = False
    ) -> dict[str, TopicInfo]:
        """Without those that are late, but for those who ask again."""
        if may_be_new:
            self.asked_again += topics
        if are_created or may_be_new:
            self.late -= set(topics)
        known = [topic for topic in topics if topic not in self.late]
        return super().describe(known)


def words() -> App:
    """A word count."""
    app = App("shop", checkpoint_store="none")
    keyed = app.stream("lines", value=kstash.text).key_by(lambda line: line, key=kstash.text)
    keyed.count("words").to("counts")
    return app


@pytest.fixture
def kafka() -> MemoryKafka:
    """A cluster with the user topics."""
    made = MemoryKafka(ManualClock(0))
    for topic in ("lines", "counts"):
        made.create_topic(topic, 2)
    return made


@pytest.mark.parametrize("late", [["lines"], ["counts"], ["lines", "counts"]])
def test_a_user_topic_that_a_broker_does_not_know_yet(kafka: MemoryKafka, late: list[str]) -> None:
    """Inputs and sinks alike: they are there, and the start goes on with their partitions."""
    admin = Lagging(kafka, *late)
    app = words()
    topics = check_topics(admin, app.topology(), app.config)
    assert admin.asked_again == late
    assert topics["lines"].partition_count == topics["shop-lineage"].partition_count == 2


def test_a_topic_that_is_nowhere_is_missing(kafka: MemoryKafka) -> None:
    """It is asked for once more, and named; nothing was created meanwhile."""
    kafka.delete_topic("counts")
    admin = Lagging(kafka)
    app = words()
    with pytest.raises(TopicMissingError, match=r"no such topic: 'counts'.*kstash topics create"):
        check_topics(admin, app.topology(), app.config)
    assert admin.asked_again == ["counts"]
    assert "shop-lineage" not in kafka.topics()


def test_a_lineage_topic_that_another_worker_has_just_made(kafka: MemoryKafka) -> None:
    """Records in an internal topic beside it do not mean that it is gone."""
    app = words()
    check_topics(MemoryAdmin(kafka), app.topology(), app.config)
    kafka.append("shop-words-repartition", b"frame")
    admin = Lagging(kafka, "shop-lineage")
    topics = check_topics(admin, app.topology(), app.config)
    assert admin.asked_again == ["shop-lineage"]
    assert "shop-lineage" in topics
    kafka.delete_topic("shop-lineage")
    with pytest.raises(TopicMissingError, match=r"ran before.*kstash reset shop"):
        check_topics(Lagging(kafka), app.topology(), app.config)


@pytest.mark.parametrize(
    ("topic", "settings", "setting"),
    [
        ("b", {}, "partition count"),
        ("a", {"cleanup.policy": "compact"}, "cleanup.policy"),
        ("out", {"cleanup.policy": "compact"}, "cleanup.policy"),
    ],
)
def test_a_start_that_is_refused_makes_no_topics(
    topic: str, settings: dict[str, str], setting: str
) -> None:
    """They would have as many partitions as what was refused, and be in the way afterwards."""
    app = App("shop")
    both = app.stream("a", key=kstash.text, value=kstash.text)
    both.merge(app.stream("b", key=kstash.text, value=kstash.text)).count("n").to("out")
    admin = MemoryCluster(MemoryKafka(ManualClock(0)), "shop").admin()
    counts = {"a": 2, "b": 3 if setting == "partition count" else 2, "out": 2}
    admin.create([NewTopic(t, n, 1, settings if t == topic else {}) for t, n in counts.items()])
    topology = app.topology()
    with pytest.raises(TopicMismatchError) as refused:
        check_topics(admin, topology, app.config)
    assert refused.value.setting == setting
    assert admin.describe([topology.lineage_topic, topology.checkpoints_topic]) == {}

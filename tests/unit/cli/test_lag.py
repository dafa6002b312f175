"""`kstash lag` and `kstash topics check` without a Kafka."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from typer.testing import CliRunner

from kstash import App, text
from kstash.cli import lag as module
from kstash.cli import main as cli
from kstash.cli import topic_check
from kstash.cli.lag import PartitionLag, measure
from kstash.cli.topic_check import DryRunAdmin, examine_topics, kind_of
from kstash.errors import TopicMismatchError, TopicMissingError
from kstash.kafka.console import KafkaConsole
from kstash.ports.kafka import NewTopic, Partition, TopicInfo
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.cluster import MemoryCluster

NOW = 1_700_000_000.0


class Tools:
    """Three partitions: one read to its end, one with records left, one with markers left."""

    positions: ClassVar[Mapping[Partition, int]] = {}

    def __init__(self, *_: object) -> None:
        self.asked: dict[Partition, int] = {}

    def __enter__(self) -> Tools:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    @property
    def admin(self) -> Tools:
        """All in one."""
        return self

    @property
    def groups(self) -> Tools:
        """All in one."""
        return self

    def topics(self) -> list[TopicInfo]:
        """Those that exist."""
        return [TopicInfo("in", 3, 1), TopicInfo("shop-words-repartition", 1, 1)]

    def stable_ends(self, places: Sequence[Partition]) -> dict[Partition, int]:
        """All end at 10."""
        return dict.fromkeys(places, 10)

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Of one application, in topics that exist."""
        positions = self.positions if group == "shop" else {}
        return {place: positions[place] for place in partitions if place in positions}

    def first_times(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        """Records are 2.5 s old; what is left of partition 2 are markers."""
        self.asked = dict(offsets)
        return {place: int(NOW * 1000) - 2500 for place in offsets if place != ("in", 2)}


POSITIONS = {
    ("in", 0): 10,
    ("in", 1): 4,
    ("in", 2): 9,
    ("shop-words-repartition", 0): 7,
}


def test_the_lag_of_each_partition() -> None:
    """In records and seconds; what has no record left has no lag, whatever its offsets say."""
    tools = Tools()
    assert measure(cast(KafkaConsole, tools), POSITIONS, NOW) == [
        PartitionLag("in", 0, False, 10, 10, 0, 0.0),
        PartitionLag("in", 1, False, 4, 10, 6, 2.5),
        PartitionLag("in", 2, False, 9, 10, 0, 0.0),
        PartitionLag("shop-words-repartition", 0, True, 7, 10, 3, 2.5),
    ]
    assert ("in", 0) not in tools.asked  # nothing is read where nothing is left


def run(
    monkeypatch: pytest.MonkeyPatch, positions: Mapping[Partition, int], *arguments: str
) -> Any:
    """`kstash lag shop` with these committed positions."""
    monkeypatch.setattr(Tools, "positions", positions)
    monkeypatch.setattr(module, "KafkaConsole", Tools)
    monkeypatch.setattr("kstash.cli.lag.time.time", lambda: NOW)
    return CliRunner().invoke(cli.app, ["lag", "shop", *arguments])


def test_lag_for_people_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with a sum, or JSON with the same."""
    shown = run(monkeypatch, POSITIONS)
    assert shown.exit_code == 0
    assert ["in", "1", "4", "10", "6", "2.5"] in [line.split() for line in shown.stdout.split("\n")]
    assert "9 records behind, the oldest of them 2.5 s old" in shown.stdout
    rows = json.loads(run(monkeypatch, POSITIONS, "--json").stdout)
    assert [row["records"] for row in rows] == [0, 6, 0, 3]
    assert rows[3]["is_internal"] is True


def test_an_application_without_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table that seems to show that all is well."""
    shown = run(monkeypatch, {})
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "no positions of shop" in shown.stderr


# -- topics check --------------------------------------------------------------------------------


def words() -> App:
    """A program with an internal topic."""
    app = App("shop")
    app.stream("in", value=text).key_by(lambda v: v, key=text).count("words").to("out", key=text)
    return app


class Cluster:
    """The memory's admin in the place of a cluster's."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._admin = MemoryCluster(kafka, "shop").admin()

    def __call__(self, _: object) -> Cluster:
        """Itself, whatever the settings."""
        return self

    def admin(self) -> object:
        """The client."""
        return self._admin

    def close(self) -> None:
        """Nothing to close."""


def examined(monkeypatch: pytest.MonkeyPatch, kafka: MemoryKafka) -> tuple[list[str], set[str]]:
    """Topics that the check finds or would make."""
    monkeypatch.setattr(topic_check, "KafkaCluster", Cluster(kafka))
    app = words()
    found, made = examine_topics(app.topology(), app.config)
    return [topic.name for topic in found], made


def test_a_check_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is described as it would be made, with as many partitions as the input."""
    kafka = MemoryKafka()
    kafka.create_topic("in", 3)
    kafka.create_topic("out", 1)
    names, made = examined(monkeypatch, kafka)
    own = {"shop-checkpoints", "shop-lineage", "shop-words-repartition"}
    assert (set(names), made) == (own | {"in", "out"}, own)
    assert set(kafka.topics()) == {"in", "out"}


def test_a_check_refuses_what_a_start_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that is missing; an internal topic of another size."""
    kafka = MemoryKafka()
    kafka.create_topic("in", 3)
    with pytest.raises(TopicMissingError, match="'out'"):
        examined(monkeypatch, kafka)
    kafka.create_topic("out", 1)
    kafka.create_topic("shop-words-repartition", 2)
    with pytest.raises(TopicMismatchError, match="shop-words-repartition"):
        examined(monkeypatch, kafka)


def test_what_a_topic_is() -> None:
    """Each has one kind."""
    topology = words().topology()
    kinds = {
        "in": "input",
        "out": "sink",
        "shop-lineage": "lineage",
        "shop-checkpoints": "checkpoints",
        "shop-words-repartition": "internal",
    }
    assert {topic: kind_of(topology, topic) for topic in kinds} == kinds


def test_the_pretender_asks_for_nothing_that_it_made() -> None:
    """The cluster would say that it is not there; others are asked for as before."""
    asked: list[object] = []

    def describe(topics: Sequence[str], **_: object) -> dict[str, TopicInfo]:
        asked.append(list(topics))
        return {}

    dry_run = DryRunAdmin(cast(Any, SimpleNamespace(describe=describe, closed=True)))
    dry_run.create([NewTopic("new", -1, None, {})])
    assert dry_run.describe(["new"], are_created=True)["new"].partition_count == 1
    dry_run.describe(["new", "old"], are_created=True)
    assert asked == [["old"]]
    assert dry_run.closed is True

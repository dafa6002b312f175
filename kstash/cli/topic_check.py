"""`kstash topics check`: whether a program's topics are as it needs them; makes none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import cast

from rich.table import Table

from kstash.cli.options import AsJson, Connection, connected
from kstash.cli.programs import Program, SettingsOption, load_configured
from kstash.cli.tables import table_console
from kstash.core import names
from kstash.kafka import KafkaCluster
from kstash.observe.logs import configure_logs
from kstash.ports.kafka import Admin, NewTopic, TopicInfo
from kstash.settings.config import Config
from kstash.startup.topics import check_topics
from kstash.topology.model import Topology


@dataclass(slots=True)
class DryRunAdmin:
    """An `Admin` that makes no topic, and describes those that it was asked to make.

    Attributes:
        made: the topics that it was asked to make.
    """

    admin: Admin
    made: dict[str, TopicInfo] = field(default_factory=dict)

    def create(self, topics: Sequence[NewTopic]) -> None:
        """Note topics to make. A partition count that the cluster would choose counts as 1."""
        for topic in topics:
            replicas = topic.replication_factor or 0
            config = dict(topic.config)
            count = max(1, topic.partition_count)
            self.made[topic.name] = TopicInfo(topic.name, count, replicas, config)

    def describe(
        self, topics: Sequence[str], *, are_created: bool = False, may_be_new: bool = False
    ) -> dict[str, TopicInfo]:
        """Those that exist, and those that would."""
        asked = [topic for topic in topics if topic not in self.made]
        found = self.admin.describe(asked, may_be_new=may_be_new) if asked else {}
        if are_created:
            found |= {topic: self.made[topic] for topic in topics if topic in self.made}
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self.admin, name)


@connected
def check(
    connection: Connection,
    program: Program,
    settings: SettingsOption = None,
    as_json: AsJson = False,
) -> None:
    """Check the topics of a program as its start does: rights, partitions, settings. Makes none.

    Reports what is wrong with the command that mends it, and exits with 1 then. Internal topics
    that are missing are made by the first start.
    """
    app = load_configured(program, connection, settings)
    configure_logs(app.config.log_format, app.config.log_level)
    found, made = examine_topics(app.topology(), app.config)
    rows = [
        {
            "topic": topic.name,
            "kind": kind_of(app.topology(), topic.name),
            "partitions": topic.partition_count,
            "replicas": topic.replication_factor or None,
            "exists": topic.name not in made,
        }
        for topic in found
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("topic", "kind", "partitions", "replicas", "", box=None, pad_edge=False)
    for row in rows:
        state = "there" if row["exists"] else "made by the first start"
        replicas = str(row["replicas"] or "the cluster's")
        table.add_row(str(row["topic"]), str(row["kind"]), str(row["partitions"]), replicas, state)
    console = table_console()
    console.print(table)
    console.print("all topics are as they should be")


def examine_topics(topology: Topology, config: Config) -> tuple[list[TopicInfo], set[str]]:
    """All topics of an application, and names of those that a start would make.

    Raises:
        KstashError: what a start would end with.
    """
    with closing(KafkaCluster(config)) as cluster:
        admin = cluster.admin()
        try:
            dry_run = DryRunAdmin(admin)
            found = check_topics(cast(Admin, dry_run), topology, config)
        finally:
            admin.close()
    return sorted(found.values(), key=lambda topic: topic.name), set(dry_run.made)


def kind_of(topology: Topology, topic: str) -> str:
    """What a topic is to an application."""
    if topic in topology.input_topics:
        return "input"
    if topic in topology.output_topics:
        return "sink"
    if topic == topology.lineage_topic:
        return "lineage"
    return "internal" if names.is_internal(topic) else "checkpoints"

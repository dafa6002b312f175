"""`kstash lag`: how far an application is behind its inputs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import typer
from rich.table import Table

from kstash.cli.options import AsJson, Connection, connected
from kstash.cli.programs import Application, config_of
from kstash.cli.tables import table_console
from kstash.core import names
from kstash.kafka.console import KafkaConsole
from kstash.ports.kafka import Partition


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """The lag of one partition.

    Attributes:
        is_internal: whether the topic lies between two stages.
        committed: offset that the application reads next.
        end: offset after the last record that a `read_committed` reader sees.
        records: offsets between the two.
        seconds: age of the record that is next; 0 where none is.
    """

    topic: str
    partition: int
    is_internal: bool
    committed: int
    end: int
    records: int
    seconds: float


@connected
def lag(
    connection: Connection,
    application: Application,
    as_json: AsJson = False,
) -> None:
    """Report how far an application is behind each partition, in records and in seconds.

    The lag is that of the positions which the application commits every few seconds, and once more
    when it stops; it need not run. Partitions that it reads of another application's immediate sink
    (immediate_of=) are left out. Exits with 1 when no position was committed. Markers of
    transactions take offsets and are no records: committed may stay below end when all is read.
    """
    config = config_of(application, connection)
    with KafkaConsole(config.bootstrap_servers, config.kafka) as kafka:
        partitions = [
            (topic.name, number)
            for topic in kafka.admin.topics()
            for number in range(topic.partition_count)
        ]
        positions = kafka.groups.committed(config.application_id, partitions)
        found = measure(kafka, positions, time.time())
    if not positions:
        print(
            f"no positions of {config.application_id}: it has not run yet, or not for some "
            "seconds; or this is not its application id",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    if as_json:
        print(json.dumps([asdict(row) for row in found]))
    else:
        _show(found)


def measure(
    kafka: KafkaConsole, positions: Mapping[Partition, int], now: float
) -> list[PartitionLag]:
    """The lag of each partition, by topic and number.

    Args:
        kafka: asks the cluster.
        positions: offsets that are read next, in topics that exist.
        now: Unix time in seconds.
    """
    partitions = sorted(positions)
    ends = kafka.admin.stable_ends(partitions)
    waiting = {at: positions[at] for at in partitions if ends[at] > positions[at]}
    times_ms = kafka.first_times(waiting)
    return [
        PartitionLag(
            topic=at[0],
            partition=at[1],
            is_internal=names.is_internal(at[0]),
            committed=positions[at],
            end=ends[at],
            records=max(0, ends[at] - positions[at]) if at in times_ms else 0,
            seconds=max(0.0, round(now - times_ms[at] / 1000, 3)) if at in times_ms else 0.0,
        )
        for at in partitions
    ]


def _show(found: list[PartitionLag]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("topic", "partition", "committed", "end", "records", "seconds"):
        table.add_column(column, justify="left" if column == "topic" else "right")
    for row in found:
        numbers = row.partition, row.committed, row.end, row.records
        table.add_row(row.topic, *map(str, numbers), f"{row.seconds:.1f}")
    console = table_console()
    console.print(table)
    records = sum(row.records for row in found)
    seconds = max((row.seconds for row in found), default=0.0)
    console.print(f"{records} records behind, the oldest of them {seconds:.1f} s old")

"""An application's history, read from its lineage: its generation, and the programs that ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from kstash.core.manifest import Manifest, manifest_of
from kstash.core.record_codec import decode_record
from kstash.core.records import Generation, LineageRecord, Start
from kstash.errors import WireCorruptError
from kstash.kafka.console import KafkaConsole
from kstash.ports.kafka import Message, Partition, TopicInfo


@dataclass(slots=True)
class LineageHistory:
    """The generation and the programs of an application, as far as its lineage can be read.

    Attributes:
        generation: the highest one, in Unix ms; 0 without any.
        programs: all programs that ever started, by their text.
        newest: the program that started last in each partition.
        starts: (partition, key, value) of the last START of each program in each partition, the
            newest at the end.
    """

    generation: int = 0
    programs: dict[str, Manifest] = field(default_factory=dict)
    newest: dict[int, Manifest] = field(default_factory=dict)
    starts: dict[tuple[int, str], tuple[int, bytes, bytes]] = field(default_factory=dict)


def read_history(kafka: KafkaConsole, topics: Iterable[TopicInfo]) -> LineageHistory:
    """Read these lineage topics, the oldest first; records that do not decode are skipped."""
    history = LineageHistory()
    for info in topics:
        places = {(info.name, number): -2 for number in range(info.partition_count)}
        for message, record in records(kafka, places):
            if isinstance(record, Generation):
                history.generation = max(history.generation, record.generation)
            elif isinstance(record, Start):
                history.generation = max(history.generation, record.incarnation.generation)
                with suppress(WireCorruptError):
                    _add_program(history, message, manifest_of(record.settings))
    return history


def records(
    kafka: KafkaConsole, places: Mapping[Partition, int]
) -> Iterator[tuple[Message, LineageRecord]]:
    """Lineage records from these offsets on; tombstones and damaged records are skipped."""
    for message in kafka.read(places, uncommitted=True):
        try:
            record = decode_record(message.key(), message.value())
        except WireCorruptError:
            continue
        yield message, record


def _add_program(history: LineageHistory, message: Message, program: Manifest | None) -> None:
    if program is None:
        return
    number, text = message.partition() or 0, program.encode()
    history.programs[text] = history.newest[number] = program
    history.starts.pop((number, text), None)
    history.starts[number, text] = number, message.key() or b"", message.value() or b""

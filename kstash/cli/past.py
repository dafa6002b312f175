"""What lineage tells of an application's past: its generation, and the programs that ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from kstash.core.program import Program, program_of
from kstash.core.records import Generation, LineageRecord, Start, decode_record
from kstash.errors import WireCorruptError
from kstash.kafka.tools import KafkaTools
from kstash.ports.kafka import Message, Partition, TopicInfo


@dataclass(slots=True)
class Past:
    """All that can be read.

    Attributes:
        generation: the highest, in Unix ms; 0 where there is none.
        programs: all that ever started, by their text.
        newest: the program that started last in each partition.
        starts: (partition, key, value) of the last START of each program in each partition, the
            newest at the end.
    """

    generation: int = 0
    programs: dict[str, Program] = field(default_factory=dict)
    newest: dict[int, Program] = field(default_factory=dict)
    starts: dict[tuple[int, str], tuple[int, bytes, bytes]] = field(default_factory=dict)


def read_past(tools: KafkaTools, topics: Iterable[TopicInfo]) -> Past:
    """Read these topics of lineage, the older ones first; what does not decode is passed."""
    past = Past()
    for info in topics:
        places = {(info.name, number): -2 for number in range(info.partition_count)}
        for message, record in records(tools, places):
            if isinstance(record, Generation):
                past.generation = max(past.generation, record.generation)
            elif isinstance(record, Start):
                past.generation = max(past.generation, record.incarnation.generation)
                with suppress(WireCorruptError):
                    _note_program(past, message, program_of(record.settings))
    return past


def records(
    tools: KafkaTools, places: Mapping[Partition, int]
) -> Iterator[tuple[Message, LineageRecord]]:
    """Records of lineage from these offsets on; tombstones and what is damaged are passed."""
    for message in tools.read(places, uncommitted=True):
        try:
            record = decode_record(message.key(), message.value())
        except WireCorruptError:
            continue
        yield message, record


def _note_program(past: Past, message: Message, program: Program | None) -> None:
    if program is None:
        return
    number, text = message.partition() or 0, program.encode()
    past.programs[text] = past.newest[number] = program
    past.starts.pop((number, text), None)
    past.starts[number, text] = number, message.key() or b"", message.value() or b""

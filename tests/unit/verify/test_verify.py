"""The independent checker: what it finds in topics that are as they should be, and are not.

The records are made by the library; the checker knows only wire-format.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import kstash
from kstash.core.determinants import Consumed
from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import (
    Checkpoint,
    Claim,
    FileEntry,
    Generation,
    LineageRecord,
    Segment,
    Start,
    TaskStart,
)
from kstash.core.wire import (
    IDENTITY_HEADER,
    MARKER_HEADER,
    Fence,
    Identity,
    application_tag,
    encode_marker,
)
from kstash.testing import TestDriver
from kstash.verify.checks import Report, SequenceCheck
from kstash.verify.formats import UnreadableError
from kstash.verify.lineage import LineageCheck

APP = application_tag("shop")
TASK = TaskId(1, 0)
GENERATION = 1_700_000_000_000


@dataclass
class Record:
    """A Kafka record."""

    at: int
    content: bytes | None = b"value"
    header_list: list[tuple[str, bytes | None]] = field(default_factory=list)
    key_bytes: bytes | None = None

    def topic(self) -> str:
        """Name of the topic."""
        return "t"

    def partition(self) -> int:
        """Partition number."""
        return 0

    def offset(self) -> int:
        """Offset."""
        return self.at

    def key(self) -> bytes | None:
        """Key."""
        return self.key_bytes

    def value(self) -> bytes | None:
        """Value."""
        return self.content

    def headers(self) -> list[tuple[str, bytes | None]]:
        """Headers."""
        return self.header_list


def output(
    at: int, first: int, claim: int = 5, count: int = 1, generation: int = GENERATION
) -> Record:
    """A record with an identity."""
    incarnation = Incarnation(generation, claim)
    header = Identity(APP, TASK, incarnation, 9, count, first).encode()
    keys: list[bytes | None] = [b"k"] * count
    frame = encode_frame(keys, keys, [1] * count, None)
    return Record(at, frame, [(IDENTITY_HEADER, header)])


def fence(at: int, claim: int = 5) -> Record:
    """A FENCE of the task's group."""
    marker = Fence(APP, ((0, Incarnation(GENERATION, claim)),))
    return Record(at, None, [(MARKER_HEADER, encode_marker(marker))])


def kinds(records: Sequence[Any], *, is_internal: bool = False) -> list[tuple[str, int]]:
    """What is found, and at which offsets."""
    report = Report()
    check = SequenceCheck(APP, is_internal=is_internal, is_whole=True, report=report)
    for record in records:
        check.take(record)
    return [(finding.kind, finding.offset) for finding in report.findings]


# -- sequences -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([output(0, 4), output(1, 5), output(2, 6)], []),
        ([output(0, 1), output(1, 3)], [("gap", 1)]),
        ([output(0, 1), output(1, 2), output(2, 2)], [("duplicate", 2)]),
        ([output(0, 1, claim=9), output(1, 2, claim=5)], [("void", 1)]),
        ([output(0, 7), output(1, 1, generation=GENERATION + 1)], []),
        ([output(0, 7), output(1, 2, generation=GENERATION + 1)], [("gap", 1)]),
        ([Record(0), output(1, 1)], []),
        ([Record(0, b"", [(IDENTITY_HEADER, b"short")])], [("unreadable", 0)]),
    ],
)
def test_sequences_of_a_sink(records: list[Any], found: list[tuple[str, int]]) -> None:
    """Each output once and in order, as a plain `read_committed` reader sees it."""
    assert kinds(records) == found


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([fence(0), output(1, 1, count=3), output(2, 4)], []),
        ([fence(0), output(1, 2)], [("gap", 1)]),
        (
            [
                fence(0),
                output(1, 1, count=2),
                fence(2, 9),
                output(3, 3),
                output(4, 1, claim=9, count=3),
            ],
            [],
        ),
        ([fence(0), output(1, 1), fence(2, 9), output(3, 3, claim=9)], [("gap", 3)]),
        # A zombie's frames in a topic that was made anew, before the first FENCE there.
        ([output(0, 7, generation=GENERATION - 1), fence(1), output(2, 1)], []),
        ([Record(0)], [("unreadable", 0)]),
        ([Record(0, b"\x02", output(0, 1).header_list)], [("unreadable", 0)]),
        ([Record(0, None, [(MARKER_HEADER, b"\x01\x01garbage")])], [("unreadable", 0)]),
    ],
)
def test_sequences_of_an_internal_topic(records: list[Any], found: list[tuple[str, int]]) -> None:
    """What its reader drops is as it should be; what it would stop at is found."""
    assert kinds(records, is_internal=True) == found


# -- lineage -------------------------------------------------------------------------------------

INC = Incarnation(GENERATION, 1)
CONTENT = b"what the file holds"
DIGEST = hashlib.blake2b(CONTENT, digest_size=16).hexdigest()


def checkpoint(digest: str = DIGEST, uri: str = "there") -> Checkpoint:
    """A remote checkpoint of one file."""
    files = (FileEntry("1.sst", len(CONTENT), digest, uri),)
    return Checkpoint(
        INC,
        TASK,
        1,
        is_remote=True,
        position=5,
        label="l",
        files=files,
        input_offsets={},
        sequences={},
        readers={},
        scan_from={},
    )


def segment(number: int) -> Segment:
    """A segment without determinants."""
    return Segment(INC, TASK, number, number, number + 1, ())


BEGINNING: list[LineageRecord] = [Generation(b"n" * 16, GENERATION), Claim(b"m" * 16, "w")]


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([*BEGINNING, Start(INC, None, {}, {}), segment(1), segment(2), checkpoint()], []),
        ([*BEGINNING, segment(4), segment(5)], []),
        ([*BEGINNING, segment(1), segment(3)], [("gap", 3)]),
        (
            [Claim(b"m" * 16, "w"), Start(Incarnation(GENERATION, 0), None, {}, {})],
            [("missing", 0)],
        ),
        ([*BEGINNING, Start(Incarnation(GENERATION, 2), INC, {}, {})], [("missing", 2)]),
        ([*BEGINNING, Start(Incarnation(GENERATION + 1, 1), None, {}, {})], [("void", 2)]),
        # Of a zombie from before the topic was made anew: neither does its START count.
        (
            [
                *BEGINNING,
                *(Start(Incarnation(7, n), Incarnation(7, 0), {}, {}) for n in (1, 2)),
                replace(checkpoint(uri="gone"), incarnation=Incarnation(7, 1)),
            ],
            [],
        ),
        ([*BEGINNING, checkpoint(digest="0" * 32)], [("unreadable", 2)]),
        ([*BEGINNING, checkpoint(uri="gone")], [("missing", 2)]),
    ],
)
def test_lineage(records: list[LineageRecord], found: list[tuple[str, int]]) -> None:
    """Numbers hang together, incarnations were claimed, and checkpoints are what was stored."""
    report = Report()
    check = LineageCheck(report)
    for offset, record in enumerate(records):
        check.take(Record(offset, encode_value(record), key_bytes=encode_key(record)))

    def fetch(uri: str, size: int) -> list[bytes]:
        assert size == len(CONTENT)
        if uri != "there":
            raise UnreadableError("not there")
        return [CONTENT[:5], CONTENT[5:]]

    check.finish(fetch)
    assert [(finding.kind, finding.offset) for finding in report.findings] == found


PROGRAM = json.dumps(
    {
        "stages": [
            {"number": 1, "inputs": [["in", False]], "outputs": []},
            {"number": 2, "inputs": [["in", False], ["other", False]], "outputs": []},
        ]
    }
)
SETTINGS = {"program": PROGRAM}


def later(*skips: tuple[int, ...], stage: int = 1) -> list[LineageRecord]:
    """A second incarnation, which adopts 8 events from position 5 on, and skips records."""
    first = Start(INC, None, {stage: TaskStart(0, 0, {0: 10, 1: 10})}, SETTINGS, ((stage, 0, 12),))
    tasks = {stage: TaskStart(0, 8, {0: 10, 1: 10})}
    runs = (Consumed(0, 0, 4, 14), Consumed(4, 1, 2, 12), Consumed(6, 0, 2, 19))
    lineage = Segment(INC, TaskId(2, 0), 1, 0, 8, runs)
    claimed = [*BEGINNING, first, lineage, Claim(b"o" * 16, "w")]
    return [*claimed, Start(Incarnation(GENERATION, 4), INC, tasks, SETTINGS, skips)]


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (later((1, 0, 12), (1, 0, 18)), []),
        (later((1, 0, 17)), [("order", 5)]),
        (later((1, 0, 17, 3)), [("order", 5)]),
        (later((2, 0, 12), (2, 0, 19), (2, 1, 12), stage=2), []),
        (later((2, 0, 18), (2, 1, 11), stage=2), [("order", 5), ("order", 5)]),
    ],
)
def test_h50_records_that_were_processed_and_passed_over(
    records: list[LineageRecord], found: list[tuple[str, int]]
) -> None:
    """What a START says anew must lie after what its history has read."""
    report = Report()
    check = LineageCheck(report)
    for offset, record in enumerate(records):
        check.take(Record(offset, encode_value(record), key_bytes=encode_key(record)))
    check.finish(None)
    assert [(finding.kind, finding.offset) for finding in report.findings] == found


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        ([(5, 50), (9, 50), (9, 50), (12, 90)], []),
        ([(5, 50), (9, 49)], [3]),
        ([(5, 50), (5, 49)], [3]),
        ([(5, 49), (5, 50)], [3]),
    ],
)
def test_h50_sequences_of_checkpoints_follow(
    marks: list[tuple[int, int]], found: list[int]
) -> None:
    """At a later position no sequence is lower, and at one position there is one."""
    report = Report()
    check = LineageCheck(report)
    made = [replace(checkpoint(), position=p, sequences={(0, 0): s}) for p, s in marks]
    for offset, record in enumerate([*BEGINNING, *made]):
        check.take(Record(offset, encode_value(record), key_bytes=encode_key(record)))
    check.finish(None)
    assert [(f.kind, f.offset) for f in report.findings] == [("order", at) for at in found]


@pytest.mark.parametrize("cut", [0, 1, 5, 8])
def test_damaged_lineage_is_named(cut: int) -> None:
    """Whatever bytes there are, the record is a finding and the walk goes on."""
    report = Report()
    check = LineageCheck(report)
    record = segment(1)
    check.take(Record(7, encode_value(record)[:cut], key_bytes=encode_key(record)))
    check.take(Record(8, encode_value(record), key_bytes=encode_key(record)[:cut]))
    assert [(f.kind, f.offset) for f in report.findings] == [("unreadable", 7), ("unreadable", 8)]


# -- what an application leaves ------------------------------------------------------------------


def test_an_application_that_crashed_is_as_it_should_be() -> None:
    """Chunks, frames, markers and lineage of the real worker decode, and hang together."""
    app = kstash.App("shop")
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    keyed = left.merge(right).key_by(lambda text: text, key=kstash.text)
    keyed.count("words").to("counts", value=kstash.int_text)
    report = Report()
    with TestDriver(app, lineage_delay_s=1) as driver:
        for _ in range(3):
            for topic, word in zip("lrllr", "abcab", strict=True):
                driver.send(topic, word, "k")
            driver.advance(12)
            driver.send("r", "a", "k")
            driver.crash()
            driver.recover()
        driver.drain()
        lineage = LineageCheck(report)
        for record in driver.kafka.read("shop-lineage"):
            lineage.take(record)
        lineage.finish(None)
        for topic, is_internal in (("shop-words-repartition", True), ("counts", False)):
            check = SequenceCheck(APP, is_internal=is_internal, is_whole=True, report=report)
            for record in driver.kafka.read(topic):
                check.take(record)
    assert report.findings == []
    assert report.records["counts", 0] == 18
    assert lineage.programs[-1]["stages"][1]["name"] == "words"

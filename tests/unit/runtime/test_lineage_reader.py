"""What a recovery reads of the lineage topic, and how far back it must look at outputs."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

import kstash
from kstash.core.ids import Incarnation, TaskId
from kstash.core.plan import TaskSpec
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Claim, Gone, Hint, LineageRecord, Segment
from kstash.core.tail_scan import TailScan
from kstash.core.wire import IDENTITY_HEADER, Identity
from kstash.errors import WireCorruptError
from kstash.ports.kafka import Headers
from kstash.runtime.group.hints import HINT_INTERVAL_S, HINT_RECORDS
from kstash.runtime.lineage_reader import LineageReader
from kstash.runtime.recovery.tails import TailReader
from kstash.testing import TestDriver
from kstash.testing.kafka.log import MemoryRecord

if TYPE_CHECKING:
    from kstash.ports.kafka import Admin
    from kstash.runtime.layout import Layout

TASK, OTHER = TaskId(0, 0), TaskId(1, 0)


def message(offset: int, record: LineageRecord, value: bytes | None = None) -> MemoryRecord:
    """A record as it stands in the lineage topic."""
    key = encode_key(record)
    return MemoryRecord(
        "l", 0, offset, key=key, value=value or encode_value(record), headers=None, timestamp_ms=0
    )


def hint(number: int, task: TaskId = TASK) -> Hint:
    """A hint of incarnation 5."""
    return Hint(Incarnation(1, 5), task, number, {(0, 0): number}, number)


def test_tombstones_are_told_but_those_of_segments() -> None:
    """A view must know of them (a void record may stand without its CLAIM); segments are many."""
    reader = LineageReader()
    segment = Segment(Incarnation(1, 5), TASK, 1, 0, 1, ())
    records: list[LineageRecord] = [hint(1), segment]
    for offset, record in enumerate(records):
        reader.take(
            MemoryRecord(
                "l", 0, offset, key=encode_key(record), value=None, headers=None, timestamp_ms=0
            ),
            [],
        )
    assert reader.read() == [(0, Gone(encode_key(hint(1))))]
    with pytest.raises(WireCorruptError, match="offset 7"):
        reader.take(
            MemoryRecord("l", 0, 7, key=b"short", value=None, headers=None, timestamp_ms=0), []
        )


def test_of_hints_the_last_before_each_claim_is_decoded() -> None:
    """What hints that others replace say is never looked at, not even decoded."""
    reader = LineageReader()
    claims = [Claim(bytes(16), ""), Claim(bytes(15) + b"1", "")]
    records: list[LineageRecord] = [
        claims[0],
        hint(1),
        hint(2),
        hint(1, OTHER),
        claims[1],
        hint(3),
        hint(4),
    ]
    for offset, record in enumerate(records):
        damaged = b"damaged" if offset == 1 else None
        reader.take(message(offset, record, damaged), [])
    taken = [(0, claims[0]), (2, hint(2)), (3, hint(1, OTHER)), (4, claims[1]), (6, hint(4))]
    assert reader.read() == taken


def test_a_damaged_hint_that_counts_is_told_with_its_place() -> None:
    """The last hint is decoded at the end, and its damage names topic, partition and offset."""
    reader = LineageReader()
    reader.take(message(7, hint(1), b"damaged"), [])
    with pytest.raises(WireCorruptError, match=r"topic 'l', partition 0, offset 7"):
        reader.read()


def test_scan_of_a_sink_takes_what_the_reader_rule_accepts() -> None:
    """Batches of outputs are not decoded record by record, and nothing else comes out of it."""
    for seed in range(300):
        log = _tail(random.Random(seed))
        assert _scanned(log, TailReader) == _scanned(log, _OneByOne), seed


class _OneByOne(TailReader):
    """Applies the rule to each record."""

    def _goes_on(self, *_: object) -> bool:
        return False


def _tail(chance: random.Random) -> list[MemoryRecord]:
    """Batches of incarnations that write in turn: zombies, repetitions, jumps, user headers."""
    log: list[MemoryRecord] = []
    sequences = dict.fromkeys((3, 5, 9), 1)
    positions = dict.fromkeys(sequences, 1)
    for _ in range(15):
        writer = chance.choice(list(sequences))
        task = TASK if chance.random() < 0.9 else OTHER
        if chance.random() < 0.3:
            sequences[writer] = max(1, sequences[writer] + chance.randrange(-3, 4))
        if chance.random() < 0.5:  # else it goes on with a batch that another one interrupted
            positions[writer] += 1
        for _ in range(chance.randrange(1, 4)):
            incarnation, sequence = Incarnation(1, writer), sequences[writer]
            identity = Identity(7, task, incarnation, positions[writer], 1, sequence)
            headers: Headers = [(IDENTITY_HEADER, identity.encode())]
            if chance.random() < 0.1:
                headers.insert(0, ("user", b"header"))
            value = b"%d" % len(log)
            log.append(
                MemoryRecord(
                    "out", 0, len(log), key=b"key", value=value, headers=headers, timestamp_ms=5
                )
            )
            sequences[writer] += 1
    return log


def _scanned(log: list[MemoryRecord], reader: type[TailReader]) -> object:
    """What a scan of the whole tail finds."""
    spec = TaskSpec(TASK, implicit=True, sink_outputs=((0, 0),))
    known = {Incarnation(1, offset) for offset in range(20)}
    scan = TailScan(spec, starts={(0, 0): (0, Incarnation(1, 1))}, known=known)
    layout = SimpleNamespace(
        topology=SimpleNamespace(stages=[SimpleNamespace(index=0)]),
        kafka_partition=lambda *_: ("out", 0),
    )
    tails = reader(
        cast("Admin", None),  # it asks for no ends here
        cast("Layout", layout),
        scans=[scan],
        fence_offsets={},
        application=7,
        skipped=(),
    )
    for record in log:
        tails.take(record, record.headers() or [])
    return scan.position, tails.stored


def test_many_outputs_make_a_hint_due_before_its_time() -> None:
    """A successor never scans much more than `HINT_RECORDS` outputs and those not committed."""
    app = kstash.App("hints")
    (
        app.stream("in", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .count("words")
        .to("out", value=kstash.int_text)
    )

    def hints_in_an_interval(driver: TestDriver, words: int) -> int:
        """Hints that the counting task writes while it counts so many words, four times."""
        before = len(_hints(driver))
        for _ in range(4):
            driver.send("in", "word " * words)
            driver.advance(HINT_INTERVAL_S / 4)
        return len(_hints(driver)) - before

    with TestDriver(app) as driver:
        driver.send("in", "word")
        driver.advance(3 * HINT_INTERVAL_S)
        assert hints_in_an_interval(driver, 1) <= 2
        assert hints_in_an_interval(driver, HINT_RECORDS) >= 3


def _hints(driver: TestDriver) -> list[LineageRecord]:
    records = (decode_record(r.key(), r.value()) for r in driver.kafka.read("hints-lineage", 0))
    return [r for r in records if isinstance(r, Hint) and r.task.stage == 1]

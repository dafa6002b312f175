"""What a recovery reads of the lineage topic, and how far back it must look at outputs."""

from __future__ import annotations

import pytest

import kstash
from kstash.core.ids import Incarnation, TaskId
from kstash.core.records import Claim, Hint, LineageRecord, decode_record, encode_key, encode_value
from kstash.errors import WireCorruptError
from kstash.runtime.hints import HINT_INTERVAL_S, HINT_RECORDS
from kstash.runtime.history import LineageReader
from kstash.testing import TestDriver
from kstash.testing.log import MemoryRecord

TASK, OTHER = TaskId(0, 0), TaskId(1, 0)


def message(offset: int, record: LineageRecord, value: bytes | None = None) -> MemoryRecord:
    """A record as it stands in the lineage topic."""
    key = encode_key(record)
    return MemoryRecord("l", 0, offset, key, value or encode_value(record), None, 0)


def hint(number: int, task: TaskId = TASK) -> Hint:
    """A hint of incarnation 5."""
    return Hint(Incarnation(1, 5), task, number, {(0, 0): number}, number)


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

"""H17: a poison record crashes every replay until an operator has it skipped.

Source: protocol, section 9: the skip is a field of START; the event still counts but does nothing,
in every replay whose chain holds that START.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

import kstash
from kstash import App, ConfigError
from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.reader import ReaderState
from kstash.core.skips import InputSkips
from kstash.core.wire import IDENTITY_HEADER
from kstash.errors import OperatorError
from kstash.runtime.decode import decode_external, decode_ruled, record_of
from kstash.settings.config import Config
from kstash.testing import TestDriver
from kstash.testing.kafka.log import MemoryRecord
from tests.unit.core_cases import APP, identity

OLDER, NEWER = Incarnation(1, 5), Incarnation(1, 9)


def parsed(value: str) -> int:
    """Fails on what is no number."""
    return int(value)


def running_sums(**settings: Any) -> App:
    """Sums of two merged topics: the task's state depends on the order of its inputs."""
    app = App("sums", **settings)
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    merged = left.merge(right).map_values(parsed)
    merged.sum("totals").to("out", value=kstash.int_text)
    return app


def values(driver: TestDriver) -> list[int]:
    """New outputs."""
    return [record.value for record in driver.read("out")]


def test_h17_a_poison_record_is_skipped_in_every_replay() -> None:
    """The skip is said once: the event does nothing, and later starts need not be told again."""
    with TestDriver(running_sums(), lineage_delay_s=1) as driver:
        driver.send("l", "1", "k")
        with pytest.raises(OperatorError, match="offset 0") as caught:
            driver.send("r", "poison", "k")
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("r", 0, 0)
        with pytest.raises(OperatorError):
            driver.recover()

        told = running_sums(skip_records="r/0/0").config
        driver.rig.config = told
        driver.recover()
        driver.send("r", "3", "k")
        driver.send("l", "5", "k")
        assert values(driver) == [1, 4, 9]

        driver.rig.config = running_sums().config
        for _ in range(2):
            driver.crash()
            driver.recover()
        driver.send("r", "7", "k")
        assert values(driver) == [16]
        assert driver.state("totals") == {"k": 16}


def test_h17_a_skipped_event_counts() -> None:
    """Its position is taken: lineage, replay and offsets go on as if it had been processed."""
    app = running_sums(skip_records="l/0/1,r/0/0")
    with TestDriver(app, lineage_delay_s=1) as driver:
        for topic, value in (("l", "1"), ("l", "no"), ("r", "nor this"), ("r", "2"), ("l", "3")):
            driver.send(topic, value, "k")
        before = values(driver)
        assert before == [1, 3, 6]
        driver.crash()
        driver.recover()
        assert values(driver) == []
        driver.send("l", "4", "k")
        assert values(driver) == [10]


def record(offset: int, value: bytes, header: bytes | None = None) -> MemoryRecord:
    """A consumed record."""
    return MemoryRecord(
        "t", 0, offset, key=None, value=value, headers=[(IDENTITY_HEADER, header)], timestamp_ms=0
    )


def test_h17_a_skipped_record_is_an_event_of_no_records() -> None:
    """Counts and offsets are those of all records, the batch that of the others."""
    messages = [record(offset, b"%d" % offset) for offset in (4, 5, 7)]
    skips = InputSkips(frozenset({5}))
    events = decode_external(messages, skips)
    assert events.batch.values == [b"4", b"7"]
    assert (events.count, events.end_offset, events.next_offset) == (3, 8, 8)
    assert [record_of(events, index) for index in (0, 1)] == [(4, 0), (7, 0)]
    assert decode_external(messages[1:2], skips).batch.values == []


def test_h17_a_skipped_frame_is_not_even_decoded() -> None:
    """A frame whose bytes are damaged can be passed over; its sequences count."""
    table = ReaderState(max_incarnation={(APP, 0): Incarnation(1, 1)})
    message = record(9, b"damaged", identity(Incarnation(1, 1), 1, 3, task=TaskId(0, 0)).encode())
    events = decode_ruled([message], table, is_frames=True, skips=InputSkips(frozenset({9})))
    assert (events.count, events.sizes, events.offsets, events.end_offset) == (1, [0], [9], 10)
    assert list(table.last_seq.values()) == [3]


def test_what_the_reader_rule_drops_is_no_event() -> None:
    """A replay asks for so many events: what was taken before comes on top, what follows stays."""
    task, frame = TaskId(0, 0), encode_frame([b"k"], None, [1], None)
    headers = [identity(NEWER, first, 1, task=task).encode() for first in (1, 1, 2, 2, 3)]
    headers[1] = identity(OLDER, 1, 1, task=task).encode()
    messages = [record(offset, frame, header) for offset, header in enumerate(headers)]
    table = ReaderState(max_incarnation={(APP, task.partition): NEWER})
    events = decode_ruled(deque(messages), table, is_frames=True, events_max=2)
    assert (events.count, events.taken, events.offsets) == (2, 3, [0, 2])
    assert (events.end_offset, events.next_offset) == (3, 3)
    events = decode_ruled(messages[events.taken :], table, is_frames=True, events_max=2)
    assert (events.count, events.taken, events.offsets) == (1, 2, [4])


def test_what_is_dropped_is_counted_by_why() -> None:
    """In logical records: what came before, in whole or in part, what a fence is against, skips."""
    task, column = TaskId(0, 0), [b"k"] * 4
    frame = encode_frame(column, None, [1] * 4, None)
    made = [(NEWER, 1), (NEWER, 1), (NEWER, 3), (OLDER, 9), (NEWER, 7)]
    messages = [
        record(offset, frame, identity(incarnation, first, 4, task=task).encode())
        for offset, (incarnation, first) in enumerate(made)
    ]
    table = ReaderState(max_incarnation={(APP, task.partition): NEWER})
    skips = InputSkips(frozenset({4}))
    events = decode_ruled(messages, table, is_frames=True, skips=skips)
    assert events.dropped == {"repeated": 4 + 2, "fenced": 4, "skipped": 4}
    table = ReaderState(max_incarnation={(APP, task.partition): NEWER})
    assert decode_ruled(messages[:1], table, is_frames=True).dropped is None


def test_skipped_records_of_a_plain_topic_are_counted() -> None:
    """One by one, and those of a gap."""
    messages = [record(offset, b"v") for offset in range(6)]
    skips = InputSkips(frozenset({1}), gaps=((3, 4),))
    assert decode_external(messages, skips).dropped == {"skipped": 3}
    assert decode_external(messages).dropped is None


@pytest.mark.parametrize("value", ["t/0", "t/0/x", "t/0/1,", "", "t/-1/0"])
def test_h17_what_names_no_record_is_refused(value: str) -> None:
    """A typing error must not look like a skip."""
    with pytest.raises(ConfigError, match="skip_records"):
        Config.load(application_id="a", skip_records=value)

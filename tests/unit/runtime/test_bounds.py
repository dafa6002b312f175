"""Memory is bounded in bytes: what waits, what a batch is made of, and what it makes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kstash
from kstash.operators.batch import Batch
from kstash.operators.sizes import RECORD_MEMORY_BYTES, bytes_of
from kstash.ports.kafka import Headers
from kstash.runtime import load
from kstash.runtime.decode import BATCH_RECORDS
from kstash.runtime.pace import MADE_BYTES, Pace
from kstash.runtime.task import waiting
from kstash.runtime.task.task import Task
from kstash.runtime.task.waiting import BATCH_BYTES, BYTES_HIGH, Waiting
from kstash.runtime.worker.worker import Worker
from kstash.testing import TestDriver
from kstash.testing.kafka.log import MemoryRecord

KB = 1024
PEAK_MB = 700
"""For a record that becomes 100 MB, by docs/operating: four times that, and the fixed parts."""


def record(offset: int, value: int, *, key: int = 0, header: int = 0) -> MemoryRecord:
    """A record with so many bytes."""
    headers: Headers | None = [("h", bytes(header))] if header else None
    return MemoryRecord(
        "in", 0, offset, key=bytes(key) or None, value=bytes(value), headers=headers, timestamp_ms=1
    )


def worker_of(driver: TestDriver) -> Worker:
    """The driver's worker."""
    return driver.rig.worker


def task_of(driver: TestDriver) -> Task:
    """Its first task."""
    return worker_of(driver).groups[0].tasks[0]


def flow_of(queue: Waiting) -> str:
    """What becomes of its input: it is paused, resumed, or left as it is."""
    return "pause" if queue.is_much else "resume" if queue.is_little else "leave"


# -- what waits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["value", "key", "header"])
def test_large_records_that_wait_are_much(part: str) -> None:
    """Whatever is large in a record counts, and what was taken no more."""
    records = [record(n, **({"value": 1} | {part: 100 * KB})) for n in range(60)]
    queue = Waiting()
    queue.extend(records[:40])
    assert flow_of(queue) == "leave"
    queue.extend(records[40:])
    assert flow_of(queue) == "pause"
    queue.take(45)
    assert flow_of(queue) == "leave"
    queue.take(6)
    assert flow_of(queue) == "resume"
    assert len(queue) == 9


def test_small_records_that_wait_are_much_by_their_number() -> None:
    """A record takes memory whatever it holds."""
    queue = Waiting()
    queue.extend([record(n, 1) for n in range(waiting.RECORDS_HIGH)])
    assert flow_of(queue) == "leave"
    queue.extend([record(waiting.RECORDS_HIGH, 1)])
    assert flow_of(queue) == "pause"


def test_a_batch_of_large_records_holds_few() -> None:
    """As many as fit into the bytes of a batch, and one that is larger alone."""
    queue = Waiting()
    queue.extend([record(n, 100 * KB) for n in range(20)])
    assert queue.batch(BATCH_RECORDS) == BATCH_BYTES // (100 * KB) == 5
    assert queue.batch(3) == 3
    queue = Waiting()
    queue.extend([record(0, 2 * BATCH_BYTES), record(1, 1)])
    assert queue.batch(BATCH_RECORDS) == 1
    queue.take(1)
    assert queue.batch(BATCH_RECORDS) == 1


def test_records_wait_in_the_order_of_the_log() -> None:
    """What a consumer hands out comes after what it handed out before."""
    queue = Waiting()
    queue.extend([record(3, 1), record(5, 1)])
    with pytest.raises(AssertionError, match="out of order"):
        queue.extend([record(5, 1)])
    queue.take(2)
    queue.extend([record(1, 1)])  # after a seek nothing waits


def test_no_more_is_taken_away_than_was_made() -> None:
    """A count below zero would let batches begin without end."""
    emptied = load.Load()
    assert not emptied.is_full
    emptied.unacked_bytes -= 1
    with pytest.raises(AssertionError, match="taken away"):
        _ = emptied.is_full


def test_what_is_dropped_does_not_count() -> None:
    """Records below an offset go, from the front; those after a number, from the back."""
    queue = Waiting()
    queue.extend([record(n, 1000 * KB) for n in range(6)])
    queue.drop_before(2)
    queue.keep(3)
    assert [message.offset() for message in queue] == [2, 3, 4]
    assert queue.first_offset == 2
    assert flow_of(queue) == "leave"
    queue.take(3)
    assert flow_of(queue) == "resume"
    assert queue.first_offset is None


def copying(slow: Callable[[str], str] = str) -> kstash.App:
    """Two inputs in one stage: a replay, or a turn, may need one of them first."""
    app = kstash.App("bounds")
    left = app.stream("l", key=kstash.text, value=kstash.text)
    right = app.stream("r", key=kstash.text, value=kstash.text)
    left.merge(right).map_values(slow).to("out", value=kstash.text)
    return app


def test_an_input_of_large_records_is_paused_by_their_bytes() -> None:
    """A replay that needs the other input first buffers megabytes, and not thousands of records."""
    with TestDriver(copying(), lineage_delay_s=1) as driver:
        driver.send("l", "v", key="k")
        driver.crash()
        for _ in range(300):
            driver.kafka.append("r", bytes(100 * KB), key=b"k", partition=0)
        driver.kafka.fetch_max = driver.kafka.poll_max = 10
        driver.rig.start()
        worker = worker_of(driver)
        cluster = driver.rig.cluster
        assert cluster is not None
        held = worker.context.clients.consumer
        held.pause([("l", 0)])
        most = 0
        for _ in range(400):
            worker.step(0)
            held.pause([("l", 0)])
            driver.clock.advance(0.01)
            for group in worker.groups.values():
                for task in group.tasks.values():
                    most = max(most, *(len(source.buffer) for source in task.inputs.values()))
        assert 10 <= most <= BYTES_HIGH // (100 * KB) + 11


# -- what a batch makes --------------------------------------------------------------------------


def test_a_batch_makes_no_more_than_its_bytes_once_they_are_known() -> None:
    """A pace goes by what a record has made, and grows again when records make little."""
    pace = Pace()
    for _ in range(12):
        records = pace.size
        pace.took(records, 0.0)
        pace.made(records, records * 100)
    assert pace.size == BATCH_RECORDS
    pace.made(BATCH_RECORDS, 2 * MADE_BYTES)
    assert pace.size == BATCH_RECORDS // 2
    pace.made(1, 100 * MADE_BYTES)
    assert pace.size == 1
    for _ in range(12):
        records = pace.size
        pace.took(records, 0.0)
        pace.made(records, records * 100)
    assert pace.size == BATCH_RECORDS


def test_the_doubling_stops_before_a_batch_makes_too_much() -> None:
    """No batch is tried whose like has been seen to make too much."""
    pace = Pace()
    largest = 0
    for _ in range(20):
        records = pace.size
        largest = max(largest, records * 100 * KB)
        pace.took(records, 0.0)
        pace.made(records, records * 100 * KB)
    assert MADE_BYTES // 2 <= largest <= MADE_BYTES


def test_bytes_of_a_batch() -> None:
    """Keys, values and headers count, missing ones do not, and each record by itself."""
    batch = Batch([b"key", None], [b"value", None], [1, 2], [[("name", b"12"), ("n", None)], None])
    assert bytes_of(batch) == 3 + 5 + 4 + 2 + 1 + 2 * RECORD_MEMORY_BYTES
    assert bytes_of(Batch()) == 0


# -- what is on its way --------------------------------------------------------------------------


def test_no_batch_begins_while_too_much_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes nothing stops the work, and no byte is lost count of when it goes on."""
    monkeypatch.setattr(load, "UNACKED_BYTES_MAX", 100 * KB)
    app = kstash.App("bounds")
    app.stream("in", value=kstash.text).flat_map_values(lambda v: [v] * 4).to(
        "out", value=kstash.text
    )
    with TestDriver(app) as driver:
        worker = worker_of(driver)
        driver.rig.cluster.links["sink"].holds_acks = True
        for _ in range(50):
            driver.kafka.append("in", b"x" * 10 * KB)
        for _ in range(100):
            worker.step(0)
            driver.clock.advance(0.001)
        unacked = worker.context.load.unacked_bytes
        assert 100 * KB < unacked <= 200 * KB + 4 * 10 * KB + 16 * RECORD_MEMORY_BYTES
        assert task_of(driver).records_in < 10
        driver.rig.cluster.links["sink"].holds_acks = False
        driver.advance(5)
        assert len(driver.read("out")) == 200
        assert worker.context.load.unacked_bytes == 0


def test_a_group_that_is_given_up_takes_its_bytes_along() -> None:
    """What a closed task had on its way does not stop the others, and late answers do no harm."""
    app = kstash.App("bounds")
    app.stream("in", value=kstash.text).to("out", value=kstash.text)
    with TestDriver(app) as driver:
        worker = worker_of(driver)
        driver.rig.cluster.links["sink"].holds_acks = True
        driver.kafka.append("in", b"x" * KB)
        for _ in range(5):
            worker.step(0)
        task, load_of_all = task_of(driver), worker.context.load
        assert load_of_all.unacked_bytes == KB + RECORD_MEMORY_BYTES
        worker.groups[0].close()
        assert load_of_all.unacked_bytes == 0
        task.sent.acked((0, 0), task.core.position)
        assert load_of_all.unacked_bytes == 0


# -- all of it -----------------------------------------------------------------------------------


@pytest.mark.prove
@pytest.mark.parametrize("case", ["fan-out", "fan-out in replay", "fan-out of frames"])
def test_memory_stays_within_the_documented_bound(case: str) -> None:
    """40 records of 100 KB, each made a thousand, 4 GB: live, in replay, and after a frame."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.memory_program", case],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < PEAK_MB

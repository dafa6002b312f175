"""Tombstones: the lineage topic stays small. The worker is the real one, Kafka is in memory.

Source: protocol, section 5; H23; invariant I8.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import pytest

import kstash
from kstash import App
from kstash.core.determinants import Consumed
from kstash.core.group import GroupCore
from kstash.core.ids import UNBOUNDED
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import (
    BoundedRun,
    Checkpoint,
    Claim,
    Gone,
    Hint,
    LineageRecord,
    Release,
    Seal,
    Segment,
    Start,
)
from kstash.ports.kafka import Message, Partition
from kstash.runtime.group import trim
from kstash.runtime.group.trim import Trimmer
from kstash.runtime.lineage_reader import lineage_record as read
from kstash.testing import TestDriver
from kstash.testing.kafka.cluster import MemoryAdmin
from kstash.testing.kafka.log import MemoryRecord

LINEAGE = "trimmed-lineage"


def merged(**settings: Any) -> App:
    """Two topics merged: an order to log, no state."""
    app = App("trimmed", checkpoint_interval_ms=1_000, **settings)
    app.stream("l", "r", value=kstash.text).map(str.upper).to("out", value=kstash.text)
    return app


Kind = TypeVar("Kind", bound=LineageRecord)


def live(driver: TestDriver, kind: type[Kind]) -> list[Kind]:
    """Records of a kind that maximal compaction leaves of the lineage topic."""
    driver.kafka.log((LINEAGE, 0)).compact(drops_tombstones=True)
    found = [decode_record(record.key(), record.value()) for record in driver.kafka.read(LINEAGE)]
    return [record for record in found if isinstance(record, kind)]


def live_count(driver: TestDriver) -> int:
    """How many records of any kind it leaves."""
    return len(live(driver, object))  # type: ignore[type-var] # all of them


def parts(driver: TestDriver) -> tuple[Trimmer, GroupCore]:
    """The trimmer of group 0, and what its recovery knows."""
    group = driver.rig.worker.groups[0]
    assert group.trimmer is not None
    assert group.recovery is not None
    return group.trimmer, group.recovery.core


def work(driver: TestDriver, seconds: int) -> None:
    """Five records a second on two topics in turn, and the time that they take."""
    for second in range(seconds):
        for number in range(5):
            driver.send("lr"[number % 2], f"{second}/{number}")
        driver.advance(1)


def test_live_lineage_does_not_grow_with_the_run() -> None:
    """I8: after ten times the records there is as much lineage as before."""
    with TestDriver(merged()) as driver:
        work(driver, 6)
        short = live_count(driver)
        work(driver, 24)
        assert live_count(driver) <= short + 5
        assert len(live(driver, Checkpoint)) <= 3
        assert driver.metrics.counts["tombstones"] > 90


def test_a_recovery_on_trimmed_lineage_goes_on() -> None:
    """I7: what is left carries a replay, and its outputs come once."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        work(driver, 5)
        live_count(driver)
        driver.crash()
        driver.recover()
        work(driver, 5)
        live_count(driver)
        outputs = [record.value for record in driver.read("out")]
        assert sorted(outputs) == sorted([f"{s}/{n}" for s in range(5) for n in range(5)] * 2)


def test_what_a_predecessor_left_is_trimmed_too() -> None:
    """Lineage of earlier incarnations goes as soon as a checkpoint of the new one covers it."""
    with TestDriver(merged()) as driver:
        for _ in range(4):
            work(driver, 2)
            driver.crash()
            driver.recover()
        work(driver, 4)
        _, core = parts(driver)
        assert {segment.incarnation for segment in live(driver, Segment)} == {core.incarnation}


@pytest.mark.parametrize("is_graceful", [False, True])
def test_restarts_leave_nothing_behind(is_graceful: bool) -> None:
    """I8: CLAIM, SEAL, START, HINT and RELEASE of incarnations that nobody falls back to go too."""
    with TestDriver(merged()) as driver:
        for _ in range(8):
            work(driver, 4)
            if is_graceful:
                driver.drain()
            else:
                driver.crash()
            driver.recover()
        work(driver, 4)
        _, core = parts(driver)
        kinds = [type(record) for record in live(driver, object)]  # type: ignore[type-var]
        assert kinds.count(Claim) == kinds.count(Seal) == kinds.count(Start) == 1
        # The newest drain is over, which a later one must be able to see.
        assert kinds.count(Release) == kinds.count(BoundedRun) == int(is_graceful)
        assert {hint.incarnation for hint in live(driver, Hint)} == {core.incarnation}
        assert len(kinds) <= 16


@pytest.mark.parametrize("is_zombie", [False, True])
def test_h7_a_zombie_trims_nothing(is_zombie: bool) -> None:
    """H7: a checkpoint after a higher CLAIM is void, and gives nothing up."""
    driver = TestDriver(merged())
    work(driver, 4)
    trimmer, core = parts(driver)
    own = live(driver, Checkpoint)[-1]
    end = core.view.next_offset + 1000
    records: list[LineageRecord] = [Claim(bytes(16), "successor")] if is_zombie else []
    late = replace(own, number=own.number + 1, position=own.position + 1)
    for record in [*records, late]:
        end += 1
        message = MemoryRecord(
            LINEAGE,
            0,
            end,
            key=encode_key(record),
            value=encode_value(record),
            headers=None,
            timestamp_ms=0,
        )
        seen = trimmer.see(message)
    assert seen == (None if is_zombie else late)
    assert bool(trimmer._given_up) is not is_zombie


@pytest.mark.parametrize("is_zombie", [False, True])
def test_confirmed_is_what_was_read_back_before_a_higher_claim(is_zombie: bool) -> None:
    """Beside stable, which is what the producer was told: a zombie's lineage is acknowledged too.

    Source: protocol, section 4.
    """
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        work(driver, 2)
        driver.crash()
        driver.recover()
        trimmer, core = parts(driver)
        (task,) = driver.rig.worker.groups[0].tasks.values()
        taken_over, name = task.core.stable, task.core.task
        assert trimmer.confirmed.through(name, UNBOUNDED) == taken_over > 0
        driver.send("l", "unread")
        assert task.core.position > taken_over
        assert trimmer.confirmed.through(name, UNBOUNDED) == taken_over
        driver.advance(3)
        confirmed = trimmer.confirmed.through(name, UNBOUNDED)
        assert confirmed == task.core.stable == task.core.position
        offset = core.view.next_offset + 1000
        records: list[LineageRecord] = [Claim(bytes(16), "successor")] if is_zombie else []
        runs = (Consumed(confirmed, 0, 2, 99),)
        records.append(Segment(core.incarnation, name, 99, confirmed, confirmed + 2, runs))
        for record in records:
            offset += 1
            key, value = encode_key(record), encode_value(record)
            trimmer.see(
                MemoryRecord(LINEAGE, 0, offset, key=key, value=value, headers=None, timestamp_ms=0)
            )
        assert trimmer.confirmed.is_over is is_zombie
        late = 0 if is_zombie else 2
        assert trimmer.confirmed.through(name, UNBOUNDED) == confirmed + late
        driver.crash()  # it has seen offsets that the topic does not have


def test_own_segments_do_not_overlap() -> None:
    """What was handed over goes on where the one before ended: the trimmer's keys rely on it."""
    with TestDriver(merged()) as driver:
        work(driver, 2)
        trimmer, core = parts(driver)
        (task,) = driver.rig.worker.groups[0].tasks.values()
        at, name = task.core.position, task.core.task
        trimmer.add_segment(Segment(core.incarnation, name, 98, at, at + 2, ()))
        with pytest.raises(AssertionError, match="overlap"):
            trimmer.add_segment(Segment(core.incarnation, name, 99, at + 1, at + 3, ()))
        driver.crash()


def test_own_segments_are_not_decoded_when_they_are_read_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their writer knows what is in them; of those that were read back nothing is kept."""
    decoded = list[object]()

    def noted(message: Message) -> LineageRecord | Gone | None:
        decoded.append(record := read(message))
        return record

    monkeypatch.setattr(trim, "lineage_record", noted)
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        work(driver, 2)
        driver.advance(3)
        trimmer, _ = parts(driver)
        (task,) = driver.rig.worker.groups[0].tasks.values()
        assert trimmer.confirmed.through(task.core.task, UNBOUNDED) == task.core.position > 0
        assert live(driver, Segment)
        assert decoded
        assert not any(isinstance(record, Segment) for record in decoded)
        assert not trimmer._unread
        driver.send("l", "unread")
        assert len(trimmer._unread) == 1


def test_memory_is_bounded_without_remote_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of segments are merged above the bound; all of them are given up in the end."""
    monkeypatch.setattr(trim, "RUNS_MAX", 8)
    with TestDriver(merged()) as driver:
        monkeypatch.setattr(trim, "may_trim_now", lambda *_: False)
        work(driver, 16)
        kept = parts(driver)[1].view.segments
        assert all(len(segments) <= 8 for segments in kept.values())
        assert len(live(driver, Segment)) == 80
        monkeypatch.undo()
        work(driver, 6)
        assert len(live(driver, Segment)) <= 30


def test_old_local_checkpoints_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose remote checkpoints never succeed remembers some local ones only."""
    monkeypatch.setattr(trim, "LOCAL_MAX", 6)
    app = App("trimmed", checkpoint_interval_ms=1_000, checkpoint_store="none")
    words = app.stream("l", value=kstash.text).key_by(str.lower, key=kstash.text)
    words.count("words").to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        for _ in range(12):
            driver.send("l", "word")
            driver.advance(1)
        view = parts(driver)[1].view
        assert all(len(found) <= 6 for found in view.checkpoints.values())


# -- the purge of internal topics ----------------------------------------------------------------

MIDDLE = "trimmed-middle-repartition"


def passed_on(**settings: Any) -> App:
    """A stateless stage on both sides of an internal topic."""
    app = App("trimmed", checkpoint_interval_ms=1_000, **settings)
    words = app.stream("l", key=kstash.text, value=kstash.text)
    words.repartition("middle").map_values(str.upper).to("out", value=kstash.text)
    return app


def send(driver: TestDriver, seconds: int, *, partition: int) -> None:
    """A record of each key a second, all on one input partition."""
    for second in range(seconds):
        for key in "abcdefgh":
            driver.send("l", f"{second}", key=key, partition=partition)
        driver.advance(1)


def kept(driver: TestDriver) -> list[int]:
    """How many offsets each partition of the internal topic holds."""
    logs = [driver.kafka.log((MIDDLE, number)) for number in range(2)]
    return [log.end_offset - log.start_offset for log in logs]


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_the_purge_follows_the_checkpoints_of_all_groups(guarantee: str) -> None:
    """What readers and writers are past is deleted, also where one writer is idle all the time."""
    with TestDriver(passed_on(guarantee=guarantee), partitions=2) as driver:
        send(driver, 24, partition=0)
        ends = [driver.kafka.log((MIDDLE, number)).end_offset for number in range(2)]
        assert min(ends) > 60
        assert all(count < end / 2 for count, end in zip(kept(driver), ends, strict=True))
        assert driver.metrics.counts["purged_offsets"] > 30
        driver.crash()
        driver.recover()
        send(driver, 2, partition=1)
        assert len(driver.read("out")) == 26 * 8


def test_a_purge_that_is_refused_is_tried_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No right to delete is no reason to ask every few seconds; once allowed, all is as before."""
    asked: list[float] = []
    delete = MemoryAdmin.delete_records
    with TestDriver(passed_on(), partitions=2) as driver:

        def refused(_: MemoryAdmin, limits: dict[Partition, int]) -> Any:
            assert limits
            asked.append(driver.clock.monotonic())
            return dict

        monkeypatch.setattr(MemoryAdmin, "delete_records", refused)
        send(driver, 100, partition=0)
        pauses = [later - earlier for earlier, later in pairwise(asked)]
        assert pauses == sorted(pauses)
        assert pauses[-1] >= 4 * pauses[0]
        monkeypatch.setattr(MemoryAdmin, "delete_records", delete)
        send(driver, 100, partition=0)
        assert all(count < 400 for count in kept(driver))
        assert driver.rig.worker._purger._backoff == 1


def test_nothing_is_purged_by_what_was_known_before_a_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that sleeps in a round wakes up over other topics: nobody has read what is there."""
    with TestDriver(passed_on(), partitions=2) as driver:
        send(driver, 12, partition=0)
        purger, known = driver.rig.worker._purger, []
        delete = MemoryAdmin.delete_records

        def deleted(admin: MemoryAdmin, limits: dict[Partition, int]) -> Any:
            known.append(purger._views[0].generation_record)
            return delete(admin, limits)

        monkeypatch.setattr(MemoryAdmin, "delete_records", deleted)
        config = purger._views[0].generation_record
        assert config is not None
        earlier = config[0], replace(config[1], nonce=b"of before the reset")
        purger._views[0].generation_record = earlier
        send(driver, 24, partition=0)
        # It has read the topic anew, and goes on with what it says.
        assert known
        assert set(known) == {config}


@pytest.mark.parametrize("group", [0, 1])
def test_a_lineage_topic_that_is_shorter_than_what_was_read_is_read_anew(group: int) -> None:
    """It was made anew: what was known of any of its partitions is forgotten."""
    with TestDriver(passed_on(), partitions=2) as driver:
        send(driver, 12, partition=0)
        purger = driver.rig.worker._purger
        read, known = purger._next[group], purger._views[1 - group]
        purger._next[group] = read + 1_000_000
        send(driver, 24, partition=0)
        assert read <= purger._next[group] < 1_000_000
        assert purger._views[1 - group] is not known


def test_h40_a_writer_that_falls_idle_does_not_hold_the_purge() -> None:
    """H40: it says its checkpoint again, where its outputs would be scanned from by now."""
    with TestDriver(passed_on(), partitions=2) as driver:
        send(driver, 3, partition=1)
        send(driver, 30, partition=0)
        ends = [driver.kafka.log((MIDDLE, number)).end_offset for number in range(2)]
        assert all(count < end / 2 for count, end in zip(kept(driver), ends, strict=True))


def test_h14_without_remote_checkpoints_nothing_is_purged() -> None:
    """H14, H21: a reader whose checkpoints are local needs everything."""
    app = App("trimmed", checkpoint_interval_ms=1_000, checkpoint_store="none")
    words = app.stream("l", key=kstash.text, value=kstash.text).repartition("middle")
    words.count("words").to("out", value=kstash.int_text)
    with TestDriver(app, partitions=2) as driver:
        send(driver, 10, partition=0)
        assert [driver.kafka.log((MIDDLE, number)).start_offset for number in range(2)] == [0, 0]


def test_h14_a_writer_whose_checkpoints_are_local_holds_the_purge() -> None:
    """H14: its scans begin at 0, though who reads the topic needs nothing of it any more."""
    app = App("trimmed", checkpoint_interval_ms=1_000, checkpoint_store="none")
    counts = app.stream("l", key=kstash.text, value=kstash.text).count("n").map_values(str)
    counts.repartition("middle", value=kstash.text).to("out", value=kstash.text)
    with TestDriver(app, partitions=2) as driver:
        send(driver, 10, partition=0)
        assert len(driver.read("out")) == 80
        assert [driver.kafka.log((MIDDLE, number)).start_offset for number in range(2)] == [0, 0]


def test_h13_the_margin_says_how_far_retention_is() -> None:
    """H13: offsets between the log start and the oldest checkpoint that may be replayed."""
    with TestDriver(passed_on()) as driver:
        send(driver, 11, partition=0)
        far = driver.metrics.gauges["input_margin_records"]
        assert 40 < far < 88
        driver.kafka.log(("l", 0)).delete_before(40)
        driver.advance(11)
        assert driver.metrics.gauges["input_margin_records"] == 88 - 8 - 40

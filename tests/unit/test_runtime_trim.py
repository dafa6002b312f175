"""Tombstones: the lineage topic stays small. The worker is the real one, Kafka is in memory.

Source: protocol, section 5; H23; invariant I8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import pytest

import kstash
from kstash import App
from kstash.core.group import GroupCore
from kstash.core.records import (
    Checkpoint,
    Claim,
    LineageRecord,
    Segment,
    decode_record,
    encode_key,
    encode_value,
)
from kstash.runtime import trim
from kstash.runtime.trim import Trimmer
from kstash.testing import TestDriver
from kstash.testing.log import MemoryRecord

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
    assert driver._worker is not None
    group = driver._worker.groups[0]
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
        work(driver, 60)
        assert live_count(driver) <= short + 5
        assert len(live(driver, Checkpoint)) <= 3
        assert driver.metrics.counts["tombstones"] > 250


def test_a_recovery_on_trimmed_lineage_goes_on() -> None:
    """I7: what is left carries a replay, and its outputs come once."""
    with TestDriver(merged(), lineage_delay_s=1) as driver:
        work(driver, 10)
        live_count(driver)
        driver.crash()
        driver.recover()
        work(driver, 10)
        live_count(driver)
        outputs = [record.value for record in driver.read("out")]
        assert sorted(outputs) == sorted([f"{s}/{n}" for s in range(10) for n in range(5)] * 2)


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


@pytest.mark.parametrize("is_zombie", [False, True])
def test_h7_a_zombie_trims_nothing(is_zombie: bool) -> None:
    """H7: a checkpoint behind a higher CLAIM is void, and gives nothing up."""
    driver = TestDriver(merged())
    work(driver, 4)
    trimmer, core = parts(driver)
    own = live(driver, Checkpoint)[-1]
    end = core.view.next_offset + 1000
    records: list[LineageRecord] = [Claim(bytes(16), "successor")] if is_zombie else []
    late = replace(own, number=own.number + 1, position=own.position + 1)
    for record in [*records, late]:
        end += 1
        message = MemoryRecord(LINEAGE, 0, end, encode_key(record), encode_value(record), None, 0)
        seen = trimmer.see(message)
    assert seen == (None if is_zombie else late)
    assert bool(trimmer._given_up) is not is_zombie


def test_memory_is_bounded_without_remote_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of segments are merged above the bound; all of them are given up in the end."""
    monkeypatch.setattr(trim, "RUNS_MAX", 8)
    with TestDriver(merged()) as driver:
        monkeypatch.setattr(trim, "may_trim_now", lambda *_: False)
        work(driver, 40)
        kept = parts(driver)[1].view.segments
        assert all(len(segments) <= 8 for segments in kept.values())
        assert len(live(driver, Segment)) == 200
        monkeypatch.undo()
        work(driver, 6)
        assert len(live(driver, Segment)) <= 30


def test_old_local_checkpoints_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose remote checkpoints never succeed remembers some local ones only."""
    monkeypatch.setattr(trim, "LOCAL_MAX", 6)
    app = App("trimmed", checkpoint_interval_ms=1_000)
    words = app.stream("l", value=kstash.text).key_by(str.lower, key=kstash.text)
    words.count("words").to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        for _ in range(30):
            driver.send("l", "word")
            driver.advance(1)
        view = parts(driver)[1].view
        assert all(len(found) <= 6 for found in view.checkpoints.values())

"""Which places `skip_records` takes: records that were not processed, one by one (H50, H51).

A record that was processed has outputs. Passed over in a replay, it would leave their sequences to
the next new outputs, which would then be suppressed as if they were out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash import App, ConfigError
from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.reader import ReaderState
from kstash.core.skips import InputSkips
from kstash.core.wire import IDENTITY_HEADER
from kstash.errors import OperatorError, SkipTooLateError
from kstash.runtime.decode import decode_ruled, record_of
from kstash.testing import TestDriver
from kstash.testing.kafka.log import MemoryRecord
from tests.unit.core_cases import APP, identity

INTERNAL = "skips-totals-repartition"


def parsed(value: str) -> int:
    """Fails on what is no number."""
    return int(value)


def merged(**settings: Any) -> App:
    """Sums over two merged topics: lineage says which came next."""
    app = App("skips", **settings)
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    sums = left.merge(right).map_values(parsed).sum("totals")
    sums.to("out", value=kstash.int_text)
    return app


def spread(**settings: Any) -> App:
    """Sums of words after an internal topic, in frames: one input, nothing is logged."""
    app = App("skips", **settings)
    words = app.stream("l", key=kstash.text, value=kstash.text).flat_map(str.split)
    keyed = words.key_by(lambda _: "k", key=kstash.text, value=kstash.text)
    keyed.map_values(parsed).sum("totals").to("out", value=kstash.int_text)
    return app


def restarted(driver: TestDriver, app: App, skips: str = "") -> None:
    """Start again with a setting that names records."""
    if driver.rig.is_running:
        driver.crash()
    driver.rig.config = app.config.override(skip_records=skips or None)
    driver.recover()


def values(driver: TestDriver) -> list[int]:
    """New outputs."""
    return [record.value for record in driver.read("out")]


# -- too late ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause_s", [0, 12], ids=["replayed", "after the checkpoint"])
@pytest.mark.parametrize("app", [merged, spread], ids=["merged", "spread"])
def test_h50_a_record_that_was_processed_is_refused_by_name(
    app: Callable[..., App], pause_s: float
) -> None:
    """Nothing is changed, however often it is tried; without the name it goes on."""
    topology = app()
    with TestDriver(topology, lineage_delay_s=1) as driver:
        for value in ("1", "2", "4"):
            driver.send("l", value, "k")
        driver.advance(pause_s)
        for _ in range(2):
            with pytest.raises(SkipTooLateError, match="was processed before") as caught:
                restarted(driver, topology, "l/0/1")
            assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("l", 0, 1)
        restarted(driver, topology)
        driver.send("l", "8", "k")
        assert values(driver) == [1, 3, 7, 15]


@pytest.mark.parametrize("app", [merged, spread], ids=["merged", "spread"])
def test_h50_the_record_that_fails_was_not_processed(app: Callable[..., App]) -> None:
    """It lies after all that is replayed, and may be named, again and again, and not any more."""
    topology = app()
    with TestDriver(topology, lineage_delay_s=1) as driver:
        for value in ("1", "2"):
            driver.send("l", value, "k")
        with pytest.raises(OperatorError) as caught:
            driver.send("l", "poison", "k")
        place = caught.value.skip
        assert place is not None
        assert f"skip_records={place} passes it over" in str(caught.value)
        restarted(driver, topology, place)
        driver.send("l", "4", "k")
        driver.advance(12)
        restarted(driver, topology, place)
        driver.send("l", "8", "k")
        restarted(driver, topology)
        driver.send("l", "16", "k")
        assert values(driver) == [1, 3, 7, 15, 31]


def test_h50_a_replay_of_many_inputs_counts_the_events_of_each() -> None:
    """The first record that the history has not taken may be named, the one before it not."""
    topology = merged()
    with TestDriver(topology, lineage_delay_s=1) as driver:
        for topic in "lrrlr":
            driver.send(topic, "1", "k")
        with pytest.raises(OperatorError, match="topic 'r', partition 0, offset 3"):
            driver.send("r", "poison", "k")
        with pytest.raises(SkipTooLateError):
            restarted(driver, topology, "r/0/2")
        with pytest.raises(SkipTooLateError):
            restarted(driver, topology, "l/0/1,r/0/3")
        restarted(driver, topology, "r/0/3,l/0/2")
        driver.send("l", "passed over", "k")
        driver.send("r", "2", "k")
        assert values(driver) == [1, 2, 3, 4, 5, 7]


def test_h50_transaction_markers_are_no_events() -> None:
    """Offsets have gaps, so that the records between are counted, as the task does."""
    topology = merged()
    with TestDriver(topology, lineage_delay_s=1) as driver:
        log = driver.kafka.log(("l", 0))
        for value in ("1", "2"):
            driver.send("l", value, "k")
            log._append(None, None, None, 0, None, is_marker=True)
        with pytest.raises(OperatorError, match="offset 4"):
            driver.send("l", "poison", "k")
        with pytest.raises(SkipTooLateError):
            restarted(driver, topology, "l/0/2")
        restarted(driver, topology, "l/0/4")
        driver.send("r", "4", "k")
        assert values(driver) == [1, 3, 7]


def test_h50_without_lineage_what_was_not_checkpointed_may_be_named() -> None:
    """Under `at_least_once` it is processed again anyway; what a checkpoint holds is not."""
    topology = merged(guarantee="at_least_once")
    with TestDriver(topology) as driver:
        driver.send("l", "1", "k")
        driver.advance(12)
        driver.send("l", "2", "k")
        with pytest.raises(SkipTooLateError):
            restarted(driver, topology, "l/0/0")
        restarted(driver, topology, "l/0/1")
        driver.send("l", "4", "k")
        assert values(driver)[-1] == 5


# -- one record of a frame -----------------------------------------------------------------------


def test_h51_one_record_of_a_frame_is_passed_over() -> None:
    """The error tells which one; the others of the frame count, in every replay too."""
    topology = spread()
    with TestDriver(topology) as driver:
        driver.send("l", "1 2")
        with pytest.raises(OperatorError, match=r"record 2 of the frame") as caught:
            driver.send("l", "4 8 x 16 y 32")
        first = caught.value.skip
        assert first is not None
        assert re.fullmatch(rf"{INTERNAL}/0/\d+/2", first)
        with pytest.raises(OperatorError, match=r"record 4 of the frame") as caught:
            restarted(driver, topology, first)
        second = caught.value.skip
        restarted(driver, topology, f"{second}")
        assert values(driver) == [1, 3, 7, 15, 31, 63]
        driver.send("l", "64")
        restarted(driver, topology)
        driver.advance(12)
        restarted(driver, topology)
        driver.send("l", "128")
        assert values(driver) == [127, 255]


def test_h51_a_whole_frame_must_be_said() -> None:
    """All records of it are passed over by `all`; what names a frame only is refused by name."""
    topology = spread()
    with TestDriver(topology) as driver:
        driver.send("l", "1")
        with pytest.raises(OperatorError) as caught:
            driver.send("l", "x 2 4")
        frame = f"{INTERNAL}/0/{caught.value.offset}"
        with pytest.raises(ConfigError, match=f"{frame}: what lies there is a frame.*{frame}/all"):
            restarted(driver, topology, frame)
        restarted(driver, topology, f"{frame}/all")
        driver.send("l", "8")
        assert values(driver) == [1, 9]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("l/0/1/0", "only internal topics hold frames"),
        ("l/0/1/all", "only internal topics hold frames"),
        ("other/0/1", "reads and writes no such partition"),
        ("l/1/1", "reads and writes no such partition"),
    ],
)
def test_h51_what_names_nothing_is_refused(place: str, why: str) -> None:
    """A typing error must not look like a skip."""
    with pytest.raises(ConfigError, match=why) as caught:
        TestDriver(spread(skip_records=place))
    assert caught.value.setting == "skip_records"
    with pytest.raises(ConfigError, match="ends before it begins"):
        spread(skip_records="l/0/5-4")


def test_h51_indices_are_those_of_the_frame() -> None:
    """Also where the reader rule cuts its head, and where other records of it are passed over."""
    inc, task = Incarnation(1, 5), TaskId(0, 0)
    keys = [b"%d" % number for number in range(6)]

    def frame(offset: int, first: int, count: int) -> MemoryRecord:
        content = encode_frame(keys[:count], None, [1] * count, None)
        header = identity(inc, first, count, task=task).encode()
        return MemoryRecord(
            "t",
            0,
            offset,
            key=None,
            value=content,
            headers=[(IDENTITY_HEADER, header)],
            timestamp_ms=0,
        )

    skips = InputSkips(frozenset(), {8: frozenset({0, 3}), 9: frozenset({5})})
    table = ReaderState(max_incarnation={(APP, task.partition): inc})
    events = decode_ruled(
        [frame(7, 1, 2), frame(8, 1, 6), frame(9, 1, 2)], table, is_frames=True, skips=skips
    )
    assert events.batch.keys == [b"0", b"1", b"2", b"4", b"5"]
    assert [record_of(events, index, skips) for index in range(6)] == [
        *((7, 0), (7, 1)),
        *((8, 2), (8, 4), (8, 5)),
        None,
    ]
    assert (events.count, events.offsets, events.sizes) == (2, [7, 8], [2, 3])


def test_a_gap_holds_no_events() -> None:
    """What lies in a range of offsets that could not be read does not count, read or not."""
    topology = merged()
    with TestDriver(topology, lineage_delay_s=1) as driver:
        driver.send("l", "1", "k")
        driver.crash()
        for value in ("x", "y", "2"):
            driver.send("l", value, "k")
        restarted(driver, topology, "l/0/1-2")
        driver.send("r", "4", "k")
        restarted(driver, topology)
        driver.send("l", "8", "k")
        assert values(driver) == [1, 3, 7, 15]
        driver.advance(12)
        with pytest.raises(SkipTooLateError):
            restarted(driver, topology, "l/0/3-4")
        restarted(driver, topology, "l/0/1-2")
        assert driver.state("totals") == {"k": 15}

"""An application goes on under another guarantee once it is drained (H57)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import kstash
from kstash import App
from kstash.core.reader import ReaderState
from kstash.core.wire import IDENTITY_HEADER, decode_identity
from kstash.errors import ProgramChangedError, TopicMismatchError
from kstash.testing import TestDriver

RECOVERING = ("exactly_once", "write_first", "at_least_once")
EXACT = ("exactly_once", "write_first")


def words(guarantee: str) -> App:
    """Three stages and sinks of both deliveries."""
    app = App("shop", guarantee=guarantee, checkpoint_interval_ms=1000)
    counts = (
        app.stream("lines", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .count("words")
    )
    counts.to("counts")
    counts.to("plain-counts", delivery="transactional")
    by_count = counts.key_by(lambda count: count % 2, key=kstash.int_text)
    by_count.count("parities").to("parities")
    return app


class Reader:
    """A reader with the reader rule of all outputs from the beginning, over all changes."""

    def __init__(self, driver: TestDriver) -> None:
        self.kafka = driver.kafka
        self.tables: dict[tuple[str, int], ReaderState] = {}
        self.offsets: dict[tuple[str, int], int] = {}
        self.values: dict[str, list[int]] = {}

    def read(self) -> None:
        """Take what came since."""
        for topic in ("counts", "parities"):
            for partition in range(2):
                table = self.tables.setdefault((topic, partition), ReaderState(is_internal=False))
                log = self.kafka.log((topic, partition))
                start = self.offsets.get((topic, partition), 0)
                records, end = log.read(start, log.end_offset, is_committed=False)
                self.offsets[topic, partition] = end
                for record in records:
                    identity = dict(record.headers() or [])[IDENTITY_HEADER] or b""
                    if table.accept(decode_identity(identity)) == 0:
                        self.values.setdefault(topic, []).append(int(record.value() or b""))


def fill(driver: TestDriver) -> None:
    """Words in both partitions, of two keys."""
    driver.send("lines", "a b")
    driver.send("lines", "a", partition=1)


def counted(driver: TestDriver, rounds: int, *, may_repeat: bool = False) -> None:
    """Every record was counted once in each stage, or at least once."""
    words, parities = driver.state("words"), driver.state("parities")
    if may_repeat:
        assert words["a"] >= 2 * rounds
        assert words["b"] >= rounds
        assert sum(parities.values()) >= words["a"] + words["b"]
    else:
        assert words == {"a": 2 * rounds, "b": rounds}
        assert sum(parities.values()) == 3 * rounds


def pairs() -> list[Any]:
    """All pairs of guarantees, each with a name."""
    both = itertools.product(RECOVERING, repeat=2)
    return [pytest.param(first, second, id=f"{first}-{second}") for first, second in both]


@pytest.mark.parametrize("crash", ["never", "before a drain", "after an upgrade"])
@pytest.mark.parametrize(("first", "second"), pairs())
def test_a_drained_application_goes_on_under_another_guarantee(
    first: str, second: str, crash: str
) -> None:
    """There and back: each record counts once, and readers with the rule see each output."""
    order = (first, second, first)
    with TestDriver(words(order[0]), partitions=2) as driver:
        reader = Reader(driver)
        for number, guarantee in enumerate(order):
            if number:
                driver.drain()
                driver.recover(words(guarantee))
            if crash == "after an upgrade":
                driver.crash()
                driver.recover()
            fill(driver)
            driver.advance(3)
            fill(driver)
            reader.read()
            if crash == "before a drain":
                # After the last checkpoint: what is not fenced is made again.
                driver.crash()
                driver.recover()
            may_repeat = crash == "before a drain" and "at_least_once" in order
            counted(driver, 2 * (number + 1), may_repeat=may_repeat)
        reader.read()
        for topic, expected in (
            ("counts", driver.state("words")),
            ("parities", driver.state("parities")),
        ):
            assert set(reader.values[topic]) == set(range(1, max(expected.values()) + 1))
        if not may_repeat:
            assert len(reader.values["counts"]) == 18
            assert len(reader.values["parities"]) == 18


@pytest.mark.parametrize("end", ["crash", "close"])
@pytest.mark.parametrize(("first", "second"), pairs())
def test_without_a_drain_lineage_must_be_kept_by_both_or_neither(
    first: str, second: str, end: str
) -> None:
    """H15: what the two exact guarantees write is one lineage; `at_least_once` has none."""
    with TestDriver(words(first), partitions=2) as driver:
        fill(driver)
        getattr(driver, end)()
        if (first in EXACT) == (second in EXACT):
            driver.recover(words(second))
            fill(driver)
            counted(driver, 2, may_repeat=first == "at_least_once")
            return
        with pytest.raises(ProgramChangedError, match="kstash drain") as caught:
            driver.recover(words(second))
        assert caught.value.changes == (f"~ guarantee: was {first}, is {second}",)
        assert caught.value.refused == ()
        driver.crash()
        driver.recover(words(first))
        counted(driver, 1, may_repeat=first == "at_least_once")


@pytest.mark.parametrize("guarantee", RECOVERING)
def test_none_takes_nothing_over(guarantee: str) -> None:
    """Drained or not: it would begin with empty state beside inputs and frames of long ago."""
    with TestDriver(words(guarantee), partitions=2) as driver:
        fill(driver)
        driver.drain()
        with pytest.raises(ProgramChangedError, match="kstash reset") as caught:
            driver.recover(words("none"))
        assert caught.value.refused == (f"~ guarantee: was {guarantee}, is none",)
        driver.crash()
        driver.recover(words(guarantee))
        fill(driver)
        counted(driver, 2)


@pytest.mark.parametrize("guarantee", RECOVERING)
def test_nothing_is_taken_over_from_none(guarantee: str) -> None:
    """Its frames would pass as the beginning of a history that begins with the inputs again."""
    with TestDriver(words("none"), partitions=2) as driver:
        fill(driver)
        driver.close()
        with pytest.raises(
            TopicMismatchError, match=r"guarantee 'none'.*kstash reset shop"
        ) as caught:
            driver.recover(words(guarantee))
        assert caught.value.topic == "shop-words-repartition"
        driver.crash()
        for topic in driver.rig.topology.internal_topics:
            driver.kafka.delete_topic(topic)
        driver.recover(words(guarantee))
        fill(driver)
        counted(driver, 2)


def test_h57_late_frames_of_before_the_change_are_dropped() -> None:
    """H57: a worker that slept through a drain writes without a fence into the next guarantee."""
    with TestDriver(words("at_least_once")) as driver:
        driver.send("lines", "a b")
        late = [
            record
            for record in driver.kafka.read("shop-words-repartition", 0)
            if any(name == IDENTITY_HEADER for name, _ in record.headers() or ())
        ]
        assert late
        driver.drain()
        driver.recover(words("exactly_once"))
        for record in late:
            driver.kafka.append(
                "shop-words-repartition",
                record.value(),
                key=record.key(),
                headers=list(record.headers() or ()),
            )
        driver.send("lines", "a b")
        assert driver.state("words") == {"a": 2, "b": 2}

"""The applications of the storms that go by time, in memory: what their checkers work out is so."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator

from kstash.testing import TestDriver
from tests.chaos import time_checks, timed_app, watermark_app, window_checks
from tests.chaos.checkers import Output, Outputs, check_gathered, check_in_order
from tests.chaos.harness import place_of
from tests.chaos.window_checks import Click

PARTITIONS = 2
BEGIN_MS = 1_600_000_000_000


def outputs(driver: TestDriver, topic: str) -> Outputs:
    """All records of a topic."""
    found: Outputs = {partition: [] for partition in range(PARTITIONS)}
    for number, record in enumerate(driver.kafka.read(topic)):
        made = Output(record.partition(), number, record.key(), record.value(), ())
        found[record.partition()].append(made)
    return found


def feed(driver: TestDriver, clicks: Iterable[Click], *, pause_each: int) -> dict[int, list[Click]]:
    """Send clicks, with a pause now and then, and a crash; what each partition got."""
    fed: dict[int, list[Click]] = defaultdict(list)
    for index, (key, at, number) in enumerate(clicks):
        place = place_of(key.encode(), PARTITIONS)
        fed[place].append((key, at, number))
        driver.send("clicks", {"at": at, "n": number}, key=key, partition=place)
        if index % pause_each == pause_each - 1:
            driver.advance(3.0)
        elif index % 50 == 0:
            driver.advance(0.1)
        if index % 700 == 699:
            driver.crash()
            driver.recover()
    driver.advance(10.0)
    return fed


def test_all_that_goes_by_time() -> None:
    """Kinds that go by records are as worked out, and those by the clock as they may be."""
    choice = random.Random(1)
    clicks = window_checks.clicks_of(choice, BEGIN_MS, keys=40, jump_each=500)
    app = timed_app.build("timed", ["clicks"], "timed")
    with TestDriver(app, partitions=PARTITIONS) as driver:
        fed = feed(driver, (next(clicks) for _ in range(1_000)), pause_each=300)
        expected = {**window_checks.all_kinds(fed), **time_checks.all_timed(fed)}
        for kind, sent in expected.items():
            assert all(sent.values()), f"the input makes no {kind}"
            check_in_order(outputs(driver, f"timed-{kind}"), sent, kind)
        found = {kind: outputs(driver, f"timed-{kind}") for kind in ("quiet", "missed")}
        assert any(found["missed"].values())
        time_checks.check_closed_by_silence(
            found["quiet"], found["missed"], fed, 3_000, 1_000, what="quiet"
        )
        time_checks.check_intervals(outputs(driver, "timed-intervals"), fed, 2_000, 500)
        numbers: dict[str, list[int]] = defaultdict(list)
        for place in fed.values():
            for key, _, number in place:
                numbers[key].append(number)
        check_gathered(outputs(driver, "timed-gathered"), numbers)


def test_windows_in_a_chain_by_the_clock() -> None:
    """In watermark mode, with silences that close windows and make what comes after them late."""
    choice = random.Random(1)
    app = watermark_app.build("watermark", ["clicks"], "out")
    with TestDriver(app, partitions=PARTITIONS) as driver:

        def clicks() -> Iterator[Click]:
            for number in range(900):
                late_ms = choice.randrange(3_000 if number % 13 == 0 else 300)
                yield f"key-{choice.randrange(20)}", driver.clock.time_ms() - late_ms, number

        fed = feed(driver, clicks(), pause_each=400)
        kinds = ("firsts", "first-late", "seconds", "second-late")
        firsts, late, seconds, second_late = (outputs(driver, f"out-{kind}") for kind in kinds)
        assert any(late.values())
        assert not any(second_late.values())
        time_checks.check_closed_by_silence(firsts, late, fed, 1_000, 500, what="firsts")
        every = [click for place in fed.values() for click in place]
        time_checks.check_chained(firsts, seconds, every, 2_000, watermark_app.GROUPS)

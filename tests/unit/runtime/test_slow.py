"""Functions that are slow: a worker does little at once, and keeps membership and transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.runtime.pace import BATCH_S, Pace
from kstash.runtime.worker.turns import TURN_S
from kstash.runtime.worker.worker import Worker
from kstash.testing import ManualClock, TestDriver

POLL_INTERVAL_S = 300.0
TRANSACTION_TIMEOUT_S = 15.0
"""Of a real broker and client, by default."""


class Slow:
    """A function that takes time by the driver's clock: `seconds` by the number in a value.

    A value without a number has that of the call.
    """

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0
        self.clock: ManualClock | None = None

    def __call__(self, value: str) -> str:
        """Take the time."""
        assert self.clock is not None
        number = int(value[1:] or self.calls)
        self.clock.advance(self.seconds[number % len(self.seconds)])
        self.calls += 1
        return value


def counted(slow: Slow, **settings: Any) -> kstash.App:
    """Count what comes out of a slow function."""
    app = kstash.App("slow", **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.map_values(slow).count("seen").to("out", value=kstash.int_text)
    return app


def spread(slow: Slow, **settings: Any) -> kstash.App:
    """A quick stage makes many records of each, which a slow one reads in frames."""
    app = kstash.App("slow", **settings)
    words = app.stream("in", value=kstash.text).flat_map_values(str.split)
    words.key_by(lambda _: "k", key=kstash.text, value=kstash.text, name="edge").map_values(
        slow
    ).count("seen").to("out", value=kstash.int_text)
    return app


@pytest.fixture
def driving() -> Iterator[Callable[[kstash.App, Slow], TestDriver]]:
    """Makes drivers on a cluster with the time-outs of a real one."""
    drivers = []

    def make(app: kstash.App, slow: Slow, **options: object) -> TestDriver:
        driver = TestDriver(app, **options)  # type: ignore[arg-type] # passed on
        slow.clock = driver.clock
        driver.kafka.poll_interval_s = POLL_INTERVAL_S
        driver.kafka.coordinator.timeout_s = TRANSACTION_TIMEOUT_S
        drivers.append(driver)
        return driver

    yield make
    for driver in drivers:
        driver.close()


def backlog(driver: TestDriver, count: int, value: str = "", partition: int = 0) -> None:
    """Append records without letting the worker run: with a value, or `v0`, `v1`, and on."""
    for number in range(count):
        text = value or f"v{number}"
        driver.kafka.append("in", text.encode(), key=b"k", partition=partition)


def worker_of(driver: TestDriver) -> Worker:
    """The driver's worker."""
    return driver.rig.worker


def longest_step(driver: TestDriver, count: int) -> float:
    """Let the worker take turns until there are as many outputs; the longest one, in seconds."""
    longest = 0.0
    for _ in range(2_000):
        if len(driver.kafka.read("out")) == count:
            return longest
        before = driver.clock.monotonic()
        worker_of(driver).step(0)
        longest = max(longest, driver.clock.monotonic() - before)
        driver.clock.advance(0.001)
    raise AssertionError(f"{len(driver.kafka.read('out'))} outputs of {count}")


def values(driver: TestDriver) -> list[int]:
    """What a reader of committed records sees."""
    return [int(record.value() or b"") for record in driver.kafka.read("out")]


# -- the pace ------------------------------------------------------------------------------------


def test_a_pace_begins_with_one_record_and_doubles_while_batches_are_quick() -> None:
    """Nothing is known of a function at first; what is quick is soon at full size."""
    pace = Pace()
    sizes = []
    for _ in range(14):
        sizes.append(pace.size)
        pace.took(pace.size, 0.001)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2000, 2000, 2000]


def test_a_pace_follows_a_function_that_gets_slow() -> None:
    """One batch is too long, the next one fits."""
    pace = Pace()
    for _ in range(9):
        pace.took(pace.size, 0.001)
    pace.took(512, 512 * 0.01)
    assert pace.size == int(BATCH_S / 0.01)
    pace.took(1, 10.0)
    assert pace.size == 1


def test_batches_that_were_not_full_say_nothing_of_longer_ones() -> None:
    """A trickle of records does not raise the size."""
    pace = Pace()
    pace.took(1, 0.001)
    for _ in range(20):
        pace.took(1, 0.001)
    assert pace.size == 2


def test_the_longest_batch_fades() -> None:
    """After a single stop of the machine the worker is soon as it was."""
    pace = Pace()
    pace.lasted(8.0, 100.0)
    pace.lasted(0.2, 101.0)
    assert pace.longest_s(100.0) == 8.0
    assert pace.longest_s(160.0) == 4.0
    pace.lasted(5.0, 170.0)
    assert pace.longest_s(170.0) == 5.0


# -- turns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first", "at_least_once", "none"])
def test_a_turn_is_short_however_much_waits(
    driving: Callable[..., TestDriver], guarantee: str
) -> None:
    """0.04 s a record and 600 waiting: the worker looks up every 0.1 s, and outputs come out."""
    slow = Slow(0.04)
    driver = driving(counted(slow, guarantee=guarantee), slow)
    backlog(driver, 600)
    assert longest_step(driver, 600) <= TURN_S + 0.04
    assert values(driver) == list(range(1, 601))


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
@pytest.mark.parametrize("seconds", [0.12, 6.0, 14.0, 100.0])
def test_any_time_for_a_record_below_the_poll_interval_gets_done(
    driving: Callable[..., TestDriver], delivery: kstash.Delivery, seconds: float
) -> None:
    """H58: the group and its transactions live on, and nothing is done again."""
    slow = Slow(seconds)
    app = kstash.App("slow")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.map_values(slow).count("seen").to("out", value=kstash.int_text, delivery=delivery)
    driver = driving(app, slow)
    backlog(driver, 30)
    longest_step(driver, 30)
    assert values(driver) == list(range(1, 31))
    assert slow.calls == 30
    assert "fenced" not in driver.metrics.counts


def test_a_slow_record_among_quick_ones_gets_done(driving: Callable[..., TestDriver]) -> None:
    """Nobody knows which one it is: once a transaction is lost, then all are settled before it.

    What is known of the pace outlives the incarnation: else the next one would lose it again.
    """
    slow = Slow(*[0.0] * 7, 20.0)
    driver = driving(counted(slow), slow)
    backlog(driver, 64)
    longest_step(driver, 64)
    assert values(driver) == list(range(1, 65))
    assert driver.metrics.counts.get("recoveries", 0) <= 3


def test_a_replay_of_slow_records_is_short_turns_too(driving: Callable[..., TestDriver]) -> None:
    """A worker that replays is a member, and hears signals, as one that is live."""
    slow = Slow(0.04)
    driver = driving(counted(slow, checkpoint_interval_ms=3_600_000), slow)
    backlog(driver, 300)
    longest_step(driver, 300)
    driver.crash()
    driver.rig.start()
    assert longest_step(driver, 300) == 0.0
    longest = 0.0
    while not worker_of(driver).is_live:
        before = driver.clock.monotonic()
        worker_of(driver).step(0)
        longest = max(longest, driver.clock.monotonic() - before)
    assert slow.calls == 600
    assert longest <= TURN_S + 0.04
    assert values(driver) == list(range(1, 301))


def test_a_replay_that_is_longer_than_all_time_outs_ends(
    driving: Callable[..., TestDriver],
) -> None:
    """H58: records of 20 s, half of them not committed: replayed once, not again and again."""
    slow = Slow(20.0)
    driver = driving(counted(slow, checkpoint_interval_ms=3_600_000), slow, lineage_delay_s=0.5)
    backlog(driver, 20)
    longest_step(driver, 10)
    driver.crash()
    done = slow.calls
    driver.rig.start()
    longest_step(driver, 20)
    assert values(driver) == list(range(1, 21))
    assert slow.calls <= done + 20
    assert "fenced" not in driver.metrics.counts


def test_one_slow_group_holds_up_no_other(driving: Callable[..., TestDriver]) -> None:
    """Groups have turns one after the other, whoever has the most to do."""
    slow = Slow(0.09)
    driver = driving(counted(slow), slow, partitions=3)
    backlog(driver, 500)
    for _ in range(3):
        worker_of(driver).step(0)
    for partition in (1, 2):
        backlog(driver, 1, partition=partition)
    for _ in range(10):
        worker_of(driver).step(0)
        driver.clock.advance(0.1)
    done = [worker_of(driver).groups[group].tasks[0].records_in for group in range(3)]
    assert done[1:] == [1, 1]
    assert done[0] > 3
    slow.seconds = (0.0,)


def test_a_turn_is_short_however_many_groups_are_slow(
    driving: Callable[..., TestDriver],
) -> None:
    """It ends after 0.1 s, and the next one goes on with the groups that had none."""
    slow = Slow(0.04)
    driver = driving(counted(slow), slow, partitions=8)
    for partition in range(8):
        backlog(driver, 40, partition=partition)
    assert longest_step(driver, 320) <= TURN_S + 0.04
    assert slow.calls == 320


def test_a_frame_that_takes_long_keeps_the_place_in_the_group(
    driving: Callable[..., TestDriver],
) -> None:
    """A frame is one event, and nothing leaves within it; but the member is served."""
    slow = Slow(1.0)
    driver = driving(spread(slow), slow)
    backlog(driver, 1, value="w " * 450)
    longest = longest_step(driver, 450)
    assert longest > POLL_INTERVAL_S
    assert values(driver) == list(range(1, 451))
    assert driver.metrics.counts.get("recoveries") == 1
    assert slow.calls == 450


def test_frames_hold_few_enough_records(driving: Callable[..., TestDriver]) -> None:
    """Whatever comes out at once is cut into frames of 500: the reader's events are small."""
    slow = Slow(0.0)
    driver = driving(spread(slow), slow)
    backlog(driver, 1, value="w " * 20_000)
    driver.advance(1)
    frames = driver.kafka.read("slow-edge-repartition")
    assert len([frame for frame in frames if frame.value()]) == 40
    assert values(driver)[-1] == 20_000


def test_inputs_are_paused_while_much_waits(driving: Callable[..., TestDriver]) -> None:
    """What a slow task has not processed is left in Kafka, not gathered in memory."""
    slow = Slow(0.04)
    driver = driving(counted(slow), slow)
    backlog(driver, 12_000)
    most = 0
    for _ in range(400):
        worker_of(driver).step(0)
        task = worker_of(driver).groups[0].tasks[0]
        most = max(most, len(task.inputs[0].buffer))
    assert 3_000 < most <= 4_500
    slow.seconds = (0.0,)
    driver.advance(1)
    assert values(driver)[-1] == 12_000


def test_a_slow_function_is_named_once(driving: Callable[..., TestDriver]) -> None:
    """The warning has the operator with its line, and what a record takes."""
    slow = Slow(0.2)
    driver = driving(counted(slow), slow)
    with capture_logs() as logs:
        backlog(driver, 20)
        longest_step(driver, 20)
    warnings = [line for line in logs if line["event"] == "a function is slow"]
    assert len(warnings) == 1
    assert warnings[0]["operator"].startswith("map_values(Slow) at ")
    assert "test_slow.py" in warnings[0]["operator"]
    assert warnings[0]["seconds_a_record"] == 0.2
    assert warnings[0]["longest_allowed_s"] == 300


def test_quick_functions_are_not_named(driving: Callable[..., TestDriver]) -> None:
    """0.01 s is nothing to warn about, nor is a batch of many records."""
    slow = Slow(0.01)
    driver = driving(counted(slow), slow)
    with capture_logs() as logs:
        backlog(driver, 200)
        longest_step(driver, 200)
    assert "a function is slow" not in {line["event"] for line in logs}

"""Events of many outputs: the worker goes on between their parts, and a crash there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kstash
from kstash.core.record_codec import decode_record
from kstash.core.records import Checkpoint, Release
from kstash.core.wire import MARKER_HEADER, End, decode_marker
from kstash.runtime.task.task import Task
from kstash.testing import TestDriver
from tests.bursts import burst, known

STEPS_MAX = 1_000

RECORD_S = 0.0001
"""Seconds that a result takes by the driver's clock: a part takes 0.05."""


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """The operator of these tests has a step."""
    with known():
        yield


class Clock:
    """A function that takes a moment by the driver's clock."""

    driver: TestDriver | None = None

    def __call__(self, value: str) -> str:
        """Take it."""
        if self.driver is not None:
            self.driver.clock.advance(RECORD_S)
        return value


def bursting(clock: Clock, delivery: Any = "immediate", **settings: Any) -> kstash.App:
    """Bursts to a sink, and their number by the last digit after a repartition."""
    app = kstash.App("app", **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    out = burst(stream, "bursts", 500)[0].map_values(clock)
    out.to("out", value=kstash.text, delivery=delivery)
    digits = out.key_by(lambda value: value[-1], key=kstash.text, value=kstash.text)
    digits.count("digits").to("counts", value=kstash.int_text)
    return app


Driving = Callable[..., TestDriver]


@pytest.fixture
def driving() -> Iterator[Driving]:
    """Makes a driver whose functions take time."""
    drivers: list[TestDriver] = []

    def make(delivery: Any = "immediate", *, partitions: int = 1, **settings: Any) -> TestDriver:
        clock = Clock()
        driver = TestDriver(bursting(clock, delivery, **settings), partitions=partitions)
        clock.driver = driver
        drivers.append(driver)
        return driver

    yield make
    for driver in drivers:
        if driver.rig.is_running:
            driver.close()


def first_task(driver: TestDriver, group: int = 0) -> Task:
    """The one with the bursts."""
    return driver.rig.worker.groups[group].tasks[0]


def step_into(driver: TestDriver, parts: int = 1) -> None:
    """Step the worker until an event is under way, and that for some turns."""
    worker = driver.rig.worker
    for _ in range(STEPS_MAX):
        worker.step(0.0)
        group = worker.groups.get(0)
        if group is not None and group.batches.is_under_way:
            parts -= 1
        if not parts:
            return
    raise AssertionError("no event is under way")


def lineage(driver: TestDriver, kind: type) -> list[Any]:
    """Records of a kind in the lineage topic."""
    found = driver.kafka.read(driver.rig.topology.lineage_topic)
    records = [decode_record(r.key(), r.value()) for r in found if r.value() is not None]
    return [record for record in records if isinstance(record, kind)]


def values(driver: TestDriver) -> list[str]:
    """What readers of the sink have got."""
    return [record.value for record in driver.read("out")]


def expected(*numbers: int) -> list[str]:
    """What becomes of records of one key."""
    made, found = 0, []
    for record, number in enumerate(numbers):
        found += [f"x{number}/{record + 1}/{made + i}/{i}" for i in range(number)]
        made += number
    return found


@pytest.mark.parametrize("many", [5_000, pytest.param(100_000, marks=pytest.mark.prove)])
def test_the_loop_goes_on_between_the_parts_of_an_event(driving: Driving, many: int) -> None:
    """Another group's records are done meanwhile, and no turn takes longer than a fifth second."""
    driver = driving(partitions=2)
    driver.kafka.append("in", f"x{many}".encode(), key=b"k", partition=0)
    step_into(driver)
    turns: list[float] = []
    others = 0
    while first_task(driver).is_under_way:
        if len(turns) % 4 == 0:
            driver.kafka.append("in", b"x2", key=b"l", partition=1)
            others += 1
        before = driver.clock.monotonic()
        driver.rig.worker.step(0.0)
        turns.append(driver.clock.monotonic() - before)
    assert max(turns) < 0.2
    assert len(turns) >= many / 2_000
    assert first_task(driver, 1).records_in >= others - 2
    driver.advance(1.0)
    assert len(driver.read("out")) == many + 2 * others
    assert sum(driver.state("digits").values()) == many + 2 * others


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
@pytest.mark.parametrize("parts", [1, 7])
def test_a_kill_between_two_parts_changes_nothing(
    driving: Driving, delivery: str, parts: int
) -> None:
    """The event is made again as a whole; what was out is suppressed, or dropped by readers."""
    driver = driving(delivery)
    driver.send("in", "x3", key="k")
    driver.kafka.append("in", b"x5000", key=b"k")
    driver.kafka.append("in", b"x4", key=b"k")
    step_into(driver, parts)
    driver.crash()
    driver.rig.start()
    step_into(driver, 2)  # and once more, in the replay, where there was time for lineage
    assert first_task(driver).is_replaying or parts == 1
    driver.crash()
    driver.recover()
    driver.advance(1.0)
    assert values(driver) == expected(3, 5000, 4)
    assert driver.state("bursts") == {"k": [3, 5007]}
    assert sum(driver.state("digits").values()) == 5007


def test_nothing_is_settled_within_an_event(driving: Driving) -> None:
    """No checkpoint, no commit: they wait for its end, and hints do not."""
    driver = driving(checkpoint_interval_ms=1000, sink_commit_interval_ms=10)
    driver.send("in", "x1", key="k")
    driver.advance(3.0)
    before = len(lineage(driver, Checkpoint))
    commits = driver.metrics.counts["commits"]
    driver.kafka.append("in", b"x30000", key=b"k")
    step_into(driver)
    while first_task(driver).is_under_way:
        mine = [c for c in lineage(driver, Checkpoint) if c.task.stage == 0]
        assert all(c.position < first_task(driver).core.position for c in mine)
        assert driver.metrics.counts["commits"] <= commits + 1
        driver.rig.worker.step(0.0)
    driver.advance(3.0)
    assert len(lineage(driver, Checkpoint)) > before
    assert driver.metrics.counts["commits"] > commits
    assert values(driver) == expected(1, 30000)


def test_a_stop_finishes_the_event_that_is_under_way(driving: Driving) -> None:
    """Then it checkpoints and releases: the next owner replays nothing. What waits is left."""
    driver = driving()
    driver.kafka.append("in", b"x5000", key=b"k")
    step_into(driver)
    driver.kafka.append("in", b"x6", key=b"k")
    driver.close()
    (release,) = lineage(driver, Release)
    assert release.positions[0] == 1
    driver.recover()
    driver.advance(1.0)
    assert first_task(driver).replayed == 0
    assert values(driver) == expected(5000, 6)


def test_a_bounded_run_ends_after_the_last_part(driving: Driving) -> None:
    """END says where the outputs end, so none may come after it."""
    driver = driving()
    driver.close()
    driver.kafka.append("in", b"x5000", key=b"k")
    driver.rig.start(until="end")
    step_into(driver)
    topic = driver.rig.topology.internal_topics[0]
    while first_task(driver).is_under_way:
        headers = [dict(record.headers() or ()) for record in driver.kafka.read(topic)]
        markers = [marker for found in headers if (marker := found.get(MARKER_HEADER)) is not None]
        assert not any(isinstance(decode_marker(marker), End) for marker in markers)
        driver.rig.worker.step(0.0)
    driver.rig.run_until_done()
    driver.close()
    assert values(driver) == expected(5000)
    driver.recover()
    assert sum(driver.state("digits").values()) == 5000


def test_commits_come_in_between_where_every_batch_leaves_work(driving: Driving) -> None:
    """A task that always had an event under way would never be committed or checkpointed."""
    driver = driving(checkpoint_interval_ms=1000, sink_commit_interval_ms=100)
    for _ in range(200):
        driver.kafka.append("in", b"x501", key=b"k")  # a turn ends after 500
    task = first_task(driver)
    while task.records_in < 100:
        driver.rig.worker.step(0.0)
    assert task.has_waiting
    assert driver.metrics.counts["commits"] > 10
    assert driver.metrics.counts["checkpoints"] > 1


def test_tasks_that_leave_no_work_do_not_wait(driving: Driving) -> None:
    """While one task's event is under way and a commit is due, the group's others go on."""
    driver = driving()
    driver.kafka.append("in", b"x20000", key=b"k")
    step_into(driver, 8)
    first, second = driver.rig.worker.groups[0].tasks.values()
    assert first.is_under_way
    assert second.records_in > 1_000


def test_a_long_event_under_way_is_finished_first(driving: Driving) -> None:
    """Before a long batch all is committed (H58); nothing of an event that has begun can be."""
    driver = driving(partitions=2)
    for partition in range(2):
        driver.kafka.append("in", b"x3000", key=b"k", partition=partition)
    worker = driver.rig.worker
    tasks = [first_task(driver, number) for number in range(2)]
    while not all(task.is_under_way for task in tasks):
        worker.step(0.0)
    for task in tasks:
        task.inputs[0].pace.lasted(100.0, driver.clock.monotonic())
    driver.kafka.append("in", b"x3", key=b"k", partition=0)
    for _ in range(STEPS_MAX):
        worker.step(0.0)
        driver.clock.advance(0.01)
    assert [task.records_in for task in tasks] == [2, 1]


def test_an_input_is_not_done_before_its_event_is_over(driving: Driving) -> None:
    """The offsets that are committed say what was done."""
    driver = driving()
    driver.kafka.append("in", b"x3000", key=b"k")
    step_into(driver)
    task, group = first_task(driver), driver.rig.worker.groups[0]
    group.note_positions()
    assert task.inputs[0].next_offset == 0
    while task.is_under_way:
        driver.rig.worker.step(0.0)
    group.note_positions()
    assert task.inputs[0].next_offset == 1

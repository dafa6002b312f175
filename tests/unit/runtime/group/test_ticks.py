"""Ticks: what the wall clock sets off is logged and made again; it waits where it must."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import kstash
from kstash.core.determinants import Tick
from kstash.core.record_codec import decode_record
from kstash.core.records import Segment, Start
from kstash.runtime.task.task import Task
from kstash.testing import TestDriver
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.cluster import MemoryAdmin
from tests.alarms import alarms, known
from tests.bursts import burst
from tests.bursts import known as bursts_known

NOW = 1_600_000_000_000


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """The operators of these tests have steps."""
    with known(), bursts_known():
        yield


def alarming(*names: str, delivery: Any = "immediate", **settings: Any) -> kstash.App:
    """Alarms that go to a topic, and their number by key behind a repartition."""
    app = kstash.App("app", **settings)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    outs = [alarms(stream, name) for name in names or ("alarms",)]
    out = outs[0].merge(*outs[1:]) if names[1:] else outs[0]
    out.to("out", value=kstash.text, delivery=delivery)
    again = out.key_by(lambda value: value.split()[0], key=kstash.text, value=kstash.text)
    again.count("gone").to("counts", value=kstash.int_text)
    return app


def task_of(driver: TestDriver) -> Task:
    """The one with the alarms."""
    return driver.rig.worker.groups[0].tasks[0]


def lineage(driver: TestDriver, kind: type) -> list[Any]:
    """Records of a kind in the lineage topic."""
    found = driver.kafka.read(driver.rig.topology.lineage_topic)
    records = [decode_record(r.key(), r.value()) for r in found if r.value() is not None]
    return [record for record in records if isinstance(record, kind)]


def ticks(driver: TestDriver) -> list[Tick]:
    """Those that are in the lineage topic."""
    segments = lineage(driver, Segment)
    found = {entry for s in segments for entry in s.entries if isinstance(entry, Tick)}
    return sorted(found, key=lambda tick: tick.position)


def values(driver: TestDriver) -> list[str]:
    """What readers of the sink have got, without the date."""
    return [record.value.replace("16000000", "") for record in driver.read("out")]


def test_what_is_due_goes_off_at_its_time_and_in_order() -> None:
    """Not before; at a tick of the time that the clock says, a bounded number at each."""
    with TestDriver(alarming()) as driver:
        for after in (300, 100, 200, 100):
            driver.send("in", str(NOW + after), key=f"k{after}")
        driver.advance(0.05)
        assert values(driver) == []
        driver.advance(0.05)
        assert values(driver) == ["alarms 00100 at 00100"]
        driver.clock.advance(1.0)
        driver.rig.settle()
        assert values(driver) == ["alarms 00200 at 01100", "alarms 00300 at 01100"]
        assert driver.state("gone") == {"alarms": 3}
        assert [tick.now_ms - NOW for tick in ticks(driver)] == [100, 1100]
        (start,) = lineage(driver, Start)
        assert start.tasks[0].logs  # of one input, and still
        assert not start.tasks[1].logs


def test_the_loop_wakes_for_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for records no longer than until the next one."""
    with TestDriver(alarming()) as driver:
        driver.send("in", str(NOW + 30), key="k")
        worker = driver.rig.worker
        waits: list[float] = []

        def poll(_: object, timeout_s: float) -> list[Any]:
            waits.append(timeout_s)
            return []

        monkeypatch.setattr(type(worker.context.clients.consumer), "poll", poll)
        driver.clock.advance(0.01)
        worker.step(5.0)
        assert waits[-1] <= 0.02
        assert worker._turns.until_tick_s() == pytest.approx(0.02)


def test_operators_take_turns_by_time() -> None:
    """The order over all of them is that of the times, then that of the operators."""
    with TestDriver(alarming("a", "b")) as driver:
        for after in (10, 30, 20, 30):
            driver.send("in", str(NOW + after), key=f"k{after}")
        driver.clock.advance(1.0)
        driver.rig.settle()
        gone = [value.partition(" at")[0] for value in values(driver)]
        assert gone == [f"{name} 000{at}" for at in (10, 20, 30) for name in ("a", "b")]


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
@pytest.mark.parametrize("lineage_delay_s", [0.0, 10.0])
@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first"])
def test_a_replay_ticks_as_the_lineage_says(
    delivery: str, lineage_delay_s: float, guarantee: str
) -> None:
    """Whatever the clock says then: what is out says the same time."""
    app = alarming(delivery=delivery, guarantee=guarantee)
    with TestDriver(app, lineage_delay_s=lineage_delay_s) as driver:
        for after in (10, 20, 1_000, 2_000):
            driver.send("in", str(NOW + after), key=f"k{after}")
        driver.advance(0.05)
        seen = values(driver)
        driver.crash()
        driver.clock.advance(5.0)
        driver.recover()
        driver.advance(11.0)
        seen += values(driver)
        assert [value.partition(" at")[0][-5:] for value in seen] == [
            "00010", "00020", "01000", "02000",
        ]  # fmt: skip
        if not lineage_delay_s or (delivery, guarantee) == ("immediate", "exactly_once"):
            assert seen[:2] == ["alarms 00010 at 00050", "alarms 00020 at 00050"]
        assert driver.state("gone") == {"alarms": 4}


def test_ticks_wait_until_the_inputs_were_read_once() -> None:
    """What was due while the task was down comes after the records that came meanwhile."""
    with TestDriver(alarming()) as driver:
        driver.send("in", str(NOW + 1_000), key="k")
        driver.advance(0.5)
        driver.crash()
        driver.clock.advance(10.0)
        for _ in range(3):
            driver.kafka.append("in", str(NOW + 500).encode(), key=b"l")
        driver.rig.start()
        worker, seen = driver.rig.worker, []
        for _ in range(400):
            worker.step(0.0)
            driver.clock.advance(0.01)
            if 0 in worker.groups and worker.groups[0].tasks:
                seen.append((task_of(driver).records_in, len(ticks(driver))))
        first = next(records for records, count in seen if count)
        assert first == 4
        assert values(driver)[0].startswith("alarms 00500 at")


def test_nothing_ticks_where_the_ends_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say then that the task has caught up; the question is asked again."""
    answers: list[dict[Any, int] | None] = [{}, {}, None]
    with TestDriver(alarming()) as driver:
        driver.send("in", str(NOW + 10), key="k")
        driver.crash()
        ask = MemoryAdmin.ask_stable_ends

        def asked(self: MemoryAdmin, partitions: Any) -> Any:
            if answers and ("in", 0) in partitions and len(partitions) == 1:
                answer = answers.pop(0)
                return lambda: answer
            return ask(self, partitions)

        monkeypatch.setattr(MemoryAdmin, "ask_stable_ends", asked)
        driver.recover()
        driver.advance(2.5)
        assert values(driver) == []
        driver.advance(70.0)
        assert len(values(driver)) == 1


def test_nothing_ticks_at_the_ends_of_a_bounded_run() -> None:
    """An END fixes the history: what is due then is for the next run."""
    with TestDriver(alarming()) as driver:
        driver.send("in", str(NOW + 10), key="k")
        driver.close()
        driver.clock.advance(1.0)
        driver.rig.start(until="end")
        driver.rig.run_until_done()
        driver.close()
        assert values(driver) == []
        driver.recover()
        assert len(values(driver)) == 1


def test_nothing_ticks_while_a_group_is_given_up() -> None:
    """What falls due after the last checkpoint is for the next owner."""
    with TestDriver(alarming()) as driver:
        driver.send("in", str(NOW + 10), key="k")
        driver.rig.worker.groups[0].begin_drain()
        driver.clock.advance(1.0)
        driver.rig.settle()
        assert values(driver) == []
    driver.recover()
    assert len(values(driver)) == 1
    driver.close()


def test_logged_times_do_not_go_back_with_the_clock() -> None:
    """Neither over a crash that a checkpoint lies before, nor is what was left over late."""
    with TestDriver(alarming(checkpoint_interval_ms=1_000)) as driver:
        for after in (10, 20_000):
            driver.send("in", str(NOW + after), key=f"k{after}")
        driver.advance(5.0)
        driver.crash()
        driver.clock.step(-60.0)
        driver.recover()
        last = task_of(driver).program.ticks.last_ms()
        driver.send("in", str(NOW - 1), key="k0")
        driver.advance(0.5)
        assert driver.clock.time_ms() < last
        assert values(driver)[-1] == f"alarms {NOW - 1} at {last}".replace("16000000", "")


@pytest.mark.parametrize("guarantee", ["at_least_once", "none"])
def test_without_lineage_ticks_come_too(guarantee: str) -> None:
    """Nothing of them is logged; after a crash they are those of the new clock."""
    with TestDriver(alarming(guarantee=guarantee)) as driver:
        driver.send("in", str(NOW + 10), key="k")
        driver.advance(1.0)
        assert values(driver) == ["alarms 00010 at 00050"]
        assert ticks(driver) == []
        driver.crash()
        driver.recover()
        driver.send("in", str(NOW + 10), key="k")
        driver.advance(1.0)
        assert len(values(driver)) >= 1


def test_a_tick_may_leave_work() -> None:
    """As a record may: an operator after it makes its results in parts, and a crash is none."""
    app, clocks = kstash.App("app"), list[ManualClock]()

    def slow(value: str) -> str:
        for clock in clocks:
            clock.advance(0.0001)
        return value

    stream = alarms(app.stream("in", key=kstash.text, value=kstash.text), "alarms")
    bursts = burst(stream.map_values(lambda _: "x3000"), "bursts", 500)[0]
    bursts.map_values(slow).to("out", value=kstash.text)
    with TestDriver(app) as driver:
        driver.send("in", str(NOW + 10), key="k")
        driver.clock.advance(1.0)
        clocks.append(driver.clock)
        for _ in range(100):
            driver.rig.worker.step(0.0)
            if task_of(driver).is_under_way:
                break
        assert task_of(driver).is_under_way
        driver.crash()
        driver.recover()
        driver.advance(1.0)
        assert len(driver.read("out")) == 3_000

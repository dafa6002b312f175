"""When it is asked where inputs end, of windows that no record reaches, and what an answer says.

The questions are answered by the test, and the time is what it says: each rule by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import kstash
from kstash.runtime.group.quiet import GroupQuiet
from kstash.runtime.input_ends import QUESTION_S_MAX
from kstash.runtime.task.task import Task
from kstash.testing import TestDriver
from tests.unit.runtime.group.asking import AFTER_S, AskingScene
from tests.unit.runtime.timed_windows import at, seconds


class Scene(AskingScene):
    """The questions about the windows of a task."""

    def __init__(self, driver: TestDriver, task: Task) -> None:
        super().__init__(driver, task)
        self.asking = GroupQuiet(self.clients, self.batches, [task])

    @property
    def flushes(self) -> list[tuple[int, int]]:
        """Flushes that may come."""
        assert self.task.ticking is not None
        return list(self.task.ticking.flush_due)

    def ends_at(self, offset: int) -> None:
        """The answer to all questions."""
        self.admin.ends = {source.partition: offset for source in self.task.inputs.values()}


@contextmanager
def scene(**settings: Any) -> Iterator[Scene]:
    """Windows over a topic, with one record that was read."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    counts = stream.window(kstash.tumbling(seconds(10)), **settings)
    counts.count("counts").to("out")
    with TestDriver(app) as driver:
        at(driver, 0)
        yield Scene(driver, driver.rig.worker.groups[0].tasks[0])


@contextmanager
def idle() -> Iterator[Scene]:
    """Windows that close when nothing comes."""
    with scene(emit="final", idle_timeout=seconds(AFTER_S)) as made:
        yield made


def test_it_is_asked_once_when_nothing_came_for_long() -> None:
    """And an answer that all was read lets the windows close, once."""
    with idle() as it:
        assert it.tick(0, 4.9) == 0
        assert it.tick(5, 6, 7) == 1
        assert (it.flushes, it.woken.tasks) == ([], [])
        it.ends_at(1)
        it.tick(8)
        assert it.flushes == [(0, 1)]
        assert it.woken.tasks == [it.task]
        assert it.tick(9, 12) == 1
        assert len(it.flushes) == 1


def test_an_answer_that_there_is_more_puts_it_off() -> None:
    """It is asked again when the time has gone by anew, not at each turn."""
    with idle() as it:
        it.ends_at(2)
        assert it.tick(0, 5, 6) == 1
        assert it.tick(7, 10.9) == 1
        assert it.tick(11) == 2
        assert (it.flushes, it.woken.tasks) == ([], [])


def test_an_answer_without_an_input_says_nothing() -> None:
    """None of the inputs is known to have been read."""
    with idle() as it:
        it.admin.ends = {}
        assert it.tick(0, 5, 6, 11) == 2
        assert it.flushes == []


def test_an_answer_from_before_a_record_is_of_no_use() -> None:
    """Nothing says that the input ends there after the record, too."""
    with idle() as it:
        assert it.tick(0, 5) == 1
        it.ends_at(1)
        at(it.driver, 1)
        assert it.tick(6, 10.9) == 1
        assert it.tick(11) == 2
        assert it.flushes == []
        it.tick(12)
        assert it.flushes == [(0, 2)]


def test_a_question_that_is_not_answered_is_asked_again() -> None:
    """A client may have lost it; the time counts from the question."""
    with idle() as it:
        assert it.tick(0, 30, 30 + QUESTION_S_MAX) == 1
        assert it.tick(30.1 + QUESTION_S_MAX) == 2


def test_nobody_asks_while_records_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of these it is known that the input was not read to its end."""
    with idle() as it:
        it.tick(0)
        with monkeypatch.context() as patch:
            patch.setattr(it.task.inputs[0], "buffer", ["a record"])
            assert it.tick(5, 9) == 0
        assert it.tick(13.9) == 0
        assert it.tick(14) == 1


def test_nobody_asks_where_no_window_is_open() -> None:
    """A flush would do nothing."""
    with idle() as it:
        it.driver.advance(20.0)
        assert it.tick(0, 5, 50) == 0


def test_nobody_asks_for_results_at_intervals() -> None:
    """They leave by the clock, whatever comes: also where it was set back."""
    with scene(every=seconds(AFTER_S)) as it:
        assert it.task.ticks.flushes.wants(0)
        assert it.tick(0, 5, 50) == 0


def test_where_the_client_reads_on_is_how_far_was_read() -> None:
    """Markers of transactions are no records: the last one is not where a topic ends."""
    with idle() as it:
        position = it.driver.rig.worker.context.clients.consumer.position(("in", 0))
        it.task.inputs[0].next_offset = position - 1
        it.ends_at(position)
        it.tick(0, 5, 6)
        assert len(it.flushes) == 1


def test_topics_are_asked_for_to_where_they_are_read() -> None:
    """To open transactions; those of another application's immediate sink to their ends.

    All of them must have been read.
    """
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    other = app.stream("more", key=kstash.text, value=kstash.text, immediate_of="writer")
    windowed = stream.merge(other).window(
        kstash.tumbling(seconds(10)), emit="final", idle_timeout=seconds(AFTER_S)
    )
    windowed.count("counts").to("out")
    with TestDriver(app) as driver:
        at(driver, 0)
        it = Scene(driver, driver.rig.worker.groups[0].tasks[0])
        it.tick(0, 5)
        assert it.admin.asked == [(True, [("in", 0)]), (False, [("more", 0)])]
        it.admin.ends = {("in", 0): 1, ("more", 0): 1}
        it.tick(6, 11)
        assert it.flushes == []
        it.admin.ends = {("in", 0): 1, ("more", 0): 0}
        it.tick(12)
        assert len(it.flushes) == 1


def test_each_of_two_operators_has_its_own_time() -> None:
    """One is flushed as the number that it has in its stage, and the other is not."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    for number, after_s in enumerate((9, AFTER_S)):
        windowed = stream.window(
            kstash.tumbling(seconds(10)), emit="final", idle_timeout=seconds(after_s)
        )
        windowed.count(f"counts-{number}").to(f"out-{number}")
    with TestDriver(app) as driver:
        at(driver, 0)
        it = Scene(driver, driver.rig.worker.groups[0].tasks[0])
        it.ends_at(1)
        it.tick(0, 5, 6)
        assert it.flushes == [(1, 1)]
        it.tick(9, 10)
        assert it.flushes == [(1, 1), (0, 1)]

"""When it is asked where quiet inputs end, in watermark mode, and where inputs end at the start.

The questions are answered by the test, and the time is what it says: each rule by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

import kstash
from kstash.runtime.group.idle import GroupIdle
from kstash.runtime.group.ticks import ASK_AGAIN_S, ListedEnds
from kstash.runtime.input_ends import QUESTION_S_MAX
from kstash.runtime.task.task import Task
from kstash.testing import TestDriver
from tests.unit.runtime.group.asking import AFTER_S, AskingScene
from tests.unit.runtime.timed_windows import at, seconds


class Scene(AskingScene):
    """The questions about the inputs of a task."""

    def __init__(self, driver: TestDriver, task: Task) -> None:
        super().__init__(driver, task)
        self.asking = GroupIdle(
            self.clock,
            clients=self.clients,
            batches=self.batches,
            tasks=[task],
            idle_timeout_ms=AFTER_S * 1000,
        )

    @property
    def said(self) -> list[int]:
        """Inputs that may be said to be idle."""
        assert self.task.ticking is not None
        return list(self.task.ticking.idle_due)


def windows(*, immediate_of: str | None = None) -> kstash.App:
    """Two stages of windows in watermark mode, the first one over two topics."""
    app = kstash.App("app", event_time="watermark", idle_timeout_ms=AFTER_S * 1000)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    if immediate_of:
        other = app.stream("more", key=kstash.text, value=kstash.text, immediate_of=immediate_of)
        stream = stream.merge(other)
    first = stream.window(kstash.tumbling(seconds(10)), emit="final").count("first")
    by_count = first.key_by(str, key=kstash.text, value=kstash.int_text)
    by_count.window(kstash.tumbling(seconds(10)), emit="final").count("second").to("out")
    return app


@contextmanager
def scene(*, stage: int = 0, **settings: Any) -> Iterator[Scene]:
    """One record was read."""
    with TestDriver(windows(**settings)) as driver:
        at(driver, 0)
        yield Scene(driver, driver.rig.worker.groups[0].tasks[stage])


def test_it_is_asked_once_when_nothing_came_for_long() -> None:
    """And an answer that all was read lets the task say so."""
    with scene() as it:
        assert it.tick(0, 0.1, 5) == 0
        assert it.tick(5.2, 6, 7) == 1
        assert (it.said, it.woken.tasks) == ([], [])
        it.admin.ends = {("in", 0): 1}
        it.tick(7.5)
        assert (it.said, it.woken.tasks) == ([0], [it.task])
        assert it.tick(7.6, 9.9) == 1
        assert it.tick(10.1) == 2  # after half of the time


def test_an_answer_that_there_is_more_says_nothing() -> None:
    """It comes: its task is not idle."""
    with scene() as it:
        it.tick(0, 0.1, 6)
        it.admin.ends = {("in", 0): 2}
        it.tick(6.1)
        assert (it.said, it.woken.tasks) == ([], [])


def test_an_answer_from_before_a_record_is_of_no_use() -> None:
    """Whether the record was processed meanwhile, or waits."""
    with scene() as it:
        it.tick(0, 0.1, 6)
        at(it.driver, 1)
        it.admin.ends = {("in", 0): 1}
        it.tick(6.1)
        assert it.said == []
    with scene() as it:
        it.tick(0, 0.1, 6)
        it.admin.ends = {("in", 0): 1}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(it.task.inputs[0], "buffer", ["a record"])
            it.tick(6.1)
        assert it.said == []


def test_nobody_asks_while_records_wait() -> None:
    """The time begins when none does any more."""
    with scene() as it:
        it.tick(0, 0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(it.task.inputs[0], "buffer", ["a record"])
            assert it.tick(4, 6) == 0
        assert it.tick(6.1, 11) == 0
        assert it.tick(11.2) == 1


def test_a_question_that_is_not_answered_is_asked_again() -> None:
    """A client may have lost it."""
    with scene() as it:
        assert it.tick(0, 0.1, 6, 6 + QUESTION_S_MAX) == 1
        assert it.tick(6.1 + QUESTION_S_MAX) == 2


def test_where_the_client_reads_on_is_how_far_was_read() -> None:
    """Markers of transactions are no records: the last one is not where a topic ends."""
    with scene() as it:
        it.tick(0, 0.1)
        position = it.driver.rig.worker.context.clients.consumer.position(("in", 0))
        it.task.inputs[0].next_offset = position - 1
        it.tick(6)
        it.admin.ends = {("in", 0): position}
        it.tick(6.1)
        assert it.said == [0]


def test_topics_are_asked_for_to_where_they_are_read() -> None:
    """To open transactions; those of another application's immediate sink to their ends."""
    with scene(immediate_of="writer") as it:
        it.tick(0, 0.1, 6)
        assert it.admin.asked == [(True, [("in", 0)]), (False, [("more", 0)])]
        it.admin.ends = {("in", 0): 1, ("more", 0): 1}
        it.tick(6.1)
        assert it.said == [0]


def test_nobody_asks_for_topics_between_stages() -> None:
    """Their writers say how far time is."""
    with scene(stage=1) as it:
        assert it.tick(0, 0.1, 6, 60) == 0


def test_the_ends_at_the_start_are_asked_for_until_all_are_known() -> None:
    """Again after a pause, only for those that are missing, each to where it is read."""
    with scene(immediate_of="writer") as it:
        listed = ListedEnds(cast("Any", it.admin), [it.task])
        it.admin.ends = {("in", 0): 1}
        listed.tick(0)
        assert it.admin.asked == [(True, [("in", 0)]), (False, [("more", 0)])]
        assert not listed.is_done
        listed.tick(ASK_AGAIN_S - 0.1)
        assert len(it.admin.asked) == 2
        it.admin.ends = {("more", 0): 0}
        listed.tick(ASK_AGAIN_S)
        assert it.admin.asked[2:] == [(False, [("more", 0)])]
        assert listed.is_done

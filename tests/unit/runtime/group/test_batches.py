"""Which task of a group has its turn: what is still begun, and what is finished."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from kstash.runtime.context import Services
from kstash.runtime.group.batches import Batches
from kstash.testing.background import ManualBackground
from kstash.testing.clock import ManualClock
from kstash.testing.metrics import MemoryMetrics

STAGE = 0


class WorkingTask:
    """A task whose events take two parts each."""

    def __init__(self, events: int) -> None:
        self.stage = SimpleNamespace(index=STAGE, name="counts")
        self.may_leave_work, self.ticking, self.newest_timestamp = True, None, 0
        self.parts_left = 2 * events

    @property
    def is_under_way(self) -> bool:
        """Whether one of two parts is made."""
        return self.parts_left % 2 == 1

    @property
    def has_waiting(self) -> bool:
        """Whether anything is left."""
        return self.parts_left > 0

    def process(self) -> bool:
        """Make a part."""
        self.parts_left -= 1
        return self.parts_left >= 0


class Scene:
    """The batches of one task."""

    def __init__(self, events: int) -> None:
        self.task = WorkingTask(events)
        nothing: Any = SimpleNamespace(flush=lambda _: None, balance=lambda _: None, is_full=False)
        self.batches = Batches(
            Services(ManualClock(), MemoryMetrics(), ManualBackground(), lambda: b""),
            load=nothing,
            lineage=nothing,
            inputs=nothing,
            tasks=cast("Any", {STAGE: self.task}),
        )
        self.batches.wake(cast("Any", self.task))

    def work(self, *, waits_for_rest: bool = False) -> int:
        """Do all that may be done; returns the parts that are left."""
        self.batches.work(1e9, is_replay=False, waits_for_rest=waits_for_rest)
        return self.task.parts_left


def test_a_group_that_is_given_up_finishes_what_is_under_way() -> None:
    """And begins nothing more, though the records are there: they are for the next owner."""
    scene = Scene(events=3)
    scene.task.process()
    scene.batches.close()
    assert scene.work() == 4
    scene.batches.wake(cast("Any", scene.task))
    assert scene.work() == 4
    assert scene.work(waits_for_rest=True) == 4


def test_what_waits_for_rest_gets_it_between_two_events() -> None:
    """The others have their turn after it."""
    scene = Scene(events=3)
    scene.task.process()
    assert scene.work(waits_for_rest=True) == 4
    assert scene.work(waits_for_rest=True) == 4
    assert scene.work() <= 0

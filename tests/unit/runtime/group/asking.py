"""Stands in for whom a group asks where inputs end, and for whom it wakes then."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Protocol, cast

from kstash.ports.kafka import OffsetsAnswer, Partition
from kstash.runtime.context import Clients
from kstash.runtime.group.batches import Batches
from kstash.runtime.task.task import Task
from kstash.testing import TestDriver
from kstash.testing.clock import ManualClock

AFTER_S = 5
"""How long nothing may come."""


class Admin:
    """Answers when the test says so.

    Attributes:
        asked: inputs of each question, and whether it was for their last stable offsets.
        ends: of all inputs; None: there is no answer yet.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[bool, list[Partition]]] = []
        self.ends: dict[Partition, int] | None = None

    def ask_stable_ends(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Up to open transactions."""
        return self._ask(partitions, is_stable=True)

    def ask_end_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Up to the end."""
        return self._ask(partitions, is_stable=False)

    def _ask(self, partitions: Collection[Partition], *, is_stable: bool) -> OffsetsAnswer:
        self.asked.append((is_stable, list(partitions)))
        return lambda: (
            None if self.ends is None else {p: self.ends[p] for p in partitions if p in self.ends}
        )


class Woken:
    """Remembers who was woken."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def wake(self, task: Task) -> None:
        """A task has something to do."""
        self.tasks.append(task)


class Asking(Protocol):
    """Who asks."""

    def tick(self, now: float) -> None:
        """Ask, or see to the answers; at monotonic seconds."""


class AskingScene:
    """The questions about one task of a worker whose own turns do not come.

    Attributes:
        asking: who asks them.
    """

    asking: Asking

    def __init__(self, driver: TestDriver, task: Task) -> None:
        self.driver = driver
        self.task = task
        self.admin = Admin()
        self.woken = Woken()
        self.clock = ManualClock()

    @property
    def clients(self) -> Clients:
        """Those of the worker, with the one that answers when the test says so."""
        return replace(self.driver.rig.worker.context.clients, admin=cast("Any", self.admin))

    @property
    def batches(self) -> Batches:
        """By which tasks are woken."""
        return cast("Batches", self.woken)

    def tick(self, *times: float) -> int:
        """Let these moments be; returns how many questions there are."""
        for now in times:
            self.clock.advance(now - self.clock.monotonic())
            self.asking.tick(now)
        return len(self.admin.asked)

"""HINTs of one group: where a recovery may start to scan the outputs (protocol, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kstash.core.ids import OutPartition
from kstash.ports import Partition
from kstash.runtime.context import Context
from kstash.runtime.lineage import LineageWriter
from kstash.runtime.task import Task

HINT_INTERVAL_S = 1.0
"""A HINT at most once a second (protocol, section 4), if not for the outputs."""

HINT_RECORDS = 5_000
"""Outputs since the last hint that make the next one due at once: a successor scans as many, and
those since the last commit. Five microseconds each, the dearest part of a scan."""


class Hints:
    """Appends hints, and asks where the outputs end that tasks have nothing unstable in (H40)."""

    def __init__(self, context: Context, lineage: LineageWriter, tasks: Mapping[int, Task]) -> None:
        self._context = context
        self._lineage = lineage
        self._tasks = tasks
        self._due = self._ask_due = context.clock.monotonic()
        self._hinted_at = 0
        self._answer: Callable[[], dict[Partition, int] | None] | None = None
        self._asked: dict[Partition, list[tuple[Task, OutPartition, int]]] = {}

    def tick(self, now: float) -> None:
        """Take an answer, and hint when due."""
        self._take_answer()
        records = sum(task.records_out for task in self._tasks.values())
        if now < self._due and records < self._hinted_at + HINT_RECORDS:
            return
        self._due = now + HINT_INTERVAL_S
        self._hinted_at = records
        # Kafka rolls and compacts a segment only when something is written: once per `segment.ms`
        # of the lineage topic an idle group repeats its hints (H23).
        is_silent = now - self._lineage.appended_s >= self._context.lineage_times.segment_s
        for task in self._tasks.values():
            hint = task.core.take_hint(is_repeated=is_silent)
            if hint is not None:
                self._lineage.append(hint, _nothing)
        if self._answer is None and now >= self._ask_due:
            self._ask_due = now + HINT_INTERVAL_S
            self._ask()

    def _ask(self) -> None:
        asked = self._idle_outputs()
        if asked:
            self._asked = asked
            self._answer = self._context.admin.ask_end_offsets(list(asked))

    def _idle_outputs(self) -> dict[Partition, list[tuple[Task, OutPartition, int]]]:
        idle: dict[Partition, list[tuple[Task, OutPartition, int]]] = {}
        layout = self._context.layout
        for task in self._tasks.values():
            for internal in (True, False):
                for out in layout.output_partitions(task.stage, internal=internal):
                    if task.core.is_idle_at(out):
                        partition = layout.kafka_partition(task.stage, out)
                        sequence = task.core.next_sequence(out)
                        idle.setdefault(partition, []).append((task, out, sequence))
        return idle

    def _take_answer(self) -> None:
        ends = self._answer() if self._answer is not None else None
        if ends is None:
            return
        self._answer = None
        for partition, end in ends.items():
            for task, out, sequence in self._asked[partition]:
                # Void when an output went out after the question.
                if task.core.next_sequence(out) == sequence:
                    task.core.on_idle_end(out, end)


def _nothing() -> None:
    """A hint's acknowledgement changes nothing."""

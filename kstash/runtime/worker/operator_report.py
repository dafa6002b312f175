"""What is known of single operators: their stream time, windows, timers, and what they drop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kstash.operators.stream_time import time_of, windows_of
from kstash.ports.process import Metrics
from kstash.ports.state import StoreSize
from kstash.ports.status import OperatorStatus
from kstash.runtime.task.task import Task
from kstash.runtime.worker.board import Board
from kstash.runtime.worker.late_watch import LateWatch
from kstash.runtime.worker.time_report import TaskTimes
from kstash.topology.holding import holders, holding_text
from kstash.topology.model import Stage, Topology
from kstash.topology.nodes import Node

Drops = Mapping[tuple[str, str], int]
"""By (label of an operator, reason)."""


class OperatorReport:
    """Looks at the operators that go by time, and at those that drop records.

    Args:
        topology: of the application.
        metrics: where drops are counted.

    Attributes:
        operators: what they did, as of the last report; those of other workers are not in it.
        times: stream time in Unix seconds by the name of a task, and by the label of the operator.
        held: what holds time back before operators that go by it, in words, by stage and label.
    """

    def __init__(self, topology: Topology, metrics: Metrics) -> None:
        self.operators: tuple[OperatorStatus, ...] = ()
        self.times: dict[str, dict[str, float]] = {}
        self._metrics = metrics
        self._late = LateWatch(topology)
        self._nodes = [
            (stage, node) for stage in topology.stages for node in stage.nodes if _is_reported(node)
        ]
        self.held = {stage.name: _held_before(stage) for stage in topology.stages}
        # By the task object: a new incarnation counts from zero again.
        self._seen: dict[Task, Drops] = {}
        # Of all tasks that were here: a counter must not go back when one moves.
        self._dropped: dict[tuple[str, str, str], int] = {}
        for stage, node in self._nodes:
            for reason in node.drops:
                self._count(stage.name, node.label(), reason, 0)

    def look(
        self,
        now_ms: int,
        tasks: Sequence[Task],
        sizes: Mapping[str, StoreSize],
        held: Mapping[str, TaskTimes],
        board: Board,
    ) -> None:
        """Count what was dropped since the last report, and show the rest.

        Args:
            now_ms: Unix milliseconds.
            tasks: of this worker.
            sizes: of the stores, over all its tasks.
            held: how far time has come in each task, by its name.
            board: of the report.
        """
        self._count_all(tasks)
        self._late.look(tasks)
        operators: list[OperatorStatus] = []
        self.times = {}
        for stage, node in self._nodes:
            times = _times(stage, node, tasks)
            for task, at_ms in times.items():
                self.times.setdefault(task, {})[node.label()] = at_ms / 1000
                self._show_time(board, task, node.label(), now_ms, at_ms)
            if any(store.is_time for store in node.stores):
                for task in (task.name for task in tasks if task.stage is stage):
                    board.gauge("time_held_seconds", held[task].held_seconds, task=task)
            contents = _contents(stage, node, tasks, sizes)
            for what, entries in contents.items():
                board.gauge(HELD[what], entries, stage=stage.name, operator=node.label())
            if (late_s := _late_s(stage, node, tasks, now_ms)) is not None:
                board.gauge(
                    "wall_timers_late_seconds", late_s, stage=stage.name, operator=node.label()
                )
            operators.append(self._status(stage, node, times, contents, held))
        self.operators = tuple(operators)

    def _status(
        self,
        stage: Stage,
        node: Node,
        times: Mapping[str, int],
        contents: Mapping[str, int],
        held: Mapping[str, TaskTimes],
    ) -> OperatorStatus:
        # Where none has a time yet, what one of them waits for is what the others wait for.
        of_stage = [name for name, found in held.items() if found.stage == stage.name]
        slowest = min(times or of_stage, key=lambda task: times.get(task, 0), default=None)
        return OperatorStatus(
            operator=node.label(),
            stage=stage.name,
            stream_time=min(times.values()) / 1000 if times else None,
            newest_time=max(times.values()) / 1000 if times else None,
            windows=contents.get("windows"),
            timers=_sum(contents.get("timers"), contents.get("wall_timers")),
            dropped={
                reason: count
                for (name, operator, reason), count in self._dropped.items()
                if (name, operator) == (stage.name, node.label())
            },
            held_by=held[slowest].held_by if slowest is not None else None,
        )

    def _show_time(self, board: Board, task: str, label: str, now_ms: int, at_ms: int) -> None:
        board.gauge("operator_time_seconds", at_ms / 1000, task=task, operator=label)
        delay_s = (now_ms - at_ms) / 1000
        board.gauge("operator_time_delay_seconds", delay_s, task=task, operator=label)

    def count_last(self, tasks: Collection[Task]) -> None:
        """Count what tasks have dropped that are about to be closed: no other look sees them."""
        for task in tasks:
            self._seen[task] = self._count_task(task)

    def _count_all(self, tasks: Sequence[Task]) -> None:
        self._seen = {task: self._count_task(task) for task in tasks}

    def _count_task(self, task: Task) -> Drops:
        seen, dropped = self._seen.get(task, {}), task.program.dropped
        if dropped == seen:
            return seen
        for (label, reason), count in dropped.items():
            self._count(task.stage.name, label, reason, count - seen.get((label, reason), 0))
        return dict(dropped)

    def _count(self, stage: str, label: str, reason: str, more: int) -> None:
        key = stage, label, reason
        self._dropped[key] = self._dropped.get(key, 0) + more
        self._metrics.count(
            "operator_dropped_records", more, stage=stage, operator=label, reason=reason
        )


HELD = {
    "windows": "windows_open",
    "timers": "timers_pending",
    "wall_timers": "wall_timers_pending",
}
"""The gauge of what a store holds (`KeyedStore.holds`)."""


def _held_before(stage: Stage) -> dict[str, str]:
    """Of operators that go by time, what stands before them and holds it back."""
    before = holders(stage.nodes)
    timed = [node for node in stage.nodes if any(store.is_time for store in node.stores)]
    texts = {node.label(): holding_text(before[node.index]) for node in timed}
    return {label: text for label, text in texts.items() if text}


def _is_reported(node: Node) -> bool:
    return bool(node.drops) or any(store.is_time or store.holds for store in node.stores)


def _times(stage: Stage, node: Node, tasks: Sequence[Task]) -> dict[str, int]:
    """The stream time of an operator by task, where it has one."""
    times: dict[str, int] = {}
    for store in node.stores:
        for task in tasks:
            if store.is_time and task.stage is stage:
                at_ms = time_of(task.state, store.name)
                if at_ms is not None:
                    times[task.name] = at_ms
    return times


def _contents(
    stage: Stage, node: Node, tasks: Sequence[Task], sizes: Mapping[str, StoreSize]
) -> dict[str, int]:
    """How much an operator holds, by what it is."""
    held: dict[str, int] = {}
    for store in node.stores:
        states = [task.state for task in tasks if task.stage is stage]
        if store.counts_windows and states:
            held["windows"] = sum(windows_of(state, store.name) for state in states)
        if store.holds and (size := sizes.get(store.name)) is not None:
            held[store.holds] = held.get(store.holds, 0) + size.entries
    return held


def _late_s(stage: Stage, node: Node, tasks: Sequence[Task], now_ms: int) -> float | None:
    """For how long the first timer of the wall clock has been due; 0 where none is."""
    late_ms: list[int] = []
    for store in node.stores:
        if store.holds == "wall_timers":
            timers = [task.state.timers(store.name) for task in tasks if task.stage is stage]
            due = [at_ms for found in timers if (at_ms := found.next_due()) is not None]
            late_ms.append(max(0, *(now_ms - at_ms for at_ms in due), 0))
    return max(late_ms) / 1000 if late_ms else None


def _sum(*numbers: int | None) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None

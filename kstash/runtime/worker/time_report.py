"""How far the time of each task has come, and what holds it back: looked at once a second.

By default records alone move time: it stands still while nothing comes, while what came waits to be
processed, and while a task that merges waits for an input. In watermark mode it is that of the
input, or of the writer of one, that has come least far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kstash.core.watermark import BEFORE_ALL_MS
from kstash.ports.status import HeldBy
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase
from kstash.runtime.layout import Layout
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.task import Task
from kstash.runtime.task.watermark import Watermark
from kstash.runtime.worker.lags import NO_LAG, Lags
from kstash.runtime.worker.stillness import Stillness
from kstash.topology.holding import holders, holding_text
from kstash.topology.model import Stage

HELD_S_MIN = 1.0
"""What is shorter holds nothing back: records come in batches, and reports look this often."""

TEXTS = {
    "recovering": "its task is in recovery",
    "unread": "{input} has records that are not processed yet",
    "awaited": "{input} is read to its end and awaited for task_idle_ms: others have records",
    "silent": "nothing comes of {input}, whose records move time",
    "quiet": "nothing comes of {input}: after idle_timeout_ms its time goes by the clock",
    "idle": "{input} is idle: its time goes by the clock, idle_timeout_ms before it",
    "hold": 'nothing comes of {input}, which has idle="hold"',
    "input": "{input} has come least far",
    "writer": "{writer}, which writes {input}, has come least far",
    "unheard": "{writer}, which writes {input}, has said nothing yet",
}
"""What each reason means, in words."""


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """What is known of the time of one task.

    Attributes:
        stage: name of its stage.
        event_time: Unix seconds, as `TaskStatus` has it.
        held_seconds: how far the newest is after the task's time that its inputs, or their writers,
            have said, or that waits in one while another is awaited; 0 where nothing is.
        held_by: what holds it back; None: nothing does.
    """

    stage: str
    event_time: float | None = None
    held_seconds: float = 0.0
    held_by: HeldBy | None = None


class TimeReport:
    """Looks at the time of all tasks.

    Args:
        layout: where tasks are.
        idle_timeout_ms: see the setting.

    Attributes:
        by_task: as of the last look, by the name of the task.
    """

    def __init__(self, layout: Layout, idle_timeout_ms: int) -> None:
        self.by_task: dict[str, TaskTimes] = {}
        self._names = {stage.index: stage.name for stage in layout.topology.stages}
        # By stage and by internal topic that it writes, what holds back there what it says of time.
        self._holding = {stage.name: _holding(stage) for stage in layout.topology.stages}
        self._idle_timeout_s = idle_timeout_ms / 1000
        self._now = 0.0
        # Of what may hold time back.
        self._still = Stillness()
        # By task whose time has not begun: the least that any of its inputs had said.
        self._first_ms: dict[Task, int] = {}

    def look(self, now: float, groups: Mapping[int, TaskGroup], lags: Lags) -> None:
        """See what has moved since the last look.

        Args:
            now: monotonic seconds.
            groups: that are open.
            lags: of the inputs, as of now.
        """
        self._now = now
        self._still.begin_look(now)
        self.by_task = {
            task.name: self._of(task, lags, is_live=group.phase is not Phase.RECOVERING)
            for group in groups.values()
            for task in group.tasks.values()
        }
        tasks = {task for group in groups.values() for task in group.tasks.values()}
        self._first_ms = {task: ms for task, ms in self._first_ms.items() if task in tasks}

    def of_task(self, task: Task) -> TaskTimes:
        """As of the last look."""
        return self.by_task.get(task.name) or TaskTimes(task.stage.name)

    def _of(self, task: Task, lags: Lags, *, is_live: bool) -> TaskTimes:
        quiet_s = {
            index: self._still.look_at((task, index), source.records)
            for index, source in task.inputs.items()
        }
        watermark = task.watermark
        event_time = task.stream_time_ms / 1000 if task.stream_time_ms else None
        held_s = _waiting_s(task)
        if watermark is not None:
            event_time, held_s = _seconds(watermark.time.now_ms), self._ahead_s(task, watermark)
        if not is_live:
            seconds = self._still.look_at((task, "recovering"), 0)
            held_by: HeldBy | None = _held("recovering", seconds)
        elif watermark is not None:
            held_by = self._slowest(task, watermark, lags, quiet_s, is_held=held_s >= HELD_S_MIN)
        else:
            held_by = self._by_records(task, lags, quiet_s)
        return TaskTimes(task.stage.name, event_time, held_s, held_by)

    # -- records alone move time -----------------------------------------------------------------

    def _by_records(self, task: Task, lags: Lags, quiet_s: Mapping[int, float]) -> HeldBy | None:
        waits = task.merging.waits_s(self._now)
        if waits:
            index = max(waits, key=lambda each: waits[each])
            reason = "unread" if task.merging.will_bring(index) else "awaited"
            return _held(reason, waits[index], task.inputs[index])
        unread = self._unread(task, lags)
        if unread is not None:
            return unread
        index = min(quiet_s, key=lambda each: quiet_s[each])
        if quiet_s[index] < HELD_S_MIN or not _has_read_all(task.inputs[index], lags):
            return None
        return _held("silent", quiet_s[index], task.inputs[index])

    def _unread(self, task: Task, lags: Lags) -> HeldBy | None:
        found = {i: lags.by_partition.get(s.partition, NO_LAG) for i, s in task.inputs.items()}
        index = max(found, key=lambda each: found[each].seconds)
        if not found[index].records or found[index].seconds < HELD_S_MIN:
            return None
        return _held("unread", found[index].seconds, task.inputs[index])

    # -- watermark mode --------------------------------------------------------------------------

    def _slowest(
        self,
        task: Task,
        watermark: Watermark,
        lags: Lags,
        quiet_s: Mapping[int, float],
        *,
        is_held: bool,
    ) -> HeldBy | None:
        """The input that has come least far, or its writer, if it stands still or others do not."""
        index = watermark.time.slowest()
        source, time_ms, writer = task.inputs[index], watermark.time.times[index], None
        if source.time is not None:
            slowest, said_ms = source.time.slowest()
            # Of an input whose writers are all out, or whose records wait, it is its own time.
            if said_ms <= time_ms:
                writer, time_ms = f"{self._names[slowest.stage]}_{slowest.partition}", said_ms
        still_s = self._still.look_at((task, index, writer), time_ms)
        if still_s < HELD_S_MIN and not is_held:
            return None
        lag = lags.by_partition.get(source.partition, NO_LAG)
        if lag.records and lag.seconds >= HELD_S_MIN:
            reason = "unread"
        elif writer is not None:
            reason = "unheard" if _seconds(time_ms) is None else "writer"
        elif quiet_s[index] < HELD_S_MIN or not _has_read_all(source, lags):
            reason = "input"
        elif not task.stage.inputs[index].says_idle:
            reason = "input" if task.stage.inputs[index].internal else "hold"
        else:
            reason = "idle" if quiet_s[index] >= self._idle_timeout_s else "quiet"
        seconds = quiet_s[index] if reason in ("idle", "quiet", "hold") else still_s
        held = _held(reason, seconds, source, writer, time_ms)
        windows = self._holding.get((held.writer or "").rpartition("_")[0], {})
        if reason == "writer" and (text := windows.get(source.partition[0])):
            return replace(held, text=f"{held.text}: {text}")
        return held

    def _ahead_s(self, task: Task, watermark: Watermark) -> float:
        """How far the newest that was said is after the task's time."""
        newest_ms = max(
            *watermark.time.times.values(),
            *(s.time.newest_ms() for s in task.inputs.values() if s.time is not None),
            BEFORE_ALL_MS,
        )
        if _seconds(newest_ms) is None:
            return 0.0
        # Before anybody's first word time is before all times: what was said first stands for it.
        first_ms = self._first_ms.setdefault(task, newest_ms)
        if _seconds(watermark.time.now_ms) is not None:
            first_ms = watermark.time.now_ms
        return max(0, newest_ms - first_ms) / 1000


def _holding(stage: Stage) -> dict[str, str]:
    before = holders(stage.nodes)
    return {
        output.topic: holding_text(
            [*before.get(node.index, ()), *((node,) if node.held_ms else ())]
        )
        for node, output in zip(stage.exits, stage.outputs, strict=True)
    }


def _waiting_s(task: Task) -> float:
    """How far what waits in a task that merges is after what it took last; 0 where none waits."""
    return task.merging.ahead_ms() / 1000 if task.merging.is_waiting else 0.0


def _has_read_all(source: TaskInput, lags: Lags) -> bool:
    lag = lags.by_partition.get(source.partition)
    return lag is not None and not lag.records


def _seconds(time_ms: int) -> float | None:
    # What is held back, and what may be out of order, is taken off a time before all times, too.
    return time_ms / 1000 if time_ms > BEFORE_ALL_MS // 2 else None


def _held(
    reason: str,
    seconds: float,
    source: TaskInput | None = None,
    writer: str | None = None,
    time_ms: int = BEFORE_ALL_MS,
) -> HeldBy:
    place = None if source is None else "{}/{}".format(*source.partition)
    return HeldBy(
        reason=reason,
        text=TEXTS[reason].format(input=place, writer=writer),
        seconds=seconds,
        input=place,
        writer=writer,
        time=_seconds(time_ms),
    )

"""Where output partitions end, asked for once for all tasks of a worker (H40)."""

from __future__ import annotations

from kstash.core.ids import OutPartition
from kstash.core.task import TaskCore
from kstash.ports.kafka import Admin, OffsetsAnswer, Partition
from kstash.runtime.layout import Layout
from kstash.topology.model import Stage

ASK_INTERVAL_S = 1.0
"""A question at most once a second, whoever wants the answer."""


class IdleEnds:
    """Asks for the ends of all scanned output partitions of the application when a group wants it.

    An end that was listed some time ago is still a scan start for a task that is idle there now, so
    one answer does for all, if it was asked for since the task was opened: before, the partition
    may have been another one of this name, and the worker may not know yet (H64).

    Attributes:
        version: number of the newest answer; 0 before the first.
        total: sum of all ends in it.
    """

    def __init__(self, admin: Admin, layout: Layout) -> None:
        self.version = self.total = 0
        self._admin = admin
        self._outputs: dict[int, list[tuple[OutPartition, Partition]]] = {
            stage.index: [
                (out, layout.kafka_partition(stage, out))
                for is_internal in (True, False)
                for out in layout.output_partitions(stage, internal=is_internal)
                if stage.outputs[out[0]].kind.carries_lineage  # else nobody scans it
            ]
            for stage in layout.topology.stages
        }
        self._partitions = sorted({p for outs in self._outputs.values() for _, p in outs})
        self._ends: dict[Partition, int] = {}
        self._answer: OffsetsAnswer | None = None
        self._is_wanted = False
        self._ask_due = 0.0

    @property
    def coming(self) -> int:
        """Number of the first answer that is asked for from now on."""
        return self.version + (1 if self._answer is None else 2)

    def want(self) -> int:
        """Have the question asked soon; returns the number of the answer to it."""
        self._is_wanted = True
        return self.coming

    def tick(self, now: float) -> None:
        """Take an answer, or ask when due."""
        if self._answer is not None:
            ends = self._answer()
            if ends is not None:
                self._answer = None
                self._ends = ends
                self.version += 1
                self.total = sum(ends.values())
        elif self._is_wanted and now >= self._ask_due:
            self._is_wanted = False
            self._ask_due = now + ASK_INTERVAL_S
            self._answer = self._admin.ask_end_offsets(self._partitions)

    def give(self, core: TaskCore, stage: Stage) -> None:
        """Give a task the ends of the partitions that it may write to."""
        ends = self._ends
        for out, partition in self._outputs[stage.index]:
            if partition in ends:
                core.on_idle_end(out, ends[partition])

"""Faults that no rule mends: a replay that meets one is refused, and never goes on in silence."""

from __future__ import annotations

from collections import deque
from typing import Any

from kstash.core.determinants import Consumed, MergedBatch, end_of
from tests.simulation.checkers import Checkers
from tests.simulation.knobs import Mutations
from tests.simulation.online import OnlineCheckers
from tests.simulation.patching import Patch
from tests.simulation.programs import INTERNAL, Emission
from tests.simulation.sim_kafka import Record
from tests.simulation.sim_task import SimTask
from tests.simulation.truth import ViolationError


class Fault(Mutations):
    """Something that the complete rules must refuse.

    Attributes:
        met: how often it happened.
    """

    def __init__(self) -> None:
        self.met = 0


class Divergent(Fault):
    """A program that makes other records in some batches of a replay.

    They are for sinks, and such as are out already, so that nobody would see them. The simulator
    sees at once when a suppressed record is not the stored one. Production may take until the next
    position whose hashes it knows, so that is asked at the end of the replay.
    """

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        self._incarnations: dict[Any, Any] = {}
        self._unseen: dict[Any, str] = {}

        def suppressed(checkers: Any, topic: str, p: int, task: Any, *args: Any) -> None:
            try:
                on_suppressed(checkers, topic, p, task, *args)
            except ViolationError as violation:
                self._unseen[task, self._incarnations.get(task)] = str(violation)

        def at_end(checkers: Checkers, task: Any, incarnation: Any) -> None:
            check(checkers, task, incarnation)
            if (task, incarnation) in self._unseen:
                raise ViolationError("I9", self._unseen[task, incarnation])

        on_suppressed = patch.set(OnlineCheckers, "on_suppressed", suppressed)
        check = patch.set(Checkers, "check_start_of_live", at_end)

    def made_again(self, task: SimTask, emissions: list[Emission]) -> list[Emission]:
        """Other records for sinks, where they are committed."""
        self._incarnations[task.id] = task.incarnation
        if task.core.position > task.plan.committed or task.core.position % 3:
            return emissions
        outputs = task.stage.outputs
        made: list[Emission] = [
            (o, p, (key, value if outputs[o].kind == INTERNAL else value ^ 1))
            for o, p, (key, value) in emissions
        ]
        self.met += made != emissions
        return made


class ChangedInputs(Fault):
    """Before some replays the last record of a run, or of a merge's part, is gone from its input.

    Another one comes after it, so that there are as many as before.
    """

    def __init__(self, patch: Patch) -> None:
        super().__init__()
        # What was processed is not what is there: that is the fault.
        patch.set(Checkers, "_check_inputs", lambda *_: None)

    def begins(self, task: SimTask) -> None:
        """A replay begins."""
        if self.met:
            return
        for entry in task.plan.lineage:
            if isinstance(entry, Consumed) and entry.end_offset > 0:
                ends = {entry.input: entry.end_offset}
            elif isinstance(entry, MergedBatch):
                ends = {p.input: p.place.offset for p in entry.parts if not p.place.taken}
            else:
                continue
            for source, end in ends.items():
                if not task.stage.internal[source] and self._change(task, source, end):
                    return

    def _change(self, task: SimTask, source: int, end: int) -> bool:
        cluster = task.world.cluster
        log = cluster.log(task.stage.inputs[source], task.id.partition)
        if end - 1 < task.offsets[source] or end - 1 not in log.offsets:
            return False
        index = log.offsets.index(end - 1)
        gone = log.records.pop(index)
        del log.offsets[index]
        cluster.append(log, Record(None, gone.value))
        self.met += 1
        return True


class Holes(Fault):
    """Some replays of tasks with several inputs have a hole in their lineage."""

    def begins(self, task: SimTask) -> None:
        """A replay begins."""
        entries = list(task.replay._entries)
        if len(task.stage.inputs) < 2 or len(entries) < 3 or task.incarnation.offset % 2:
            return
        middle = entries[len(entries) // 2]
        if isinstance(middle, Consumed) and end_of(middle) <= task.plan.adopted:
            entries.remove(middle)
            task.replay._entries = deque(entries)
            self.met += 1

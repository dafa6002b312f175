"""What a group's START says, and whether this program may go on from the one before it.

Between the scans and the START (protocol, section 6 step 6); nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage import LineageView, release_covers
from kstash.core.manifest import Change, difference, made_anew, manifest_of
from kstash.core.plan import TaskPlan, TaskSpec
from kstash.core.records import Checkpoint, Start, TaskStart
from kstash.core.sink import CommittedPositions
from kstash.core.skips import Gap, Skip
from kstash.core.upgrade import (
    fresh_stores,
    had_sinks,
    is_changed,
    program_changed,
    replays_another_program,
)
from kstash.errors import CommittedPositionLostError, TopicMadeAnewError


def committed_position(
    spec: TaskSpec, base: Checkpoint | None, committed: CommittedPositions | None
) -> int:
    """Position up to which a task's sink outputs are committed; arguments: `check_committed`."""
    # A checkpoint was published only after all sink outputs up to it were committed, so it
    # stands in for a committed position that expired after a RELEASE (H33).
    least = base.position if base is not None else 0
    known = committed.positions if committed is not None else {}
    return max(known.get(spec.task.stage, 0), least)


@dataclass(frozen=True, slots=True)
class Takeover:
    """A group's history, and the program that takes it over.

    Attributes:
        view: of the lineage topic, to the own SEAL.
        chain: STARTs of the history, oldest first; empty at the first start.
        settings: of this program, as its START says them.
    """

    view: LineageView
    chain: list[Start]
    settings: Mapping[str, str]

    def known_offsets(self, stage: int) -> dict[int, int]:
        """First offsets of a stage's inputs: what the last START says, or a reset before it.

        Every START carries on what the one before it said, so that old ones may be tombstoned.
        """
        manifest = manifest_of(self.settings)
        shape = manifest.stage(stage) if manifest is not None else None
        offsets = {}
        if shape is not None and not self.chain:
            inputs = enumerate(topic for topic, _ in shape.inputs)
            first = self.view.first_offsets
            offsets = {index: first[topic] for index, topic in inputs if topic in first}
        if self.chain and stage in self.chain[-1].tasks:
            offsets.update(self.chain[-1].tasks[stage].initial_offsets)
        return offsets

    def missing_inputs(
        self, external_inputs: Mapping[int, Sequence[int]], specs: Sequence[TaskSpec]
    ) -> dict[int, list[int]]:
        """Inputs whose first offset nobody has said, by stage; `external_inputs` likewise."""
        missing: dict[int, list[int]] = {}
        for spec in specs:
            stage = spec.task.stage
            known = self.known_offsets(stage)
            unknown = [i for i in external_inputs.get(stage, ()) if i not in known]
            if unknown:
                missing[stage] = unknown
        return missing

    def check_committed(
        self, spec: TaskSpec, base: Checkpoint | None, committed: CommittedPositions | None
    ) -> None:
        """Refuse a base whose committed position is lost (H33).

        Without it replay could not know which sink outputs are out.

        Args:
            spec: of the task.
            base: what it is restored from.
            committed: positions of the sinks, read after their fence.

        Raises:
            CommittedPositionLostError: offsets of the group have expired.
        """
        task = spec.task
        if not spec.sink_outputs or base is None:
            return
        if committed is not None and task.stage in committed.positions:
            return
        if not had_sinks(self.chain, task, base.incarnation):
            return  # a sink that a changed program added: nothing of it was ever committed
        if not release_covers(self.view, base, self.chain):
            raise CommittedPositionLostError(
                f"task {task}: a checkpoint at position {base.position} exists, but its "
                "committed position is gone (offsets of an idle group expire)"
            )

    def check_program(
        self, plans: Mapping[TaskId, TaskPlan], drop_stores: Collection[str]
    ) -> dict[TaskId, TaskPlan]:
        """Refuse to go on from another program where that would give other results.

        New code must not replay old lineage (H15); a drained group has nothing to replay.

        Args:
            plans: of all tasks of the group.
            drop_stores: stores that a changed program may give up.

        Returns:
            The plans, with the stores that begin empty.

        Raises:
            TopicMadeAnewError, ProgramChangedError: nothing was changed.
        """
        if not self.chain:
            return dict(plans)
        before, now = self.chain[-1].settings, self.settings
        older, newer = manifest_of(before), manifest_of(now)
        changes: list[Change] = []
        if older is not None and newer is not None:
            if anew := made_anew(older, newer):
                raise TopicMadeAnewError(anew)
            changes = difference(older, newer)
        is_changed(
            self.chain[-1:],
            now,
            changes,
            drop_stores,
            is_drained=lambda _: all(self.is_drained(plan) for plan in plans.values()),
        )
        for plan in plans.values():
            made_by = replays_another_program(self.chain, now, plan)
            if made_by is not None:
                raise program_changed(made_by.settings, now, changes, drop_stores)
        if newer is None:
            return dict(plans)
        return {
            task: replace(plan, fresh_stores=fresh_stores(self.chain, newer, task, plan.base))
            for task, plan in plans.items()
        }

    def is_drained(self, plan: TaskPlan) -> bool:
        """Whether a task has nothing to replay: it was released where its base is, or is new."""
        if plan.task.stage not in self.chain[-1].tasks:
            return True  # a stage that is new
        return (
            plan.base is not None
            and plan.adopted == plan.position
            and release_covers(self.view, plan.base, self.chain)
        )

    def start(
        self,
        incarnation: Incarnation,
        plans: Mapping[TaskId, TaskPlan],
        initial_offsets: Mapping[int, Mapping[int, int]],
        *,
        skips: frozenset[Skip],
        gaps: frozenset[Gap],
    ) -> Start:
        """The START of an incarnation.

        Args:
            incarnation: the own one.
            plans: of all tasks of the group.
            initial_offsets: by stage and input, what `missing_inputs` asked for.
            skips: records that the settings have it skip (H17).
            gaps: offsets that hold no event, by the settings.
        """
        tasks = {}
        for plan in plans.values():
            stage = plan.task.stage
            offsets = {**initial_offsets.get(stage, {}), **self.known_offsets(stage)}
            tasks[stage] = TaskStart(plan.position, plan.adopted, offsets, plan.logs)
        parent = self.chain[-1].incarnation if self.chain else None
        # Once said, a skip is part of the history: every later START says it again (H17).
        skips = skips.union(*(start.skips for start in self.chain))
        gaps = gaps.union(*(start.gaps for start in self.chain))
        return Start(
            incarnation=incarnation,
            parent=parent,
            tasks=tasks,
            settings=dict(self.settings),
            skips=tuple(sorted(skips)),
            gaps=tuple(sorted(gaps)),
        )

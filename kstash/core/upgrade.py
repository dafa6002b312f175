"""Reads the lineage of an older program with the eyes of a newer one.

Records name inputs and outputs by their index in the stage, and a changed program may have given
them others: `adapted` rewrites START, CKPT and HINT by the topics' names. Determinants stay as
they are: a program never replays those of another one (protocol, H15).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.lineage import LineageView, owners_of
from kstash.core.manifest import (
    HASHING_SETTING,
    PROGRAM_SETTING,
    Change,
    Manifest,
    StageShape,
    manifest_of,
    refusals,
)
from kstash.core.plan import TaskPlan
from kstash.core.records import Checkpoint, Hint, Start, TaskStart
from kstash.core.watermark import EventTimes
from kstash.errors import ProgramChangedError

T = TypeVar("T")
P = TypeVar("P", bound=tuple[int, ...])

_NOT_COMPARED = (PROGRAM_SETTING, HASHING_SETTING)
"""One is compared in its parts; the other makes no difference to most programs."""


def signature(settings: Mapping[str, str]) -> dict[str, str]:
    """What of START's settings must be equal for one program to replay another's lineage."""
    return {name: text for name, text in settings.items() if name not in _NOT_COMPARED}


class Adapter:
    """Rewrites one group's view of the lineage for the program that recovers it.

    What a program in between did not have is forgotten: it begins anew when it comes back. So is
    what was said about a topic that was deleted and made anew.

    Args:
        view: folded to the own SEAL; changed in place.
        manifest: of the program that recovers.
    """

    def __init__(self, view: LineageView, manifest: Manifest) -> None:
        self._view = view
        self._manifest = manifest
        own = manifest.encode()
        texts = {
            inc: start.settings.get(PROGRAM_SETTING, own) for inc, start in view.starts.items()
        }
        known = {text: Manifest.decode(text) for text in {*texts.values(), own}}
        # Of each incarnation that started; one that says nothing of its program is of this one.
        self._manifests = {inc: known[text] for inc, text in sorted(texts.items())}
        # Whether any of them had another program: else there is nothing to rewrite.
        self._is_changed = any(text != own for text in texts.values())

    def adapt(self) -> None:
        """Rewrite what older programs left."""
        if not self._is_changed:
            return
        view = self._view
        view.starts = {inc: self._start(start) for inc, start in view.starts.items()}
        view.checkpoints = {
            task: [(offset, self._checkpoint(record)) for offset, record in records]
            for task, records in view.checkpoints.items()
        }
        view.hints = {task: self._hint(hint) for task, hint in view.hints.items()}

    def _start(self, start: Start) -> Start:
        tasks: dict[int, TaskStart] = {}
        skips, gaps = set(start.skips), set(start.gaps)
        for stage, task in start.tasks.items():
            inputs = self._moves(start.incarnation, stage, _input_topics)
            tasks[stage] = task
            if inputs is not None:
                tasks[stage] = replace(task, initial_offsets=_moved(task.initial_offsets, inputs))
                skips = _moved_places(skips, stage, inputs)
                gaps = _moved_places(gaps, stage, inputs)
        return replace(start, tasks=tasks, skips=tuple(sorted(skips)), gaps=tuple(sorted(gaps)))

    def _checkpoint(self, record: Checkpoint) -> Checkpoint:
        inputs = self._moves(record.incarnation, record.task.stage, _input_topics)
        outputs = self._moves(record.incarnation, record.task.stage, _output_topics)
        sequences = self._moves(record.incarnation, record.task.stage, _output_topics, anew=True)
        if inputs is None or outputs is None or sequences is None:
            return record
        return replace(
            record,
            input_offsets=_moved(record.input_offsets, inputs),
            readers=_moved(record.readers, inputs),
            places=_moved(record.places, inputs),
            # They go on in a topic that was made anew: its readers begin with what comes first.
            sequences=_moved_partitions(record.sequences, sequences),
            scan_from=_moved_partitions(record.scan_from, outputs),
            event_time=_moved_times(record.event_time, inputs, sequences),
        )

    def _hint(self, hint: Hint) -> Hint:
        outputs = self._moves(hint.incarnation, hint.task.stage, _output_topics)
        if outputs is None:
            return hint
        return replace(hint, offsets=_moved_partitions(hint.offsets, outputs))

    def _moves(
        self,
        incarnation: Incarnation,
        stage: int,
        topics: Callable[[StageShape], list[str]],
        *,
        anew: bool = False,
    ) -> dict[int, int] | None:
        """Index now, by index in that incarnation; None where nothing is known of it.

        `anew`: also of topics that were made anew.
        """
        now = self._manifest.stage(stage)
        then = self._manifests.get(incarnation)
        before = then.stage(stage) if then is not None else None
        if then is None or before is None or now is None:
            return None
        index = {topic: i for i, topic in enumerate(topics(now))}
        for later, manifest in self._manifests.items():
            shape = manifest.stage(stage)
            if later >= incarnation and shape is not None:
                index = {topic: i for topic, i in index.items() if topic in topics(shape)}
        ids = self._manifest.topic_ids
        return {
            i: index[topic]
            for i, topic in enumerate(topics(before))
            if topic in index
            and (anew or topic not in ids or ids[topic] == then.topic_ids.get(topic))
        }


def _moved_places(places: set[P], stage: int, inputs: Mapping[int, int]) -> set[P]:
    own = {place for place in places if place[0] == stage}
    moved = {(stage, inputs[place[1]], *place[2:]) for place in own if place[1] in inputs}
    return (places - own) | cast("set[P]", moved)


def _input_topics(stage: StageShape) -> list[str]:
    return [topic for topic, _ in stage.inputs]


def _output_topics(stage: StageShape) -> list[str]:
    return [topic for topic, _, _ in stage.outputs]


def _moved(table: Mapping[int, T], moved: Mapping[int, int]) -> dict[int, T]:
    return {moved[index]: value for index, value in table.items() if index in moved}


def _moved_partitions(
    table: Mapping[OutPartition, int], moved: Mapping[int, int]
) -> dict[OutPartition, int]:
    return {(moved[out], p): value for (out, p), value in table.items() if out in moved}


def _moved_times(
    times: EventTimes | None, inputs: Mapping[int, int], outputs: Mapping[int, int]
) -> EventTimes | None:
    if times is None:
        return None
    said = _moved_partitions(times.said, outputs)
    return replace(times, inputs=_moved(times.inputs, inputs), said=said)


def program_changed(
    before: Mapping[str, str],
    now: Mapping[str, str],
    changes: Collection[Change],
    dropped: Collection[str],
) -> ProgramChangedError:
    """The error that lists how the program of an earlier START and this one differ.

    Args:
        before: settings of the START.
        now: settings of this program.
        changes: between the two programs.
        dropped: stores that are given up.
    """
    was, is_now = signature(before), signature(now)
    return ProgramChangedError(
        {
            name: (was.get(name), is_now.get(name))
            for name in sorted({*was, *is_now})
            if was.get(name) != is_now.get(name)
        },
        [change.text for change in changes],
        refused=[change.text for change in refusals(changes, dropped)],
    )


def is_changed(
    starts: Collection[Start],
    settings: Mapping[str, str],
    changes: Collection[Change],
    dropped: Collection[str],
    *,
    is_drained: Callable[[Collection[Start]], bool],
) -> bool:
    """Whether a program is another one than those before it, from which it may then go on.

    A worker asks this twice: before it claims any group, of the last STARTs of all of them, and at
    its own START of a group, of the one before it.

    Args:
        starts: what ran last; the error shows the first of another program.
        settings: of this program.
        changes: between the two programs.
        dropped: stores that are given up.
        is_drained: whether nothing is left to replay where these STARTs, of other programs, ran.

    Raises:
        ProgramChangedError: it may not: new code must not replay old lineage (H15), and a drain
            alone does not make every change possible.
    """
    own = signature(settings)
    others = [start for start in starts if signature(start.settings) != own]
    if not others:
        return False
    if refusals(changes, dropped) or not is_drained(others):
        raise program_changed(others[0].settings, settings, changes, dropped)
    return True


def replays_another_program(
    chain: Sequence[Start], settings: Mapping[str, str], plan: TaskPlan
) -> Start | None:
    """The newest START of another program whose determinants a plan would replay."""
    own = signature(settings)
    return next((s for s in _replayed(chain, plan) if signature(s.settings) != own), None)


def replays_another_seed(
    chain: Sequence[Start], settings: Mapping[str, str], plan: TaskPlan
) -> bool:
    """Whether a plan would replay what was made under another hash seed."""
    own = settings.get(HASHING_SETTING)
    return any(start.settings.get(HASHING_SETTING) != own for start in _replayed(chain, plan))


def _replayed(chain: Sequence[Start], plan: TaskPlan) -> Iterator[Start]:
    """STARTs whose determinants a plan would replay, the newest first."""
    starts = {start.incarnation: start for start in chain}
    for owner in reversed(owners_of(list(chain), plan.task.stage)):
        if max(owner.start, plan.position) < min(owner.end, plan.adopted):
            yield starts[owner.incarnation]


def fresh_stores(
    chain: Sequence[Start], manifest: Manifest, task: TaskId, base: Checkpoint | None
) -> frozenset[str]:
    """Stores of a task that begin empty, whatever its base holds under their names.

    A store is taken over only where every program since the base kept it as it is.
    """
    stage = manifest.stage(task.stage)
    if stage is None or base is None:
        return frozenset()
    kept = set(stage.stores)
    for start in chain:
        if start.incarnation >= base.incarnation:
            older = manifest_of(start.settings)
            before = older.stage(task.stage) if older is not None else stage
            kept &= set(before.stores) if before is not None else set()
    return frozenset(name for name, kind in stage.stores if (name, kind) not in kept)


def had_sinks(chain: Sequence[Start], task: TaskId, incarnation: Incarnation) -> bool:
    """Whether a task wrote user topics in an incarnation, as far as its START shows."""
    for start in chain:
        if start.incarnation == incarnation:
            manifest = manifest_of(start.settings)
            stage = manifest.stage(task.stage) if manifest is not None else None
            return stage is None or any(not internal for _, internal, _ in stage.outputs)
    return True

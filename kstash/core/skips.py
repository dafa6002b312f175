"""Records that the settings pass over, and what of an input they leave (protocol, H17).

Invariants:

- a record that was processed is never passed over later: outputs that are out would lose their
  sequences to others (H50). So only a place after what the history has taken becomes a skip;
- once said in a START, a skip is said by every later one, so that each replay knows it;
- a skipped record is an event without effect; a place in a *gap* is no event at all: what lies
  there could not be read when it was declared, and does not count when it can be later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kstash.core.determinants import Attachment, Consumed, InputPlace, MergedBatch, end_of
from kstash.core.ids import TaskId
from kstash.core.plan import TaskPlan, TaskSpec
from kstash.core.records import Start
from kstash.errors import SkipTooLateError

Skip = tuple[int, ...]
"""(stage, input, offset) of a Kafka record, all of it, or (stage, input, offset, index) of one
logical record in a frame; `index` counts from 0."""

Gap = tuple[int, int, int, int]
"""(stage, input, first offset, last offset) that holds no event."""


@dataclass(frozen=True, slots=True)
class InputSkips:
    """What is passed over in one input.

    Attributes:
        whole: offsets of Kafka records that count and do nothing.
        parts: by offset of a frame, the indices of its records that do nothing.
        gaps: (first, last) offsets that are no events.
    """

    whole: frozenset[int] = frozenset()
    parts: Mapping[int, frozenset[int]] = field(default_factory=dict)
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(
        cls, skips: Iterable[Skip], gaps: Iterable[Gap], stage: int, input_index: int
    ) -> InputSkips:
        """Those of one input of a stage."""
        own = [skip for skip in skips if skip[:2] == (stage, input_index)]
        parts: dict[int, set[int]] = {}
        for skip in own:
            if len(skip) > 3:
                parts.setdefault(skip[2], set()).add(skip[3])
        return cls(
            frozenset(skip[2] for skip in own if len(skip) == 3),
            {offset: frozenset(indices) for offset, indices in parts.items()},
            tuple(sorted(gap[2:] for gap in gaps if gap[:2] == (stage, input_index))),
        )

    def __bool__(self) -> bool:
        return bool(self.whole or self.parts or self.gaps)

    def gap_end(self, offset: int) -> int | None:
        """The offset after the gap that an offset lies in; None when it lies in none."""
        return next((last + 1 for first, last in self.gaps if first <= offset <= last), None)


NO_SKIPS = InputSkips()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about an input of a task whose history is to be replayed.

    Attributes:
        stage: of the task.
        input: its index.
        start: offset of the first record that the replay reads.
        events: how many of the input's events the history takes from there on, 1 or more.
        offsets: places that must lie after those events.
    """

    stage: int
    input: int
    start: int
    events: int
    offsets: tuple[int, ...]


def is_said(place: Skip | Gap, said: Collection[Skip | Gap]) -> bool:
    """Whether a place is passed over already: by itself, or with the whole frame."""
    return place in said or (len(place) == 4 and place[:3] in said)


def events_of(plan: TaskPlan, input_index: int, *, implicit: bool) -> int:
    """How many events of an input a task replays."""
    found = covered = 0
    for entry in plan.lineage:
        if isinstance(entry, Attachment):
            continue
        covered += end_of(entry) - entry.position
        if isinstance(entry, Consumed) and entry.input == input_index:
            found += entry.count
        elif isinstance(entry, MergedBatch):
            found += sum(part.count for part in entry.parts if part.input == input_index)
    return found + (plan.adopted - plan.position - covered if implicit else 0)


def lowest_end(plan: TaskPlan, input_index: int, start: int, *, implicit: bool) -> int:
    """Offset that an input reaches at least, if it holds all that a task replays from `start` on.

    It reaches further where offsets hold no event.
    """
    end = start
    for entry in plan.lineage:
        if isinstance(entry, Consumed) and entry.input == input_index:
            end += entry.count
        elif isinstance(entry, MergedBatch):
            for part in entry.parts:
                if part.input == input_index:
                    end = max(end, part.place.offset + (part.place.taken > 0))
    return max(end, start + events_of(plan, input_index, implicit=True)) if implicit else end


def merged_end(plan: TaskPlan, input_index: int) -> InputPlace | None:
    """Where an input goes on after what a task replays, where a merge was the last to take of it.

    None where it was not, or where nothing is known.
    """
    found = plan.places.get(input_index)
    for entry in plan.lineage:
        if isinstance(entry, Consumed) and entry.input == input_index:
            found = None
        elif isinstance(entry, MergedBatch):
            found = next((p.place for p in entry.parts if p.input == input_index), found)
    return found


def _is_taken(place: Skip | Gap, end: InputPlace, *, is_gap: bool) -> bool:
    """Whether what a place names, or a part of it, lies before where a merge has come."""
    index = place[3] if len(place) == 4 and not is_gap else 0
    return (place[2], index) < (end.offset, end.taken)


def questions(
    skips: Collection[Skip],
    gaps: Collection[Gap],
    chain: Iterable[Start],
    start: Start,
    specs: Iterable[TaskSpec],
    plans: Mapping[TaskId, TaskPlan],
) -> tuple[Asked, ...]:
    """What the inputs must show of places that are in no START yet (H50).

    Args:
        skips: records to be passed over from now on.
        gaps: likewise, what cannot be read.
        chain: STARTs of the history.
        start: the START that will say it.
        specs: the group's tasks.
        plans: what each replays.

    Raises:
        SkipTooLateError: the base, or a merge of the history, has taken one of them.
    """
    said = {place for before in chain for place in (*before.skips, *before.gaps)}
    tasks = {spec.task.stage: spec for spec in specs}
    open_places: dict[tuple[int, int, int, int], list[int]] = {}
    known = [*((p, False) for p in skips), *((p, True) for p in gaps)]
    for place, is_gap in sorted(known):
        stage, index, offset = place[:3]
        if stage not in tasks or is_said(place, said):
            continue
        plan = plans[tasks[stage].task]
        initial = start.tasks[stage].initial_offsets.get(index, 0)
        first = plan.input_offsets.get(index, initial)
        events = events_of(plan, index, implicit=tasks[stage].implicit)
        end = merged_end(plan, index)
        if offset < first or (end is not None and _is_taken(place, end, is_gap=is_gap)):
            raise SkipTooLateError(stage, index, offset=offset)
        if events and end is None:
            open_places.setdefault((stage, index, first, events), []).append(offset)
    return tuple(Asked(*key, tuple(offsets)) for key, offsets in open_places.items())


def check_answers(asked: Sequence[Asked], answers: Sequence[Sequence[int]]) -> None:
    """Refuse places that the history has taken.

    Args:
        asked: the questions.
        answers: of each of the offsets asked for, how many events lie between the start and it.

    Raises:
        SkipTooLateError: with the first of them.
    """
    for question, before in zip(asked, answers, strict=True):
        for offset, count in zip(question.offsets, before, strict=True):
            if count < question.events:
                raise SkipTooLateError(question.stage, question.input, offset=offset)

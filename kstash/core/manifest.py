"""What a program is made of, as every START says it, so that another program can be compared.

Stages have *numbers*, which task ids, sequences and committed positions go by. A number belongs to
one stage for as long as the lineage topic lives: a changed program's stages take over the numbers
of those that they continue (`renumbered`), new ones get numbers that nobody ever had. Functions
are not in it: there is no stable name for what a lambda does.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kstash.core import fields
from kstash.core.guarantee import Guarantee
from kstash.errors import WireCorruptError

PROGRAM_SETTING = "program"
"""Name under which START's settings hold the encoded program."""

HASHING_SETTING = "hashing"
"""Likewise for the identification of a worker's hash seed; absent for the pinned one."""


@dataclass(frozen=True, slots=True)
class StageShape:
    """One stage.

    Attributes:
        number: see the module.
        name: names the folder of its state.
        inputs: (topic, whether it is internal), by input index.
        outputs: (topic, whether it is internal, delivery), by output index.
        stores: (name, what it holds), such as `("words", "count str -> int")`.
        operators: labels, in the order of declaration.
    """

    number: int
    name: str
    inputs: tuple[tuple[str, bool], ...]
    outputs: tuple[tuple[str, bool, str], ...]
    stores: tuple[tuple[str, str], ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All stages, and what else a replay relies on.

    Attributes:
        stages: in the order of the flow.
        next_number: above every stage number ever given.
        guarantee: the setting.
        partitions: partition count of every topic, internal ones too.
        topic_ids: ids that the cluster gave the topics; those that are not known are left out.
        retired: (stage number, topic) of immediate sinks that the stage wrote once and writes no
            more, or writes transactionally.
    """

    stages: tuple[StageShape, ...]
    next_number: int
    guarantee: str = Guarantee.EXACTLY_ONCE.value
    partitions: Mapping[str, int] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    retired: tuple[tuple[int, str], ...] = ()

    def stage(self, number: int) -> StageShape | None:
        """The stage of a number."""
        return next((stage for stage in self.stages if stage.number == number), None)

    def encode(self) -> str:
        """As compact JSON; equal programs give equal text."""
        data = {
            "stages": [
                {
                    "number": stage.number,
                    "name": stage.name,
                    "inputs": stage.inputs,
                    "outputs": stage.outputs,
                    "stores": stage.stores,
                    "operators": stage.operators,
                }
                for stage in self.stages
            ],
            "next_number": self.next_number,
            "guarantee": self.guarantee,
            "topics": [
                [topic, count, self.topic_ids.get(topic, "")]
                for topic, count in sorted(self.partitions.items())
            ],
            "retired": self.retired,
        }
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Manifest:
        """The inverse of `encode`.

        Raises:
            WireCorruptError: it is none.
        """
        try:
            data: Any = json.loads(text)
            return cls(
                stages=tuple(_stage(entry) for entry in data["stages"]),
                next_number=fields.number(data["next_number"]),
                guarantee=fields.text(data["guarantee"]),
                partitions={
                    fields.text(topic): fields.number(count) for topic, count, _ in data["topics"]
                },
                topic_ids={
                    fields.text(topic): fields.text(id_) for topic, _, id_ in data["topics"] if id_
                },
                retired=tuple(
                    (fields.number(number), fields.text(topic)) for number, topic in data["retired"]
                ),
            )
        except WireCorruptError as error:
            error.detail = f"malformed program description: {error.detail}"
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WireCorruptError(f"malformed program description: {error!r}") from error


def _stage(data: Any) -> StageShape:
    return StageShape(
        number=fields.number(data["number"]),
        name=fields.text(data["name"]),
        inputs=tuple(
            (fields.text(topic), fields.flag(internal)) for topic, internal in data["inputs"]
        ),
        outputs=tuple(
            (fields.text(t), fields.flag(internal), fields.text(d))
            for t, internal, d in data["outputs"]
        ),
        stores=tuple((fields.text(name), fields.text(kind)) for name, kind in data["stores"]),
        operators=tuple(fields.text(label) for label in data["operators"]),
    )


def manifest_of(settings: Mapping[str, str]) -> Manifest | None:
    """The manifest in START's settings; None where they have none.

    Raises:
        WireCorruptError: it does not decode.
    """
    text = settings.get(PROGRAM_SETTING)
    return None if text is None else Manifest.decode(text)


# --- stages that continue others ----------------------------------------------------------------


def renumbered(old: Manifest, new: Manifest) -> Manifest:
    """`new` with the numbers and names of the stages of `old` that its stages continue.

    A stage continues the one that read its external inputs, else the one that kept its stores,
    else the one that read its internal topic. Names go along, since folders are called after them.
    """
    left = {stage.number: stage for stage in old.stages}
    continued: dict[int, StageShape] = {}
    for trait in (_external, _stores, _internal):
        for index, stage in enumerate(new.stages):
            if index in continued:
                continue
            best = max(left.values(), key=lambda o: len(trait(o) & trait(stage)), default=None)
            if best is not None and trait(best) & trait(stage):
                continued[index] = left.pop(best.number)
    next_number = max(old.next_number, 1 + max((s.number for s in old.stages), default=-1))
    taken = {stage.name for stage in continued.values()}
    stages = []
    for index, stage in enumerate(new.stages):
        before = continued.get(index)
        if before is not None:
            stages.append(replace(stage, number=before.number, name=before.name))
            continue
        name, copy = stage.name, 1
        while name in taken:
            copy += 1
            name = f"{stage.name}-{copy}"
        taken.add(name)
        stages.append(replace(stage, number=next_number, name=name))
        next_number += 1
    gone = _sinks(old.stages) - _sinks(stages)
    retired = tuple(sorted({*old.retired, *gone}))
    return replace(new, stages=tuple(stages), next_number=next_number, retired=retired)


def _sinks(stages: Iterable[StageShape]) -> set[tuple[int, str]]:
    # Records of transactional sinks have no sequences that a reader could know.
    return {
        (stage.number, topic)
        for stage in stages
        for topic, is_internal, delivery in stage.outputs
        if not is_internal and delivery == "immediate"
    }


def _external(stage: StageShape) -> frozenset[str]:
    return frozenset(topic for topic, internal in stage.inputs if not internal)


def _internal(stage: StageShape) -> frozenset[str]:
    return frozenset(topic for topic, internal in stage.inputs if internal)


def _stores(stage: StageShape) -> frozenset[str]:
    return frozenset(name for name, _ in stage.stores)


# --- differences --------------------------------------------------------------------------------


EMPTY_AFTER_DRAIN = "unsent"
"""First word of what stores hold that each drain empties: nothing is lost where they go."""

QUEUE_SUFFIX = ".queue"
"""After the name of a store: of the one beside it, which has its order, and goes with it."""


class Needs(enum.Enum):
    """What a change needs before the new program may go on from the old one's state."""

    DRAIN = "drain"
    DROP_STORE = "drop store"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two programs.

    Attributes:
        text: for people, beginning with `+`, `-` or `~`.
        needs: what makes it possible.
        store: the store concerned, when it `needs` to be dropped.
    """

    text: str
    needs: Needs = Needs.DRAIN
    store: str | None = None


def difference(old: Manifest, new: Manifest) -> list[Change]:
    """Every change from `old` to `new`, stage by stage; `new` has its numbers from `renumbered`."""
    changes: list[Change] = []
    stages = {stage.number: stage for stage in old.stages}
    reader = {topic: s.number for s in old.stages for topic in _external(s)}
    for stage in new.stages:
        before = stages.pop(stage.number, None)
        if before is None:
            changes.append(Change(f"+ stage {stage.name}: {', '.join(stage.operators)}"))
        else:
            changes.extend(_stage_changes(before, stage))
        for topic in sorted(_external(stage)):
            if reader.get(topic, stage.number) != stage.number:
                text = (
                    f"~ input {topic} moves to stage {stage.name}, whose state and offsets differ"
                )
                changes.append(Change(text, Needs.RESET))
    for gone in stages.values():
        changes.append(Change(f"- stage {gone.name}: {', '.join(gone.operators)}"))
        changes.extend(_dropped(gone, name) for name, _ in gone.stores)
    for _, topic in sorted(_sinks(new.stages) & set(old.retired)):
        # Their readers would take the new sequences for old ones.
        text = f"~ output {topic} comes back: its readers would drop what is new"
        changes.append(Change(text, Needs.RESET))
    changes.extend(_topic_changes(old, new))
    if old.guarantee != new.guarantee:
        # Nothing is taken over by who keeps nothing (H57).
        needs = Needs.RESET if Guarantee.NONE in (old.guarantee, new.guarantee) else Needs.DRAIN
        changes.append(Change(f"~ guarantee: was {old.guarantee}, is {new.guarantee}", needs))
    return changes


def _dropped(stage: StageShape, name: str) -> Change:
    kind = dict(stage.stores).get(name.removesuffix(QUEUE_SUFFIX), "")
    is_empty = kind.partition(" ")[0] == EMPTY_AFTER_DRAIN
    needs = Needs.DRAIN if is_empty else Needs.DROP_STORE
    return Change(f"- store {name} of stage {stage.name}", needs, None if is_empty else name)


def _stage_changes(old: StageShape, new: StageShape) -> Iterator[Change]:
    where = f"of stage {new.name}"
    kinds, now = dict(old.stores), dict(new.stores)
    for name in sorted({*kinds, *now}):
        if name not in now:
            yield _dropped(old, name)
        elif name not in kinds:
            yield Change(f"+ store {name} {where}: {now[name]}")
        elif kinds[name] != now[name]:
            text = f"~ store {name} {where}: was {kinds[name]}, is {now[name]}"
            yield Change(text, Needs.DROP_STORE, name)
    yield from _listed("operator", where, old.operators, new.operators)
    yield from _listed("input", where, [t for t, _ in old.inputs], [t for t, _ in new.inputs])
    yield from _listed("output", where, [o[0] for o in old.outputs], [o[0] for o in new.outputs])
    delivery = {topic: how for topic, _, how in old.outputs}
    for topic, _, how in new.outputs:
        if delivery.get(topic, how) != how:
            yield Change(f"~ delivery to {topic}: was {delivery[topic]}, is {how}")


def _listed(what: str, where: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    before, now = Counter(old), Counter(new)
    for name in (before - now).elements():
        yield Change(f"- {what} {name} {where}")
    for name in (now - before).elements():
        yield Change(f"+ {what} {name} {where}")
    if before == now and list(old) != list(new):
        yield Change(f"~ order of the {what}s {where}")


def _topic_changes(old: Manifest, new: Manifest) -> Iterator[Change]:
    written = {
        topic for stage in new.stages for topic, internal, _ in stage.outputs if not internal
    }
    for topic, count in sorted(new.partitions.items()):
        before = old.partitions.get(topic, count)
        if before != count:
            # Where a key's state is depends on the inputs' counts (H16); a sink's do not matter.
            needs = Needs.DRAIN if topic in written else Needs.RESET
            yield Change(f"~ partitions of {topic}: were {before}, are {count}", needs)


def made_anew(old: Manifest, new: Manifest) -> list[str]:
    """Topics read by both programs that were deleted and made anew in between.

    Offsets in them mean nothing any more.
    """
    read = {topic for stage in new.stages for topic, _ in stage.inputs}
    return sorted(
        topic
        for topic, id_ in old.topic_ids.items()
        if topic in read and new.topic_ids.get(topic, id_) != id_
    )


def refusals(changes: Collection[Change], dropped: Collection[str]) -> list[Change]:
    """Changes that a drain alone does not make possible; `dropped`: stores given up."""
    return [
        change
        for change in changes
        if change.needs is Needs.RESET
        or (change.needs is Needs.DROP_STORE and change.store not in dropped)
    ]

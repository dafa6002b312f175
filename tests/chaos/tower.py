"""The tower of rolling hashes: its shape, what is fed to it, and what must come of it.

Nothing here asks kstash or the application: which key a value falls to, and what a stage gets
of the one below, is computed anew from the description in `tower_app`. Outputs and state must
follow from the inputs alone, along the order that the outputs themselves show.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import uuid4

from tests.chaos.checkers import Output, Outputs, by_key, check_chains
from tests.chaos.harness import Chaos, Record, place_of, values_by_key

KEYS = (24, 7, 3)
"""Keys of each stage, the lowest first; a key falls to its remainder in the stage above."""

SESSION_TIMEOUT_MS = 6_000
MODULE = "tests.chaos.tower_app"

History = Mapping[str, Sequence[str]]
"""The values of each key, in order."""

Checking = Callable[[str, Callable[[], None]], object]
"""Runs a check, which raises `AssertionError` when it finds something, under a name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a seed makes of the application and its workers.

    Attributes:
        stages: 2 or 3.
        has_extras: whether the upper stages merge a topic of their own.
        partition_count: of every topic.
        header_bytes_max: the cap of lineage headers; None: the default.
        ack_delay_ms: how much later than its outputs lineage is written; 0 to 10,000.
        worker_count: workers that stay.
        is_static: whether they have names in the group.
        checkpoint_interval_ms: between two checkpoints of a task.
        rate: inputs a second, over all topics.
    """

    stages: int
    has_extras: bool
    partition_count: int
    header_bytes_max: int | None
    ack_delay_ms: int
    worker_count: int
    is_static: bool
    checkpoint_interval_ms: int
    rate: int

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def draw_shape(choice: random.Random) -> Shape:
    """Any shape; small caps and late lineage more often than not, since most bugs live there."""
    worker_count = choice.choice((1, 2, 2, 3))
    return Shape(
        stages=choice.choice((2, 3)),
        has_extras=choice.random() < 0.6,
        # One more than workers: a guest gets something, too.
        partition_count=choice.randint(worker_count + 1, 4),
        header_bytes_max=choice.choice((256, 256, 4096, None)),
        ack_delay_ms=choice.choice((0, 300, 300, 1_000, 3_000)),
        worker_count=worker_count,
        is_static=choice.random() < 0.5,
        checkpoint_interval_ms=choice.choice((500, 1_000, 3_000, 30_000)),
        rate=choice.choice((60, 240, 500)),
    )


@dataclass(slots=True)
class Views:
    """What readers found in the two sinks of one stage.

    Attributes:
        committed: of the immediate sink, by any consumer with transactions.
        accepted: of the same one, by a consumer that sees everything and applies the reader rule.
        plain: of the transactional sink, by any consumer with transactions.
    """

    committed: Outputs
    accepted: Outputs
    plain: Outputs


class Tower:
    """Topics of one round, used by no other; what is fed to them and what must come of it.

    Args:
        chaos: the run; gives the seed of the input.
        shape: of the application.
    """

    def __init__(self, chaos: Chaos, shape: Shape) -> None:
        mark = uuid4().hex[:8]
        self.shape = shape
        self.application_id = f"tower-{mark}"
        self.inputs = tuple(f"{name}-{mark}" for name in ("left", "right", "extra-2", "extra-3"))
        self.output = f"out-{mark}"
        self.choice = random.Random(chaos.seed)
        self._made = 0
        chaos.create_topics(shape.partition_count, *self.inputs, *self.sinks)

    @property
    def sinks(self) -> list[str]:
        """All sinks: of each stage the immediate one, then the transactional one."""
        return [topic for stage in self.stages for topic in self.sinks_of(stage)]

    @property
    def stages(self) -> range:
        """Numbers of the stages, the lowest first."""
        return range(1, self.shape.stages + 1)

    def sinks_of(self, stage: int) -> tuple[str, str]:
        """Immediate and transactional sink of a stage."""
        return f"{self.output}-{stage}-at-once", f"{self.output}-{stage}-plain"

    def sources_of(self, stage: int) -> tuple[str, ...]:
        """Topics from outside that a stage reads."""
        if stage == 1:
            return self.inputs[:2]
        return (self.inputs[stage],) if self.shape.has_extras else ()

    @property
    def options(self) -> list[str]:
        """The command line of every process of the application."""
        named = [option for topic in self.inputs for option in ("--input", topic)]
        return [
            *("--application-id", self.application_id, *named, "--output", self.output),
            *("--stages", str(self.shape.stages)),
            *(() if self.shape.has_extras else ("--without-extras",)),
            *("--checkpoint-interval-ms", str(self.shape.checkpoint_interval_ms)),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The settings that the command line does not know."""
        cap = self.shape.header_bytes_max
        return {
            "KSTASH_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            "KSTASH_LINEAGE_ACK_DELAY_MS": str(self.shape.ack_delay_ms),
            **({"KSTASH_LINEAGE_HEADER_BYTES_MAX": str(cap)} if cap else {}),
            "KSTASH_LOG_LEVEL": "debug",
            "PYTHONFAULTHANDLER": "1",
        }

    # -- the input -------------------------------------------------------------------------------

    def record(self, _index: int = 0) -> Record:
        """The next input: a value that no other record has."""
        stage, topic = self.choice.choice(self._places())
        number = self.choice.randrange(KEYS[stage - 1])
        key = f"s{stage}-{number}"
        # As every client does with a key: the same partition of all topics.
        place = place_of(key.encode(), self.shape.partition_count)
        self._made += 1
        return topic, place, key, f"{number} {topic[0]}-{self._made}"

    def _places(self) -> list[tuple[int, str]]:
        upper = [(stage, topic) for stage in self.stages[1:] for topic in self.sources_of(stage)]
        return [(1, topic) for topic in self.sources_of(1)] * 3 + upper

    def output_counts(self, inputs: Sequence[Record]) -> dict[str, int]:
        """How many outputs each sink must have: one for each input of its stage or below."""
        counts: dict[str, int] = {}
        due = 0
        for stage in self.stages:
            due += sum(topic in self.sources_of(stage) for topic, *_ in inputs)
            counts |= dict.fromkeys(self.sinks_of(stage), due)
        return counts

    # -- what must come of it --------------------------------------------------------------------

    def check(
        self,
        views: Sequence[Views],
        inputs: Sequence[Record],
        checking: Checking,
        *,
        is_complete: bool = True,
    ) -> None:
        """Check every view of every stage, each for itself.

        Args:
            views: of each stage, the lowest first.
            inputs: all records of the input topics.
            checking: runs each check.
            is_complete: every input must have made its outputs already.
        """
        values = values_by_key(list(inputs))
        below: Outputs | None = None
        for stage, seen in zip(self.stages, views, strict=True):
            sources: list[History] = [values[topic] for topic in self.sources_of(stage)]
            if below is not None:
                sources = [*steps_by_partition(below, stage), *sources]
            check_stage(stage, seen, sources, checking, is_complete=is_complete)
            below = seen.committed

    def check_run(self, views: Sequence[Views], before: Sequence[Record]) -> None:
        """A bounded run that is over has taken all that was there before it began.

        Args:
            views: of each stage, as soon as all its workers are gone.
            before: all records of the input topics before the run.
        """
        below: Outputs | None = None
        for stage, seen in zip(self.stages, views, strict=True):
            due = {value for topic, *_, value in before if topic in self.sources_of(stage)}
            if below is not None:
                steps = steps_by_partition(below, stage)
                due |= {text for of in steps for texts in of.values() for text in texts}
            taken = {
                json.loads(value)["last"]
                for values in by_key(seen.committed).values()
                for value in values
            }
            left = sorted(due - taken)
            assert not left, f"stage {stage} ended without {len(left)} of {len(due)}: {left[:3]}"
            below = seen.committed

    def final_state(self, views: Sequence[Views]) -> dict[str, dict[str, object]]:
        """What each store must hold: the last output of each key."""
        return {
            f"chain-{stage}": {
                key.decode(): json.loads(values[-1])
                for key, values in by_key(seen.committed).items()
            }
            for stage, seen in zip(self.stages, views, strict=True)
        }


def steps_by_partition(below: Outputs, stage: int) -> list[History]:
    """What a stage gets of the one below it: per partition below, each key's texts in order."""
    found: list[History] = []
    for records in below.values():
        texts: dict[str, list[str]] = defaultdict(list)
        for output in records:
            state = json.loads(output.value or b"")
            number = int(state["last"].split()[0])
            key = number % KEYS[stage - 1]
            texts[f"s{stage}-{key}"].append(f"{key} {number}/{state['count']}/{state['hash']}")
        found.append(texts)
    return found


def check_stage(
    stage: int,
    seen: Views,
    sources: Sequence[History],
    checking: Checking,
    *,
    is_complete: bool = True,
) -> None:
    """One stage: a chain for each key over all its sources, the same one for every reader.

    Args:
        stage: for the names of the checks.
        seen: by the readers.
        sources: what the stage reads: per source and key, the values in their order.
        checking: runs each check.
        is_complete: every value of every source must have made its output.
    """

    def chains(outputs: Outputs) -> Callable[[], None]:
        return lambda: check_chains(outputs, sources, is_complete=is_complete)

    checking(f"stage {stage}, read_committed", chains(seen.committed))
    checking(f"stage {stage}, reader rule", chains(seen.accepted))
    checking(f"stage {stage}, transactional sink", chains(seen.plain))
    checking(
        f"stage {stage}, reader rule beside read_committed",
        lambda: check_same_places(seen.committed, seen.accepted),
    )
    checking(
        f"stage {stage}, transactional sink beside the immediate one",
        lambda: check_same_places(seen.committed, seen.plain),
    )
    checking(f"stage {stage}, headers of the transactional sink", lambda: check_plain(seen.plain))


def check_same_places(one: Outputs, other: Outputs) -> None:
    """Two readers saw the same outputs in each partition, in the same order.

    One task writes a partition: so its whole order is the task's, over all keys.
    """
    for partition in sorted({*one, *other}):
        first, second = (
            [(o.key, o.value) for o in side.get(partition, [])] for side in (one, other)
        )
        for index, (left, right) in enumerate(zip(first, second, strict=False)):
            assert left == right, (
                f"partition {partition}: output {index + 1} is {left} for one reader and {right} "
                "for the other"
            )
        assert len(first) == len(second), (
            f"partition {partition}: {len(first)} outputs for one reader, {len(second)} for the "
            "other"
        )


def check_plain(outputs: Outputs) -> None:
    """No record of transactional delivery has a header: these programs make none."""
    found = [output for records in outputs.values() for output in records if output.headers]
    assert not found, f"{len(found)} records with headers, the first: {found[0]}"


def outputs_from(outputs: Outputs, starts: Mapping[int, int]) -> Outputs:
    """The outputs from an offset of each partition on."""
    return {
        partition: [output for output in records if output.offset >= starts.get(partition, 0)]
        for partition, records in outputs.items()
    }


def check_generation(outputs: Outputs, generation_of: Callable[[Output], int]) -> None:
    """All outputs are of one generation of the application: nothing of before a reset is there."""
    found = {generation_of(output) for records in outputs.values() for output in records}
    assert len(found) <= 1, f"outputs of the generations {sorted(found)}"

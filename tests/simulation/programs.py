"""Tiny deterministic operators whose every output shows the whole history of their task.

The state is one rolling hash over all events in order, over clock reads, call results and random
numbers, so two histories that differ anywhere give outputs that differ for ever after: silent
divergence (protocol, section 0) becomes visible content. The checkers run the same programs from
scratch on the history that they found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

INTERNAL, IMMEDIATE, TRANSACTIONAL = "internal", "immediate", "transactional"

Value = tuple[int, int]
"""A logical record: (key, value)."""

Emission = tuple[int, int, Value]
"""(output index, partition, logical record)."""

CLOCK, CALL = 1, 2

_MASK = 0xFFFFFFFF


def mix(state: int, value: int) -> int:
    """Fold a number into a rolling hash (order matters)."""
    state = (state * 0x01000193 ^ (value & _MASK)) & _MASK
    return state ^ (state >> 15)


class Output(NamedTuple):
    """One output of a stage."""

    topic: str
    kind: str


def is_internal(output: Output) -> bool:
    """Whether an output goes to an internal topic."""
    return output.kind == INTERNAL


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: `inputs` are topics, of which `internal` tells those that carry frames.

    One in `sparse` records makes outputs.
    """

    index: int
    inputs: tuple[str, ...]
    internal: tuple[bool, ...]
    outputs: tuple[Output, ...]
    has_clock: bool
    has_random: bool
    has_call: bool
    has_timers: bool
    sparse: int = 1


class State:
    """State of one task: rolling hash, count of events, armed timers (id to due time)."""

    __slots__ = ("count", "hash", "timers")

    def __init__(self, hash_: int = 17, count: int = 0, timers: dict[int, int] | None = None):
        self.hash = hash_
        self.count = count
        self.timers = {} if timers is None else timers

    def snapshot(self) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        """Return the state as a value."""
        return self.hash, self.count, tuple(sorted(self.timers.items()))

    @classmethod
    def restored(cls, snapshot: tuple[int, int, tuple[tuple[int, int], ...]]) -> State:
        """Return a state from `snapshot`."""
        return cls(snapshot[0], snapshot[1], dict(snapshot[2]))


Ask = Callable[[int, int, int], int]
"""`(index in frame, k, kind) -> result` of a clock read or an outside call."""


def random_number(seed: int, task: tuple[int, int], source: int, offset: int, index: int) -> int:
    """`ctx.random()`: a hash of what the protocol allows it to depend on, and nothing else."""
    drawn = mix(mix(mix(seed, task[0] << 8 | task[1]), source), offset)
    return mix(drawn, index)


def run_record(
    stage: Stage,
    state: State,
    task: tuple[int, int],
    source: int,
    offset: int,
    index: int,
    record: Value,
    seed: int,
    ask: Ask,
    partitions: int,
    out: list[Emission],
) -> None:
    """Process one logical record."""
    key, value = record
    current = mix(mix(state.hash, source << 20 | key), value)
    k = 0
    if stage.has_clock and value % 5 == 0:
        current = mix(current, ask(index, k, CLOCK))
        k += 1
    if stage.has_call and value % 11 < 2:
        current = mix(current, ask(index, k, CALL))
        k += 1
    if stage.has_random and value % 3 == 1:
        current = mix(current, random_number(seed, task, source, offset, index))
    if stage.has_timers and value % 7 == 3 and len(state.timers) < 3:
        state.timers[state.count] = offset
    state.count += 1
    state.hash = current
    if value % 4 != 2 and value % stage.sparse == 0:
        _emit(stage, key, current, partitions, out)


def run_timer(
    stage: Stage, state: State, timer: int, now: int, partitions: int, out: list[Emission]
) -> None:
    """Process a timer that fired at `now`."""
    del state.timers[timer]
    state.hash = mix(mix(state.hash, 0x71E5 + timer), now)
    state.count += 1
    if state.hash & 1:
        _emit(stage, timer, state.hash, partitions, out)


def _emit(stage: Stage, key: int, current: int, partitions: int, out: list[Emission]) -> None:
    # Which outputs a record goes to depends on the hash, so that partitions starve now and then.
    for output in range(len(stage.outputs)):
        if len(stage.outputs) == 1 or (current >> (3 * output)) % 3:
            out.append((output, (key + (current >> 7) % 2) % partitions, (key, current)))

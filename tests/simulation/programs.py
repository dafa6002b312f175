"""Tiny deterministic operators whose every output shows the whole history of their task.

The state is one rolling hash over all events in order, over clock reads, call results and random
numbers, so two histories that differ anywhere give outputs that differ for ever after: silent
divergence (protocol, section 0) becomes visible content. The checkers run the same programs from
scratch on the history that they found.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.simulation.timed import Timed

INTERNAL, IMMEDIATE, TRANSACTIONAL = "internal", "immediate", "transactional"

Value = tuple[int, ...]
"""A logical record: (key, value), and times in watermark mode."""

Emission = tuple[int, int, Value]
"""(output index, partition, logical record)."""

CLOCK, CALL = 1, 2

_MASK = 0xFFFFFFFF


def time_of(value: Value) -> int | None:
    """The timestamp of a record, by which it is merged; None when it has none."""
    return None if value[1] % 19 == 7 else value[1] % 50


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
    has_steps: bool = False
    has_flush: bool = False
    has_idle: bool = False
    merges: bool = False
    has_calls: bool = False
    is_timed: bool = False

    @property
    def must_log(self) -> bool:
        """Whether something else than its one input decides what it does (protocol, section 3)."""
        return (
            len(self.inputs) > 1
            or self.has_clock
            or self.has_call
            or self.has_timers
            or self.has_flush
            or self.has_idle
            or self.has_calls
            or self.is_timed
        )


class Call(NamedTuple):
    """A call to another system; they are in the order in which they were made.

    Attributes:
        position: of the event that made it.
        within: index of the record within its frame: what a merge takes apart has it too.
        key: of the record: results of a key go on in the order of its calls.
        source: the input that the record came from.
        offset: of the record in it.
        is_read: it may be made twice, so it does not wait until its event is confirmed.
        request: what is asked for.
    """

    position: int
    within: int
    key: int
    source: int
    offset: int
    is_read: bool
    request: int

    @property
    def name(self) -> bytes:
        """What it is known by: its event; a read, whose event may become another, its record."""
        if self.is_read:
            return struct.pack(">BBIH", 1, self.source, self.offset, self.within)
        return struct.pack(">BIH", 0, self.position, self.within)


Snapshot = tuple[
    int,
    int,
    tuple[tuple[int, int], ...],
    int,
    int,
    int,
    tuple[Call, ...],
    tuple[tuple[Call, int], ...],
    tuple[Any, ...],
]
"""What `State` holds, as a value."""


class State:
    """State of one task.

    Attributes:
        hash: of all events in order.
        count: of logical records and other events.
        timers: due time of each that is armed, by its number.
        ticked: time of the last tick.
        work: results that the last record has left to be made; it is part of its event.
        kept: what waits for a flush; 0 for nothing.
        open: calls without an answer, by name.
        held: calls whose answer waits for those of its key before it, by name, with it.
        timed: in watermark mode.
    """

    __slots__ = ("count", "hash", "held", "kept", "open", "ticked", "timed", "timers", "work")

    def __init__(self) -> None:
        self.hash = 17
        self.count = 0
        self.timers: dict[int, int] = {}
        self.ticked = 0
        self.work = 0
        self.kept = 0
        self.open: dict[bytes, Call] = {}
        self.held: dict[bytes, tuple[Call, int]] = {}
        self.timed: Timed | None = None

    def snapshot(self) -> Snapshot:
        """Return the state as a value."""
        timers = tuple(sorted(self.timers.items()))
        opened, held = tuple(sorted(self.open.values())), tuple(sorted(self.held.values()))
        head = self.hash, self.count, timers, self.ticked, self.work, self.kept
        return *head, opened, held, () if self.timed is None else self.timed.snapshot()

    @classmethod
    def restored(cls, snapshot: Snapshot) -> State:
        """Return a state from `snapshot`."""
        state = cls()
        state.hash, state.count, timers, state.ticked, state.work, state.kept = snapshot[:6]
        state.timers = dict(timers)
        state.open = {call.name: call for call in snapshot[6]}
        state.held = {held[0].name: held for held in snapshot[7]}
        return state

    @property
    def is_due(self) -> bool:
        """Whether the last tick left timers that were due: the next tick comes before any input."""
        return any(due <= self.ticked for due in self.timers.values())


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
    position: int,
) -> None:
    """Process one logical record, of the event at `position`."""
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
        state.timers[state.count] = 1000 + value % 97
    if stage.has_steps and value % 13 == 5:
        state.work += 1 + value % 3
    if stage.has_flush and value % 4 == 1:
        state.kept = mix(state.kept, value) | 1
    if stage.has_calls and value % 5 == 4:
        call = Call(position, index, key, source, offset, value % 10 == 9, 0)
        call = call._replace(request=request_of(call, value, current))
        state.open[call.name] = call
    state.count += 1
    state.hash = current
    if value % 4 != 2 and value % stage.sparse == 0:
        emit(stage, key, current, partitions, out)


def is_read(name: bytes) -> bool:
    """Whether a name is that of a call that may be made twice."""
    return name[0] == 1


def request_of(call: Call, value: int, state: int) -> int:
    """What a call asks for: of a read nothing that another history could make another."""
    request = mix(mix(mix(call.source, call.offset), call.within), value)
    return request if call.is_read else mix(request, state)


TIMERS_PER_TICK = 2


def run_tick(stage: Stage, state: State, now: int, partitions: int, out: list[Emission]) -> None:
    """Fire what is due at `now`, in order; what is too much is left for the next tick."""
    state.ticked = now
    state.hash = mix(state.hash, 0x71E5)
    state.count += 1
    due = sorted((at, timer) for timer, at in state.timers.items() if at <= now)
    for at, timer in due[:TIMERS_PER_TICK]:
        del state.timers[timer]
        state.hash = mix(mix(mix(state.hash, timer), at), now)
        if state.hash & 1:
            emit(stage, timer, state.hash, partitions, out)


def run_work(
    stage: Stage, state: State, partitions: int, out: list[Emission], most: int = 1 << 30
) -> None:
    """Do what the last record has left, or so much of it."""
    for _ in range(min(most, state.work)):
        state.work -= 1
        state.hash = mix(state.hash, 0x57E9 + state.work)
        state.count += 1
        emit(stage, state.work, state.hash, partitions, out)


def run_flush(
    stage: Stage, state: State, operator: int, partitions: int, out: list[Emission]
) -> None:
    """An operator sends what it has kept."""
    state.hash = mix(mix(state.hash, 0xF1 + operator), state.kept)
    state.kept = 0
    state.count += 1
    emit(stage, operator, state.hash, partitions, out)


def run_idle(
    stage: Stage, state: State, source: int, now: int, partitions: int, out: list[Emission]
) -> None:
    """An input has been at its end for long."""
    state.hash = mix(mix(state.hash, 0x1D7E + source), now)
    state.count += 1
    if state.hash & 1:
        emit(stage, source, state.hash, partitions, out)


def emit(stage: Stage, key: int, current: int, partitions: int, out: list[Emission]) -> None:
    """Make an output."""
    # Which outputs a record goes to depends on the hash, so that partitions starve now and then.
    for output in range(len(stage.outputs)):
        if len(stage.outputs) == 1 or (current >> (3 * output)) % 3:
            out.append((output, (key + (current >> 7) % 2) % partitions, (key, current)))

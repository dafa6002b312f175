"""The contract of a step: what runs one node of a stage, and what it may do with a batch.

A record fails alone: what it writes and makes at one operator counts once the user's function has
returned, and a step goes on at the next record of the column where that is decided. What operators
before it did with the record stays.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from kstash.errors import (
    NullKeyError,
    OperatorError,
    RecordTooLargeError,
    SerdeError,
    TimestampError,
)
from kstash.operators.flow import Flow
from kstash.ports.state import KeyValueStore, OrderedStore, Timers
from kstash.topology.record import RecordOrigin
from kstash.topology.traits import OUT, ColumnSet, FlushReason

RecordError: TypeAlias = (
    OperatorError | SerdeError | RecordTooLargeError | NullKeyError | TimestampError
)
"""An error at one record of a batch, which `record_index` names."""


class Decision(enum.Enum):
    """What becomes of a record that failed at an operator."""

    FAIL = enum.auto()
    SKIP = enum.auto()


Decide = Callable[[RecordError], Decision]
"""Asked once for each record that fails; the error counts the records of the stage's batch."""


def always_fail(error: RecordError) -> Decision:  # noqa: ARG001 - whatever it is
    """Stop the task."""
    return Decision.FAIL


class Stores(Protocol):
    """The stores of a task, by name: those that its operators say they keep."""

    def store(self, name: str) -> KeyValueStore:
        """A store of keyed values, or an ordered one."""

    def ordered(self, name: str) -> OrderedStore:
        """An ordered store."""

    def timers(self, name: str) -> Timers:
        """A store of timers."""


class Scope(Protocol):
    """One batch of one task, as the operator sees it whose turn it is.

    Attributes:
        stores: of the task.
    """

    stores: Stores

    @property
    def may_skip(self) -> bool:
        """Whether a record that fails may be skipped, so that its traces are kept apart.

        They need not be, where that takes time, when the task stops anyway.
        """

    def out(self, flow: Flow, port: str = OUT) -> None:
        """Send records on through an output of the node; any number of times, or never.

        What is sent later through the same output was made of the same or of later records of the
        batch. Nothing is done where nobody reads that output.
        """

    def later(self, work: WorkLeft) -> None:
        """Leave work: the rest of what the records of this run ask for.

        A record may ask for a million results. A step that has sent a bounded part of them
        (`PART_RECORDS`) leaves the others, and **all records of the flow after that one**, of which
        nothing was done yet: they are part of the work. It is done once what was sent has gone
        through the whole stage, still within the same event, and may again send a part and leave
        the rest. What is left several times in one run is done in that order. Until all is done the
        step is given nothing else, no checkpoint is taken and nothing is committed; a replay makes
        the whole event again, so the work need not be kept anywhere. Only nodes that say so may
        leave some (`Node.may_leave_work`).

        Args:
            work: called once, with a scope, in the operator's turn.
        """

    def failed(self, flow: Flow, error: RecordError) -> Decision:
        """What becomes of the record at `error.record_index` of a flow.

        That index then counts the records of the stage's batch. A record that is skipped is
        counted, and its step goes on as if it had not been there.
        """

    def origin(self, index: int) -> RecordOrigin | None:
        """Where a record of the stage's batch was read; None: nobody knows, or there is none.

        Args:
            index: of the record, as `Flow.origins` has it.
        """

    def task_times(self, times: list[int]) -> list[int] | None:
        """What records that come in say of stream time in watermark mode; None: they say theirs.

        For who knows the times of a source: asked once, in the order of the records.

        Args:
            times: what each of them says of its own input.
        """

    def now_ms(self) -> int:
        """The wall time, which is logged: a replay says the same. Only nodes that `asks` may ask.

        It is one for all records that are processed together, and that of the tick in a tick; it
        never goes back.
        """

    def draw(self) -> bytes:
        """16 random bytes, likewise: others at each call, and in a replay the same again."""

    def undraw(self, count: int) -> None:
        """The last draws of this operator do not count: of a call that failed."""

    def dropped(self, reason: str, count: int) -> None:
        """Count records that the operator leaves out, by why; those of a replay are not counted.

        Args:
            reason: one word of few: it is a label of a metric.
            count: 0 or more.
        """


WorkLeft: TypeAlias = Callable[[Scope], None]
"""Work that a step has left; see `Scope.later`."""


class Outside(Protocol):
    """What the events at hand may ask that neither they nor the state say."""

    def now_ms(self) -> int:
        """The wall time, as of `Scope`."""

    def draw(self, operator: str) -> bytes:
        """16 random bytes for an operator, as of `Scope`."""

    def undraw(self, operator: str, count: int) -> None:
        """The operator's last draws do not count."""


class Step(Protocol):
    """One node's logic. It keeps nothing between runs: that is what stores are for.

    What it opens all the same, such as a connection, it gives up in a method `close()`.

    Attributes:
        label: name of the operator, for errors.
    """

    label: str

    def run(self, side: int, flow: Flow, scope: Scope) -> None:
        """Process records.

        Args:
            side: which of the node's parents they are from.
            flow: one record or more.
            scope: takes what becomes of them.
        """


class ClockStep(Step, Protocol):
    """A step that the wall clock moves, too: of a node that `wants_ticks`.

    The clock is seen in ticks only, which are events with a time that is logged: what the step does
    is a function of its state and of the tick, and of no clock.
    """

    def next_tick_ms(self, stores: Stores) -> int | None:
        """The wall time at which it wants a tick, in Unix milliseconds: a function of its state.

        It is asked after each batch, so it is found at once. None: no tick is wanted.

        Args:
            stores: of the task; nothing in them is changed.
        """

    def tick(self, until_ms: int, now_ms: int, scope: Scope) -> None:
        """Do what is due, in order: a bounded part of it, as another tick comes for the rest.

        What it sends has no record that it was made of. Work may be left (`Scope.later`).

        Args:
            until_ms: what is due later than that has to wait: another operator comes first. It is
                at least what `next_tick_ms` gives.
            now_ms: the time of the tick, which is not below that of any tick before it.
            scope: takes the results.
        """


class FlushStep(Step, Protocol):
    """A step that is flushed, too: of a node that says when (`Node.flushed`).

    A flush is an event of its own, which is logged. What the step does then is a function of its
    state; that it comes is none, and no time of the clock goes with it.

    Attributes:
        arrived: how many records have reached it since it was made: nothing but whether it changes
            means anything.
    """

    arrived: int

    def wants_flush(self, why: FlushReason, stores: Stores) -> bool:
        """Whether a flush would do anything: found at once, and nothing in the stores is changed.

        Args:
            why: one of its node's reasons.
            stores: of the task.
        """

    def flush(self, why: FlushReason, scope: Scope) -> None:
        """Do a bounded part of it: another flush comes at once where that leaves any.

        What it sends has no record that it was made of. Work may be left (`Scope.later`).

        Args:
            why: one of its node's reasons.
            scope: takes the results.
        """


class TimeStep(Step, Protocol):
    """A step that event time moves, too, where no record brings it (watermark mode)."""

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """Time has come so far, and no record with it: do what a record of that time would set off.

        Args:
            time_ms: of the operator, in Unix milliseconds; it may have come further already.
            scope: takes the results.
        """


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a step may need to know beside its node.

    Attributes:
        read_after: columns that are read after the node.
    """

    read_after: ColumnSet

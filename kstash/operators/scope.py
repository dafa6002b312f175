"""What the steps of one task are given of its batches; see `kstash.operators.step.Scope`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kstash.core.watermark import TaskTime
from kstash.operators.calls import join
from kstash.operators.entry import Entry
from kstash.operators.exit import Exit
from kstash.operators.flow import Flow
from kstash.operators.step import (
    Decide,
    Decision,
    Outside,
    RecordError,
    Step,
    Stores,
    WorkLeft,
    always_fail,
)
from kstash.topology.nodes import Node
from kstash.topology.record import RecordOrigin
from kstash.topology.traits import OUT, ColumnSet

OriginOf = Callable[[int], RecordOrigin | None]
"""Says where a record of a batch was read, by its index."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One operator of a stage, with all that is asked of it for each batch.

    Attributes:
        node: the operator.
        title: what errors call it.
        label: what metrics call it: stable between runs, and without a line number.
        parents: indexes of the nodes that it reads from.
        step: its logic; None: its records go on as they are.
        read: columns that it reads, or a later step.
        ports: by name of an output, the index of the node that stands for it.
        way_out: where its records leave the stage, or None.
        is_shared: whether several inputs reach its state.
    """

    node: Node
    title: str
    label: str
    parents: tuple[int, ...]
    step: Step | None
    read: ColumnSet
    ports: Mapping[str, int]
    way_out: Exit | None
    is_shared: bool


class TaskScope:
    """The batches of a task, one after another, and in each the operators in their turn.

    Attributes:
        stores: of the task.
        flows: by index of a node, what it made of the batch; nodes that made nothing are missing.
        skipped: records that failed and were skipped, by title of the operator.
        drops: records that operators left out, by (label of the operator, reason).
        turn: whose it is.
        first: index in the stage's batch of the record that the flows count from.
        input: index of the stage's input that the batch is from.
        event_time: of the task, where it is the smallest over all that feeds it; else None.
        left: work that the operator leaves in its turn.
        origin_of: says where a record of the batch was read, by its index there.
    """

    def __init__(
        self,
        stores: Stores,
        decide: Decide,
        *,
        event_time: TaskTime | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.stores = stores
        self.input = 0
        self.event_time = event_time
        self.flows: dict[int, Flow] = {}
        self.skipped: Counter[str] = Counter()
        self.drops: Counter[tuple[str, str]] = Counter()
        self.turn: Turn | Entry
        self.first = 0
        self.left: list[WorkLeft] = []
        self.origin_of: OriginOf | None = None
        self._decide = decide
        self._outside = outside
        self._parts: dict[int, list[Flow]] = {}
        self._counts = True

    @property
    def may_skip(self) -> bool:
        """Whether a record that fails may be skipped."""
        return self._decide is not always_fail

    def begin(self, turn: Turn | Entry, first: int, *, is_new: bool) -> None:
        """Records come in: a batch, those of it from `first` on, or some of the work it has left.

        What is dropped of a batch counts where it is processed first (`is_new`).
        """
        self.flows, self._parts, self.turn, self.first = {}, {}, turn, first
        self._counts = is_new

    def end(self, turn: Turn) -> None:
        """The operator is done: what it sent on in several parts is put together."""
        if not self._parts:
            return
        parts, self._parts = self._parts, {}
        for index, flows in parts.items():
            whole = join([self.flows[index], *flows], turn.read, turn.title, self)
            if whole is not None:
                self.flows[index] = whole

    def out(self, flow: Flow, port: str = OUT) -> None:
        """Send records on through an output of the operator."""
        index = self.turn.ports.get(port)
        if index is None:
            return
        if index in self.flows:
            self._parts.setdefault(index, []).append(flow)
        else:
            self.flows[index] = flow

    def later(self, work: WorkLeft) -> None:
        """Leave work."""
        turn = self.turn
        # Else the program might not know that records must come one by one.
        assert isinstance(turn, Turn) and turn.node.may_leave_work, turn.title  # noqa: PT018
        self.left.append(work)

    def failed(self, flow: Flow, error: RecordError) -> Decision:
        """What becomes of a record that failed."""
        error.record_index = self.first + flow.origin_of(error.record_index)
        decision = self._decide(error)
        if decision is Decision.SKIP:
            self.skipped[self.turn.title] += 1
        return decision

    def origin(self, index: int) -> RecordOrigin | None:
        """Where a record of the batch was read."""
        return None if self.origin_of is None else self.origin_of(self.first + index)

    def task_times(self, times: list[int]) -> list[int] | None:
        """What records of the input say of stream time, given what each says of the input's."""
        if self.event_time is None:
            return None
        return self.event_time.take(self.input, times)

    @property
    def outside(self) -> Outside:
        """Who is asked for the time and for chance."""
        assert self._outside is not None, "nobody is there to be asked"
        return self._outside

    def now_ms(self) -> int:
        """The wall time."""
        return self.outside.now_ms()

    def draw(self) -> bytes:
        """16 random bytes."""
        return self.outside.draw(self.turn.label)

    def undraw(self, count: int) -> None:
        """The last draws of the operator do not count."""
        self.outside.undraw(self.turn.label, count)

    def dropped(self, reason: str, count: int) -> None:
        """Count records that the operator leaves out."""
        if count and self._counts:
            self.drops[self.turn.label, reason] += count

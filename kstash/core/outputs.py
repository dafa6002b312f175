"""What a task knows of one of its output partitions: held, in flight, acknowledged, settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kstash.core.ids import UNBOUNDED, OutPartition
from kstash.core.kinds import OutputKind


@dataclass(slots=True)
class Held:
    """Outputs of one batch that are numbered and have no chunk yet.

    Attributes:
        position: the task's position at the end of the batch.
        lineage_end: end of the lineage that the outputs rely on: the batch's own end when it is
            live, the adopted end in a replay. At least `position`, and at most the stash's end.
        first_seq: sequence of the first of the `count` logical records.
        count: at least 1.
        payload: what the caller gave to `emit`.
    """

    position: int
    lineage_end: int
    first_seq: int
    count: int
    payload: Any


@dataclass(slots=True)
class Output:
    """What is known of one output partition.

    An output is held, then in flight, then acknowledged, then gone, in the order of the sequences:
    `acked <= in_flight <= held`, by position. Rising means that positions never go back: those of
    one event that makes its outputs in several parts are equal.

    Attributes:
        is_sink: a user's topic. It is settled by commits, an internal topic by stable lineage.
        has_lineage: its records carry lineage, and recoveries scan it: all but transactional sinks.
        sequence: of the last logical record that was numbered, suppressed ones included; only
            rises, and by as many as there are records (I4).
        sent: end of the lineage that is durable before whatever is sent next to this partition:
            that of the last output whose chunk went there. Only rises, and is never beyond the
            stash's end. It says nothing of other partitions (H11).
        held: outputs that wait until their chunk fits, without a gap in their sequences. While one
            is held, all later ones are (order of the partition).
        in_flight: position of each batch that was handed over and is not acknowledged; rising.
        acked: (position, offset) of each batch that was acknowledged and is not settled: its
            lineage is not stable, or its transaction not committed. Rising; an offset of None says
            no place.
    """

    is_sink: bool
    has_lineage: bool
    sequence: int = 0
    sent: int = 0
    held: deque[Held] = field(default_factory=deque)
    in_flight: deque[int] = field(default_factory=deque)
    acked: deque[tuple[int, int | None]] = field(default_factory=deque)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is held, on its way, or waits for lineage or a commit."""
        return not (self.held or self.in_flight or self.acked)

    def holds(self, position: int) -> bool:
        """Whether an output of a position up to this one is held."""
        return bool(self.held) and self.held[0].position <= position

    @property
    def done_through(self) -> int:
        """Position through which all is acknowledged (sinks: committed); it is not settled."""
        open_at = [self.in_flight[0]] if self.in_flight else []
        if self.held:
            open_at.append(self.held[0].position)
        if self.is_sink and self.acked:
            open_at.append(self.acked[0][0])
        return min(open_at, default=UNBOUNDED) - 1

    def number(self, count: int) -> int:
        """Give so many records their sequences; returns the first one's."""
        self.sequence += count
        return self.sequence - count + 1

    def on_acked(self, position: int, offset: int | None) -> None:
        """The oldest that is in flight, of `position`, was acknowledged."""
        # One, and not all of this position: an event may have several parts on their way.
        oldest = self.in_flight.popleft()
        assert oldest == position, "acknowledged out of order"
        self.acked.append((position, offset))

    def check(self, lineage_end: int) -> None:
        """Assert what the fields promise, at the ends of the queues; `lineage_end` of the stash."""
        assert 0 <= self.sent <= lineage_end, "more lineage was sent than there is"
        held, in_flight, acked = self.held, self.in_flight, self.acked
        if held:
            assert held[-1].lineage_end <= lineage_end, "held for lineage that is not there"
            assert not in_flight or in_flight[-1] <= held[0].position, "sent before what is held"
        if acked:
            assert acked[0][0] <= acked[-1][0], "acknowledgements went back"
            assert not in_flight or acked[-1][0] <= in_flight[0], "acknowledged and in flight"


class Outputs:
    """The outputs of a task, made with their first record: of many partitions it writes few.

    Args:
        kinds: by the index of an output.
        is_logging: whether the task keeps lineage.

    Attributes:
        unsettled: those that are not settled; nothing is on its way, held or uncommitted on the
            others.
        held_count: outputs, one a batch and partition, that the cap holds back; the sum of all
            `held`, so that a batch without any costs nothing.
    """

    def __init__(self, kinds: Sequence[OutputKind], *, is_logging: bool) -> None:
        self.unsettled: dict[OutPartition, Output] = {}
        self.held_count = 0
        self._kinds = kinds
        self._is_logging = is_logging
        # Those that have had a record; they stay, for their sequences go on.
        self._made: dict[OutPartition, Output] = {}

    def of(self, partition: OutPartition) -> Output:
        """What is known of an output partition."""
        output = self._made.get(partition)
        if output is None:
            kind = self._kinds[partition[0]]
            is_sink = kind.counts_when_committed and self._is_logging
            output = self._made[partition] = Output(is_sink, kind.carries_lineage)
        return output

    def begin(self, partition: OutPartition) -> Output:
        """The same of one that records go to now: it is not settled."""
        output = self.unsettled[partition] = self.of(partition)
        return output

    def hold(self, output: Output, held: Held) -> None:
        """Have the outputs of a batch wait, after those that wait already."""
        output.held.append(held)
        self.held_count += 1

    def let_go(self, output: Output) -> None:
        """The first that waits has been handed over."""
        output.held.popleft()
        self.held_count -= 1

    def check(self) -> None:
        """Assert that what is held is counted."""
        assert self.held_count == sum(len(output.held) for output in self.unsettled.values())

    def is_held_through(self, position: int) -> bool:
        """Whether the cap holds a sink output of a position up to this one."""
        if not self.held_count:
            return False
        return any(o.is_sink and o.holds(position) for o in self.unsettled.values())

    def done_through(self, position: int) -> int:
        """Position, this one at most, through which all is acknowledged (sinks: committed)."""
        return min([position, *(o.done_through for o in self.unsettled.values())])

    def carries_lineage(self, partition: OutPartition) -> bool:
        """Whether the records of an output partition carry lineage, and recoveries scan it."""
        return self._kinds[partition[0]].carries_lineage

    def sequences(self) -> dict[OutPartition, int]:
        """Last sequence per output partition, in order."""
        return {partition: output.sequence for partition, output in sorted(self._made.items())}

    def next_sequence(self, partition: OutPartition) -> int:
        """Sequence that the next output to a partition gets."""
        output = self._made.get(partition)
        return output.sequence + 1 if output is not None else 1


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Outputs of one batch to one partition, ready to be produced.

    Attributes:
        partition: output partition.
        position: the task's position at the end of the batch.
        first_seq: sequence of the first of the `count` logical records.
        count: at least 1.
        chunk: encoded lineage for the first record's header, or None.
        payload: what the caller gave to `emit`.
    """

    partition: OutPartition
    position: int
    first_seq: int
    count: int
    chunk: bytes | None
    payload: Any

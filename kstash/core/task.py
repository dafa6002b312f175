"""The live path of one task: what it has processed, what goes out with which lineage.

Per batch the runtime calls `advance` once with what the batch was, then `emit` for each output
partition; segments are taken later, and acknowledged by the lineage topic.

Invariants:

- an output is handed over only after its whole batch was processed (`advance` comes first), and
  carries the lineage `[max(stable, sent[partition]), end)` of it (chunk rule, protocol section 4);
- outputs of one partition leave in the order of their sequences, whether held or not;
- outputs to transactional sinks carry no lineage, so no cap holds them back: nobody sees them
  before their commit, which waits for the lineage topic (`core.sink`);
- an event may make its outputs in parts, all of its position: until the last of them it is *under
  way*, not done, whatever is acknowledged;
- a checkpoint at `c` is published only when all outputs up to `c` are acknowledged (sinks:
  committed) and the lineage topic is acknowledged through `c`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kstash.core.determinants import Determinant
from kstash.core.hashes import HashMarks, OutputHashes
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.kinds import OutputKind
from kstash.core.outputs import Held, Outgoing, Output, Outputs
from kstash.core.records import Hint, Segment
from kstash.core.scan_starts import ScanStarts
from kstash.core.stash import Stash


class TaskCore:
    """One incarnation of one task.

    Attributes:
        task: the task.
        incarnation: of its group; fixed.
        position: events processed; only rises. At most the stash's end, and equal to it once the
            replay is over.
        is_under_way: whether the event that ends at `position` is, of which more parts may come.
        adopted: end of the history that was taken over: below it the task replays; fixed.
        stash: the lineage that is not stable.
        marks: hashes of all that was made up to `position`; None where no lineage is kept.
        scans: where a recovery may begin to scan, and whether a HINT would say something new.
    """

    def __init__(
        self,
        task: TaskId,
        incarnation: Incarnation,
        *,
        implicit: bool,
        position: int,
        adopted: int,
        stable: int,
        lineage: Sequence[Determinant],
        sequences: Mapping[OutPartition, int],
        kinds: Sequence[OutputKind],
        header_bytes_max: int,
        is_logging: bool = True,
        made: OutputHashes | None = None,
    ) -> None:
        """Start at the base's `position`; replay goes to `adopted`.

        Args:
            task: the task.
            incarnation: of its group.
            implicit: it has one input partition, whose records need no determinants.
            position: of the base checkpoint.
            adopted: end of the history taken over, `x`.
            stable: end of what the lineage topic holds contiguously.
            lineage: determinants of `[stable, adopted)`.
            sequences: last sequence per output partition at `position`.
            kinds: of the outputs, by their index.
            header_bytes_max: cap of a chunk; 0 is write-first: outputs wait for stable lineage.
            is_logging: whether lineage is kept at all (not for the guarantees without it).
            made: hashes of the outputs up to `position`; None begins them there.
        """
        self.task = task
        self.incarnation = incarnation
        self.position = position
        self.is_under_way = False
        self.adopted = adopted
        self._header_bytes_max = header_bytes_max
        # False without exactly-once recovery: nothing is kept, and every position is stable.
        self._is_logging = is_logging
        # Whether there are outputs that no scan sees: only hashes say what went there.
        self._has_unscanned = not all(kind.carries_lineage for kind in kinds)
        start = min(stable, adopted)
        self.stash = Stash(implicit=implicit, stable=start, end=adopted, entries=lineage)
        self._outputs = Outputs(kinds, is_logging=is_logging)
        self.scans = ScanStarts(task, incarnation)
        for partition, sequence in sequences.items():
            self._outputs.of(partition).sequence = sequence
        # Of the last SEG: with the incarnation it makes keys unique (H8).
        self._segment_number = 0
        self.marks: HashMarks | None = None
        if is_logging:
            self.marks = HashMarks(made or OutputHashes(position, position, {}))
        self._check()

    def _check(self) -> None:
        """Assert what holds between calls, whatever was called; of one output `Output.check`."""
        stash, outputs = self.stash, self._outputs
        assert self.position <= stash.end, "events were processed whose lineage is nowhere"
        assert self.adopted <= stash.end, "adopted lineage was given up"
        assert self.position < self.adopted or self.position == stash.end, (
            "live, and not at the end"
        )
        assert not outputs.held_count or outputs.unsettled, "held outputs, and all is settled"

    # -- processing ------------------------------------------------------------------------------

    def advance(
        self, entries: Sequence[Determinant], position: int, *, is_over: bool = True
    ) -> None:
        """A batch of whole events up to `position` (exclusive) was processed.

        In replay `entries` is empty: its determinants are in the stash already. `is_over` is false
        where the batch has made the first part of its outputs only, until `end_event`.
        """
        assert position > self.position
        assert not self.is_under_way, "the event before is not over"
        self.position = position
        self.is_under_way = not is_over
        if position > self.stash.end:
            if not self._is_logging:
                self.stash.pass_over(position)
            else:
                self.stash.append(entries, position)
        self._check()

    def end_event(self) -> None:
        """The event under way has made all of its outputs."""
        assert self.is_under_way
        self.is_under_way = False

    @property
    def over(self) -> int:
        """End of the events that are over: `position`, or below it while one is under way."""
        return self.position - self.is_under_way

    @property
    def is_replaying(self) -> bool:
        """Whether some of the adopted history is not over yet."""
        return self.over < self.adopted

    def mark_made(self) -> None:
        """All that the last batch made was noted: its position is one that hashes are said of."""
        assert not self.is_under_way
        if self.marks is not None:
            self.marks.mark(self.position, self.stable)

    def made(self) -> OutputHashes | None:
        """Hashes of all that was made up to the current position; None where none are kept."""
        assert not self.is_under_way
        return self.marks.at(self.position) if self.marks is not None else None

    def checked(self) -> OutputHashes | None:
        """Hashes of all outputs whose lineage is stable; None when there are none."""
        return self.marks.newest(self.stable) if self.marks is not None else None

    def skip(self, partition: OutPartition, count: int) -> int:
        """Count outputs that are suppressed in replay; returns the first one's sequence."""
        return self._outputs.of(partition).number(count)

    def next_sequence(self, partition: OutPartition) -> int:
        """Sequence that the next output to a partition gets."""
        return self._outputs.next_sequence(partition)

    def emit(self, partition: OutPartition, count: int, payload: Any) -> Outgoing | None:
        """Number `count` outputs of the last batch and attach their chunk.

        Returns:
            What to produce now, or None when the cap holds it back until lineage is acknowledged.
        """
        output = self._outputs.begin(partition)
        first = output.number(count)
        outgoing = Held(self.position, self.lineage_end(), first, count, payload)
        if not output.held and (ready := self._attach(partition, output, outgoing)) is not None:
            return ready
        self._outputs.hold(output, outgoing)
        output.check(self.stash.end)
        return None

    def lineage_end(self) -> int:
        """End of the lineage that an output made now relies on (whole batches).

        A name for one rule, as are `chunk_start` and others: the simulator's mutants replace it.
        """
        return self.stash.end

    def chunk_start(self, output: Output) -> int:
        """Chunk rule: only what went to this very partition before is surely durable first."""
        return max(self.stash.stable, output.sent)

    def fits(self, chunk: bytes | None) -> bool:
        """Whether a chunk may travel in a header (cap, protocol section 4)."""
        return chunk is None or len(chunk) <= self._header_bytes_max

    def _attach(self, partition: OutPartition, output: Output, held: Held) -> Outgoing | None:
        chunk: bytes | None = None
        if self._is_logging and output.has_lineage:
            start = self.chunk_start(output)
            if start < held.lineage_end:
                chunk = self.stash.chunk(start, held.lineage_end)
            if not self.fits(chunk):
                return None
            output.sent = max(output.sent, held.lineage_end)
        assert not output.in_flight or output.in_flight[-1] <= held.position, "sent out of order"
        output.in_flight.append(held.position)
        first_seq, count, payload = held.first_seq, held.count, held.payload
        return Outgoing(partition, held.position, first_seq, count, chunk=chunk, payload=payload)

    # -- lineage, later --------------------------------------------------------------------------

    def take_segments(self) -> list[Segment]:
        """Lineage to append to the lineage topic now, in order; empty when there is none."""
        segments: list[Segment] = []
        while (taken := self.stash.take_segment()) is not None:
            self._segment_number += 1
            segments.append(Segment(self.incarnation, self.task, self._segment_number, *taken))
        return segments

    def on_segment_acked(self, end: int) -> list[Outgoing]:
        """The lineage topic acknowledged everything before `end`; returns outputs now free."""
        self.stash.mark_stable(end)
        return self.release_held()

    def release_held(self) -> list[Outgoing]:
        """Return the held outputs whose chunk fits now, in order per partition."""
        released: list[Outgoing] = []
        if not self._outputs.held_count:
            return released
        self._check()
        for partition, output in sorted(self._outputs.unsettled.items()):
            while output.held:
                ready = self._attach(partition, output, output.held[0])
                if ready is None:
                    break
                self._outputs.let_go(output)
                released.append(ready)
            output.check(self.stash.end)
        self._outputs.check()
        return released

    @property
    def held_count(self) -> int:
        """Outputs, one a batch and partition, that the cap holds back."""
        return self._outputs.held_count

    def is_held_through(self, position: int) -> bool:
        """Whether the cap holds a sink output of a position up to this one."""
        return self._outputs.is_held_through(position)

    @property
    def stable(self) -> int:
        """End of the stable lineage; at most `position` in what it means for outputs."""
        return min(self.stash.stable, self.position)

    # -- acknowledgements ------------------------------------------------------------------------

    def on_output_acked(self, partition: OutPartition, position: int, offset: int | None) -> None:
        """The last record of what one `Outgoing` held was acknowledged: the oldest in flight.

        Without an offset it is durable all the same; a scan starts before it then.
        """
        output = self._outputs.of(partition)
        output.on_acked(position, offset)
        output.check(self.stash.end)
        self.scans.has_moved = True
        if not output.is_sink:
            self._settle(partition, output, self.hint_limit())

    def on_committed(self, position: int) -> None:
        """A transaction with all sink outputs up to `position` was committed."""
        self.scans.has_moved = True
        for partition, output in list(self._outputs.unsettled.items()):
            if output.is_sink:
                self._settle(partition, output, position)

    def on_idle_end(self, partition: OutPartition, end_offset: int) -> None:
        """An output partition ended there, now or some time ago: it counts while the task is idle.

        What the task wrote after it since is settled by now, and needs no scan either.
        """
        if self.is_idle_at(partition):
            self.scans.move(partition, end_offset)

    def is_idle_at(self, partition: OutPartition) -> bool:
        """Whether nothing of this task is unacknowledged (sinks: uncommitted) or unstable here.

        Never true of a transactional sink, whose tail nobody scans.
        """
        if partition in self._outputs.unsettled or self.position > self.stash.stable:
            return False
        return self._outputs.carries_lineage(partition)

    def outputs_done_through(self) -> int:
        """Position through which all outputs are acknowledged (sinks: committed)."""
        return self._outputs.done_through(self.over)

    def may_publish_checkpoint(self, position: int) -> bool:
        """Conditions (i) and (iii) of protocol section 5 for a checkpoint at `position`."""
        return self.outputs_done_through() >= position and self.stable >= position

    def _settle(self, partition: OutPartition, output: Output, limit: int) -> None:
        # Internal outputs wait for stable lineage, sinks for the commit (which implies it).
        self.scans.pass_acked(partition, output, limit)
        if output.is_settled:
            self._outputs.unsettled.pop(partition, None)

    def hint_limit(self) -> int:
        """Records up to this position may be skipped by a scan: their lineage is stable (H30)."""
        return self.stable

    # -- what others need ------------------------------------------------------------------------

    def scan_from(self) -> dict[OutPartition, int]:
        """Per output partition, where a recovery may start its scan."""
        limit = self.hint_limit()
        for partition, output in list(self._outputs.unsettled.items()):
            if not output.is_sink:
                self._settle(partition, output, limit)
        return self.scans.offsets()

    def take_hint(self, *, is_repeated: bool = False) -> Hint | None:
        """The HINT to append now, or None when nothing moved since the last one.

        `is_repeated`: give it anyway, to write something at all (H23).
        """
        offsets, checked = self.scan_from(), self.checked()
        # What is acknowledged and not yet stable will move with the next acknowledged segment.
        self.scans.has_moved = bool(self._outputs.unsettled)
        # What scans skip moves with the offsets; records that no scan sees have the hashes alone.
        said = checked if self._has_unscanned else None
        if not self.scans.is_news(offsets, said) and not is_repeated:
            return None
        return self.scans.hint(offsets, self.stable, checked)

    def sequences(self) -> dict[OutPartition, int]:
        """Last sequence per output partition at the current position."""
        return self._outputs.sequences()

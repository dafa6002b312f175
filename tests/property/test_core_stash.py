"""The stash against a model that knows what every position was. Source: protocol, section 4; H4."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kstash.core.determinants import (
    Attachment,
    Consumed,
    Determinant,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
    end_of,
)
from kstash.core.lineage_codec import decode_lineage
from kstash.core.stash import Stash
from tests.unit.core_cases import CLOCK_READ

Facts = dict[tuple[int, ...], tuple[object, ...]]
"""What is known, one fact a position, and one an attachment."""


def facts_of(entries: Iterable[Determinant]) -> Facts:
    """Lineage spelt out: nothing is left of how it was cut."""
    facts: Facts = {}
    for entry in entries:
        if isinstance(entry, Consumed):
            last = entry.position + entry.count - 1
            for position in range(entry.position, last + 1):
                end = entry.end_offset if position == last else None
                facts[position,] = ("record", entry.input, end)
        elif isinstance(entry, Tick):
            facts[entry.position,] = ("tick", entry.now_ms)
        elif isinstance(entry, MergedBatch):
            facts[entry.position,] = ("merged", entry.parts)
        elif isinstance(entry, Attachment):
            facts[entry.position, entry.index, entry.k] = ("attached", entry.payload)
    return facts


def between(facts: Facts, start: int, end: int) -> Facts:
    """Facts about the positions `[start, end)`."""
    return {key: fact for key, fact in facts.items() if start <= key[0] < end}


class StashMachine(RuleBasedStateMachine):
    """Appends, flushes, acknowledges and asks for chunks in any order."""

    @initialize(implicit=st.booleans(), start=st.integers(0, 5))
    def begin(self, implicit: bool, start: int) -> None:
        """A task with one input, or with several; live from `start` on."""
        self.implicit = implicit
        self.stash = Stash(implicit=implicit, stable=start, end=start)
        self.facts: Facts = {}
        self.acked: set[tuple[int, ...]] = set()
        self.bounds = [start]
        self.in_flight: list[tuple[int, Facts]] = []
        self.done: list[int] = []
        self.next_offset = 0

    @rule(events=st.lists(st.tuples(st.sampled_from("rrtsma"), st.integers(1, 5)), min_size=1))
    def append(self, events: list[tuple[str, int]]) -> None:
        """A batch of whole events of all kinds, some with an attachment; or nothing of them."""
        at = self.stash.end
        entries: list[Determinant] = []
        for kind, count in events:
            self.next_offset += count + 1
            if kind == "a":
                entries.append(Attachment(at, 0, count, CLOCK_READ, b"%d" % at))
            if kind == "t":
                entries.append(Tick(at, count))
                count = 1
            elif kind == "m":
                place = InputPlace(self.next_offset, 0, count)
                entries.append(MergedBatch(at, (MergedInput(count % 2, count, place),)))
                entries.append(Attachment(at + count - 1, 0, 0, CLOCK_READ, b"m"))
            else:
                entries.append(Consumed(at, count % 2, count, self.next_offset))
            at += count
        if self.implicit:
            entries = []
        self.stash.append(entries, at)
        self.facts |= facts_of(entries)
        self.bounds.append(at)

    @rule()
    def flush(self) -> None:
        """Hand out a segment: it begins where the last one ended, and leaves nothing out."""
        before = self.stash.flushed
        taken = self.stash.take_segment()
        if taken is None:
            assert not between(self.facts, before, self.stash.end)
            return
        start, end, entries = taken
        assert start == before
        assert end in self.bounds
        assert facts_of(entries) == between(self.facts, start, end)
        self.in_flight.append((end, facts_of(entries)))

    @rule()
    def acknowledge(self) -> None:
        """The oldest segment in flight is acknowledged: the producer keeps the order."""
        if self.in_flight:
            end, facts = self.in_flight.pop(0)
            self.stash.mark_stable(end)
            self.acked |= facts.keys()
            self.done.append(end)

    @rule(pick=st.integers(0, 99))
    def acknowledge_again(self, pick: int) -> None:
        """A repeated acknowledgement changes nothing."""
        if self.done:
            before = self.stash.stable
            self.stash.mark_stable(self.done[pick % len(self.done)])
            assert self.stash.stable == before

    @rule(low=st.integers(0, 99), high=st.integers(0, 99))
    def ask_for_a_chunk(self, low: int, high: int) -> None:
        """A chunk from any position that is not stable yet to the end of any batch."""
        bounds = [b for b in self.bounds if b >= self.stash.stable]
        if not bounds:
            return
        end = bounds[high % len(bounds)]
        start = min(self.stash.stable + low, end)
        if self.is_within_merged(start):
            return
        expected = between(self.facts, start, end)
        encoded = self.stash.chunk(start, end)
        if encoded is None:
            assert not expected
            return
        chunk = decode_lineage(encoded)
        assert (chunk.start, chunk.end) == (start, end)
        assert facts_of(chunk.entries) == expected

    def is_within_merged(self, position: int) -> bool:
        """Whether a position lies within a batch that is one."""
        return any(
            isinstance(entry, MergedBatch) and entry.position < position < end_of(entry)
            for entry in self.stash._entries
        )

    @invariant()
    def everything_that_is_not_stable_is_there(self) -> None:
        """The stash holds the lineage of `[stable, end)` and nothing else."""
        if not hasattr(self, "stash"):
            return
        stash = self.stash
        assert stash.stable <= stash.flushed <= stash.end == self.bounds[-1]
        assert facts_of(stash._entries) == between(self.facts, stash.stable, stash.end)

    @invariant()
    def only_what_is_acknowledged_is_stable(self) -> None:
        """H4: below `stable` every determinant was in an acknowledged segment."""
        if hasattr(self, "stash"):
            assert between(self.facts, 0, self.stash.stable).keys() <= self.acked

    @invariant()
    def what_is_acknowledged_is_stable(self) -> None:
        """And an acknowledgement is not forgotten."""
        if hasattr(self, "stash") and self.done:
            assert self.stash.stable >= self.done[-1]


TestStash = StashMachine.TestCase
TestStash.settings = settings(stateful_step_count=30)

"""Mutants of the rules for flushes: when one may come, and what is logged of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kstash.core.determinants import UNKNOWN_OFFSET, Consumed, Determinant, Flush, end_of
from kstash.core.replay import Replay
from kstash.core.stash import Stash
from tests.simulation import shapes
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch


def _flushes_at_once(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.flushes_at_once = True
    return mutations


def _ends_before_flushes(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.ends_before_flushes = True
    return mutations


def _as_records(patch: Patch) -> Mutations:
    def append(stash: Stash, entries: Sequence[Determinant], end: int) -> None:
        logged = [
            Consumed(entry.position, 0, 1, UNKNOWN_OFFSET) if isinstance(entry, Flush) else entry
            for entry in entries
        ]
        before(stash, logged, end)

    before = patch.set(Stash, "append", append)
    return Mutations()


def _of_any_operator(patch: Patch) -> Mutations:
    def next_event(replay: Replay, position: int, most: int) -> Any:
        event = before(replay, position, most)
        return Flush(event.position, 0) if isinstance(event, Flush) else event

    before = patch.set(Replay, "next_event", next_event)
    return Mutations()


def _after_records(patch: Patch) -> Mutations:
    def next_event(replay: Replay, position: int, most: int) -> Any:
        entries = replay._entries
        while entries and end_of(entries[0]) <= position:
            entries.popleft()
        if len(entries) > 1:
            flush, run = entries[0], entries[1]
            if (
                isinstance(flush, Flush)
                and isinstance(run, Consumed)
                and (flush.position, run.position) == (position, position + 1)
            ):
                entries.popleft()
                entries.popleft()
                if run.count > 1:
                    entries.appendleft(
                        Consumed(position + 2, run.input, run.count - 1, run.end_offset)
                    )
                entries.appendleft(Flush(position + 1, flush.operator))
                entries.appendleft(Consumed(position, run.input, 1, UNKNOWN_OFFSET))
        return before(replay, position, most)

    before = patch.set(Replay, "next_event", next_event)
    return Mutations()


FLUSH_MUTANTS = (
    Mutant("V39", "flushes wait for the ends", _flushes_at_once, shapes.ENDS_OF_EVENTS),
    Mutant("V40", "that a flush came is logged", _as_records, shapes.EVENTS),
    Mutant("V41", "a flush is of one operator", _of_any_operator, shapes.EVENTS),
    Mutant("V43", "END comes after what is flushed", _ends_before_flushes, shapes.ENDS_OF_FLUSHES),
    Mutant("V42", "a flush is where it was", _after_records, shapes.EVENTS),
)

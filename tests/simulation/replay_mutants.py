"""Mutants of the replay itself (`kstash/core/replay.py`), with the faults that it must refuse."""

from __future__ import annotations

from typing import Any

from kstash.core.determinants import UNKNOWN_OFFSET, Consumed
from kstash.core.replay import RecordsNext, Replay
from kstash.errors import LineageGapError
from tests.simulation import shapes
from tests.simulation.faults import ChangedInputs, Divergent, Holes
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch


def _uncut_at_commits(patch: Patch) -> Mutations:
    def cut_after(replay: Replay, _: int) -> int:
        checks = replay._checks
        return min(replay.adopted, checks[0].position) if checks else replay.adopted

    patch.set(Replay, "cut_after", cut_after)
    return Mutations()


def _suppresses_all_again(patch: Patch) -> Mutations:
    def suppressed(replay: Replay, out: Any, position: int, first: int, count: int) -> int:
        if out[0] in replay._internal:
            return count if position <= replay.adopted else 0
        return int(before(replay, out, position, first, count))

    before = patch.set(Replay, "suppressed", suppressed)
    return Mutations()


def _suppresses_whole_batches(patch: Patch) -> Mutations:
    def suppressed(replay: Replay, out: Any, position: int, first: int, count: int) -> int:
        return count if before(replay, out, position, first, count) else 0

    before = patch.set(Replay, "suppressed", suppressed)
    return Mutations()


def _sends_again_to_sinks(patch: Patch) -> Mutations:
    def suppressed(replay: Replay, out: Any, position: int, first: int, count: int) -> int:
        if out[0] not in replay._internal:
            return 0
        return int(before(replay, out, position, first, count))

    before = patch.set(Replay, "suppressed", suppressed)
    return Mutations()


def _only_records_follow(patch: Patch) -> Mutations:
    def next_event(replay: Replay, position: int, most: int) -> Any:
        event = before(replay, position, most)
        entry = replay._entries[0] if replay._entries else None
        if replay._only_input is None or (entry is not None and entry.position <= position):
            return event
        left = replay.adopted - position
        count = replay._count(position, most, left)
        return RecordsNext(event.input, count, left, UNKNOWN_OFFSET, position)

    before = patch.set(Replay, "next_event", next_event)
    # What was logged there is records too, or the task would log all of it: the end is left out.
    return ChangedInputs(patch)


def _runs_begin_anew(patch: Patch) -> Mutations:
    def next_of(replay: Replay, entry: Any, position: int, most: int) -> Any:
        if not isinstance(entry, Consumed):
            return before(replay, entry, position, most)
        count = min(entry.count, most)
        return RecordsNext(entry.input, count, entry.count, UNKNOWN_OFFSET, entry.position)

    before = patch.set(Replay, "_next_of", next_of)
    return Mutations()


def _answers_of_any_record(patch: Patch) -> Mutations:
    def attachment(replay: Replay, position: int, index: int, k: int, kind: int) -> bytes:
        same = [a for a in replay._attachments.values() if a.kind == kind]
        if not same:
            return bytes(before(replay, position, index, k, kind))
        return min(same, key=lambda a: (a.position, a.index, a.k)).payload

    before = patch.set(Replay, "attachment", attachment)
    return Mutations()


def _nothing_compared(patch: Patch) -> Mutations:
    patch.set(Replay, "compare", lambda *_: None)
    return Divergent(patch)


def _uncut_at_hashes(patch: Patch) -> Mutations:
    def cut_after(replay: Replay, position: int) -> int:
        is_open = position < replay.committed
        return min(replay.adopted, replay.committed) if is_open else replay.adopted

    patch.set(Replay, "cut_after", cut_after)
    return Divergent(patch)


def _ends_not_verified(patch: Patch) -> Mutations:
    patch.set(Replay, "verify", lambda *_: None)
    return ChangedInputs(patch)


def _merges_not_verified(patch: Patch) -> Mutations:
    patch.set(Replay, "verify_merged", lambda *_: None)
    return ChangedInputs(patch)


def _holes_are_records(patch: Patch) -> Mutations:
    def next_event(replay: Replay, position: int, most: int) -> Any:
        try:
            return before(replay, position, most)
        except LineageGapError:
            return RecordsNext(0, 1, 1, UNKNOWN_OFFSET, position)

    before = patch.set(Replay, "next_event", next_event)
    return Holes()


REPLAY_MUTANTS = (
    Mutant("H32b", "batches end at the commit", _uncut_at_commits),
    Mutant("V28", "of frames what is out is known", _suppresses_all_again),
    Mutant("V29", "the rest of a batch goes out", _suppresses_whole_batches),
    Mutant("V30", "what sinks have is not repeated", _sends_again_to_sinks),
    Mutant(
        "V31",
        "what follows ends at entries",
        _only_records_follow,
        shapes.CHANGED_RELEASES,
        (),
        True,
    ),
    Mutant("V32", "a run goes on where it was", _runs_begin_anew, shapes.EVENTS),
    Mutant("V33", "answers are of their record", _answers_of_any_record, shapes.ASKING),
    Mutant("V34", "what scans find is compared", _nothing_compared, shapes.DIVERGENT, (), True),
    Mutant("V35", "batches end where hashes are", _uncut_at_hashes, shapes.DIVERGENT, (), True),
    Mutant("V36", "ends of runs are verified", _ends_not_verified, shapes.CHANGED, (), True),
    Mutant("V37", "merges are verified", _merges_not_verified, shapes.CHANGED_MERGED, (), True),
    Mutant("V38", "holes are refused", _holes_are_records, shapes.HOLES, (), True),
)

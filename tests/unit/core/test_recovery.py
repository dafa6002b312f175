"""From lineage and scanned tails to a replay plan. Source: protocol, sections 6.4 and 6.5."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kstash.core.determinants import UNKNOWN_OFFSET, Consumed, Determinant, Tick
from kstash.core.ids import NO_INCARNATION, Incarnation
from kstash.core.lineage import LineageView, owners_of, release_covers
from kstash.core.lineage_codec import Lineage
from kstash.core.plan import TaskPlan, TaskSpec
from kstash.core.reader import ReaderState
from kstash.core.records import Checkpoint, Hint, Release, Start
from kstash.core.recovery import candidates, plan_task, scan_starts, skipped_floor
from kstash.core.tail_scan import TailScan
from kstash.core.wire import Fence
from kstash.errors import LineageGapError
from tests.unit.core_cases import (
    APP,
    GENERATION,
    OTHER,
    OUT,
    SINK_SPEC,
    SPEC,
    TASK,
    checkpoint,
    claim,
    config,
    identity,
    inc,
    segment,
    start,
    view_of,
)

IMPLICIT = replace(SPEC, implicit=True)


def chunk(first: int, end: int, *entries: Determinant) -> Lineage:
    """A chunk; one run of input 0 by default."""
    return Lineage(first, end, entries or (Consumed(first, 0, end - first, end),))


def plan(
    view: LineageView,
    chain: list[Start],
    scan: TailScan,
    *,
    spec: TaskSpec = SPEC,
    base: Checkpoint | None = None,
    committed: int = 0,
) -> TaskPlan:
    """The plan of the one task."""
    return plan_task(
        view, spec, application=APP, chain=chain, base=base, scan=scan, committed=committed
    )


KNOWN = frozenset(inc(offset) for offset in range(60))
"""Incarnations that have a START."""


def scan_of(spec: TaskSpec = SPEC, at: int = 0, oldest: Incarnation | None = None) -> TailScan:
    """A scan of all outputs from an offset on."""
    starts = dict.fromkeys(spec.scanned_outputs, (at, oldest or inc(0)))
    return TailScan(spec, starts=starts, known=KNOWN)


# -- checkpoints ---------------------------------------------------------------------------------


def test_the_best_checkpoint_comes_first() -> None:
    """Section 6.4: the highest position; of two there, the newer record."""
    view = view_of(config(), claim(), start(1))
    one, two, three = (checkpoint(1, p, number=n) for n, p in enumerate((10, 30, 30)))
    for offset, record in enumerate((one, two, three), 3):
        view.fold(offset, record)
    assert candidates(view, TASK, [start(1)]) == [three, two, one]


def test_h25_a_checkpoint_of_an_abandoned_branch_is_no_base() -> None:
    """H25: its incarnation must be on the START chain."""
    off_chain = checkpoint(3, 10)
    view = view_of(config(), (1, claim()), start(1), (3, claim()), off_chain)
    assert candidates(view, TASK, [start(1)]) == []
    assert candidates(view, TASK, [start(1), start(3, 1)]) == [off_chain]


def test_h25_a_checkpoint_beyond_a_later_x_is_no_base() -> None:
    """H25: c must not exceed the x of any later START, or its state holds what was given up."""
    taken = checkpoint(1, 10)
    view = view_of(config(), claim(), start(1), taken)
    assert candidates(view, TASK, [start(1), start(5, 1, adopted=10)]) == [taken]
    assert candidates(view, TASK, [start(1), start(5, 1, adopted=9)]) == []
    cut_back = [start(1), start(5, 1, adopted=20), start(8, 5, adopted=9)]
    assert candidates(view, TASK, cut_back) == []


def test_its_own_x_does_not_limit_a_checkpoint() -> None:
    """A checkpoint lies after the x of its own START, always."""
    own = checkpoint(5, 30)
    view = view_of(config(), (5, claim()), own)
    assert candidates(view, TASK, [start(1), start(5, 1, adopted=10)]) == [own]


def test_h57_what_was_written_without_fences_is_no_history() -> None:
    """H57: a scan takes nothing of it, whatever position and number it names."""
    scan = scan_of()
    late = replace(identity(NO_INCARNATION, 9), position=999)
    assert not scan.on_record(SPEC.internal_outputs[0], 5, late, None)
    assert scan.position == 0
    assert scan.last_valid(APP) == {}


# -- scan starts ---------------------------------------------------------------------------------


def test_scans_start_at_the_beginning_without_anything_better() -> None:
    """H26: and then everything of an older generation is void."""
    assert scan_starts(view_of(config()), SPEC, None) == {OUT: (0, Incarnation(GENERATION, 0))}


def test_scans_start_at_the_newest_valid_hint() -> None:
    """The hint when it is further on than the base's `scan_from`, else that one."""
    view = view_of(config(), (2, claim()), Hint(inc(2), TASK, 1, {OUT: 50}, 0))
    base = checkpoint(2, 10, scan_from={OUT: 40})
    assert scan_starts(view, SPEC, base) == {OUT: (50, inc(2))}
    base = checkpoint(2, 10, scan_from={OUT: 60})
    assert scan_starts(view, SPEC, base) == {OUT: (60, inc(2))}
    assert scan_starts(view, SPEC, None) == {OUT: (50, inc(2))}


def test_a_damaged_remote_checkpoint_tells_scan_starts_too() -> None:
    """S9: the purge goes by the newest one, and what it skips is adopted all the same."""
    older, newest = checkpoint(2, 10, is_remote=True), checkpoint(2, 20, number=2, is_remote=True)
    newest = replace(newest, scan_from={OUT: 60}, reached=20)
    local = checkpoint(2, 30, number=3, scan_from={OUT: 90})
    view = view_of(config(), (2, claim()), start(2), older, newest, local)
    assert scan_starts(view, SPEC, older) == {OUT: (60, inc(2))}
    assert skipped_floor(view, SPEC, owners_of([start(2)], TASK.stage), older) == 20


def test_h10_who_vouches_for_a_scan_start() -> None:
    """H10: a start may lie after a FENCE, so what is older than its writer is void from there."""
    view = view_of(config(), (9, claim()), Hint(inc(9), TASK, 1, {OUT: 50}, 0))
    starts = scan_starts(view, SPEC, checkpoint(2, 10, scan_from={OUT: 40}))
    assert starts == {OUT: (50, inc(9))}
    scan = TailScan(SPEC, starts=starts, known=KNOWN)
    assert not scan.on_record(OUT, 51, identity(inc(2), 7), chunk(0, 5))
    assert scan.on_record(OUT, 52, identity(inc(9), 7), None)


def test_h10_who_vouches_for_a_scan_start_never_falls() -> None:
    """H10: a start further on that an older incarnation gave lies after the newer one's FENCE too.

    The hint of 2 is further on than the scan start that 9 said; what 5 wrote is void all the same.
    """
    view = view_of(config(), (2, claim()), Hint(inc(2), TASK, 1, {OUT: 50}, 0), (9, claim()))
    newer = checkpoint(9, 10, is_remote=True, scan_from={OUT: 40})
    view.fold(view.next_offset, newer)
    starts = scan_starts(view, SPEC, newer)
    assert starts == {OUT: (50, inc(9))}
    scan = TailScan(SPEC, starts=starts, known=KNOWN)
    assert not scan.on_record(OUT, 51, identity(inc(5), 7), chunk(0, 5))
    assert scan.on_record(OUT, 52, identity(inc(9), 7), None)


def test_partitions_that_are_not_scanned_have_no_start() -> None:
    """A hint of an output that is gone (or is not scanned) is left alone."""
    view = view_of(config(), (2, claim()), Hint(inc(2), TASK, 1, {(5, 5): 50}, 0))
    assert list(scan_starts(view, SPEC, None)) == [OUT]


# -- tail scans ----------------------------------------------------------------------------------


def test_a_scan_takes_chunks_sequences_and_positions() -> None:
    """Section 6.5: chunks, the last valid sequence, the highest position."""
    scan = scan_of()
    assert scan.on_record(OUT, 0, identity(inc(1), 1, 3, position=5), chunk(0, 5))
    assert scan.on_record(OUT, 1, identity(inc(1), 4, position=7), None)
    assert scan.position == 7
    assert scan.chunks == [(inc(1), chunk(0, 5))]
    assert scan.last_valid(APP) == {OUT: 4}


def test_a_scan_applies_the_reader_rule() -> None:
    """Valid = accepted: what a reader drops tells nothing (H9), neither chunk nor position."""
    scan = scan_of()
    scan.on_marker(OUT, 0, Fence(APP, ((TASK.partition, inc(5)),)))
    assert not scan.on_record(OUT, 1, identity(inc(1), 1, position=9), chunk(0, 9))
    assert scan.on_record(OUT, 2, identity(inc(5), 1, position=2), chunk(0, 2))
    assert not scan.on_record(OUT, 3, identity(inc(5), 1, position=4), chunk(2, 4))
    assert (scan.position, scan.chunks) == (2, [(inc(5), chunk(0, 2))])


def test_a_scan_ignores_what_lies_before_its_start() -> None:
    """Several scans share one pass: each looks at its own range only."""
    scan = scan_of(at=10)
    scan.on_marker(OUT, 9, Fence(APP, ((TASK.partition, inc(5)),)))
    assert not scan.on_record(OUT, 9, identity(inc(1), 1), None)
    assert not scan.on_record(OTHER, 11, identity(inc(1), 1), None)
    assert scan.on_record(OUT, 11, identity(inc(1), 8), None)
    assert scan.last_valid(APP) == {OUT: 8}


def test_sinks_have_no_last_valid_sequence() -> None:
    """H32: on sinks the committed position decides what replay suppresses."""
    scan = scan_of(SINK_SPEC)
    assert scan.on_record(OUT, 0, identity(inc(1), 1, position=3), chunk(0, 3))
    assert scan.last_valid(APP) == {}
    assert scan.position == 3


# -- plans ---------------------------------------------------------------------------------------


def test_the_first_start_of_all() -> None:
    """Nothing in the topic: an empty state at position 0."""
    made = plan(view_of(config()), [], scan_of())
    assert (made.base, made.position, made.adopted, made.stable) == (None, 0, 0, 0)
    assert (made.lineage, made.owners, made.last_valid) == ((), (), {OUT: 0})


def test_lineage_in_the_topic_is_replayed() -> None:
    """X is the end of the contiguous determinants; all of it is stable."""
    view = view_of(config(), claim(), start(1), segment(1, 1, 0, 5), segment(1, 2, 5, 8))
    made = plan(view, [start(1)], scan_of())
    assert (made.adopted, made.stable) == (8, 8)
    assert made.lineage == (Consumed(0, 0, 5, 5), Consumed(5, 0, 3, 8))


def test_a_gap_ends_the_history() -> None:
    """I3: a SEG after a lost one cannot be replayed, and nobody has seen what relies on it."""
    view = view_of(config(), claim(), start(1), segment(1, 1, 0, 5), segment(1, 3, 8, 9))
    assert plan(view, [start(1)], scan_of()).adopted == 5


def test_headers_fill_what_the_topic_lacks() -> None:
    """One hop is enough: chunks of valid outputs go on where the topic ends."""
    view = view_of(config(), claim(), start(1), segment(1, 1, 0, 5))
    scan = scan_of()
    scan.on_record(OUT, 0, identity(inc(1), 1, 3, position=9), chunk(5, 9))
    made = plan(view, [start(1)], scan)
    assert (made.adopted, made.stable) == (9, 5)
    assert made.last_valid == {OUT: 3}
    assert made.lineage == (Consumed(0, 0, 5, 5), Consumed(5, 0, 4, 9))


def test_a_valid_output_without_its_lineage_refuses_to_start() -> None:
    """Section 7: what readers have seen must be made again; if it cannot, LineageGapError."""
    view = view_of(config(), claim(), start(1), segment(1, 1, 0, 5))
    scan = scan_of()
    scan.on_record(OUT, 0, identity(inc(1), 1, 3, position=9), chunk(7, 9))
    with pytest.raises(LineageGapError, match=r"position 9.*only through 5"):
        plan(view, [start(1)], scan)
    with pytest.raises(LineageGapError):
        plan(view, [start(1)], scan_of(), committed=6)


def test_replay_starts_at_the_base() -> None:
    """The base's position, offsets, sequences and reader states; lineage from there on."""
    table = ReaderState(True, {(APP, 0): inc(1)}, {(APP, TASK): 4})
    base = checkpoint(1, 5, inputs={0: 70, 1: 20}, sequences={OUT: 12}, readers={1: table})
    view = view_of(config(), claim(), start(1), segment(1, 1, 0, 8), base)
    first = start(1, initial={0: 33, 1: 3, 2: 9})
    made = plan(view, [first], scan_of(), base=base)
    assert (made.base, made.position, made.adopted) == (base, 5, 8)
    assert made.lineage == (Consumed(5, 0, 3, 8),)
    assert made.input_offsets == {0: 70, 1: 20, 2: 9}
    assert made.sequences == {OUT: 12}
    assert made.last_valid == {OUT: 12}
    assert made.readers == {1: table}
    assert made.readers[1] is not table


def test_h36_a_scan_that_ends_below_the_base_takes_no_sequence_back() -> None:
    """Its last record may be a repetition, by who lacked the base: replay suppresses up to it."""
    base = checkpoint(1, 5, sequences={OUT: 12})
    view = view_of(config(), (1, claim()), start(1), segment(1, 1, 0, 5), base)
    scan = scan_of(at=40)
    assert scan.on_record(OUT, 41, identity(inc(2), 3, 2, position=2), None)
    assert plan(view, [start(1)], scan, base=base).last_valid == {OUT: 12}
    assert scan.on_record(OUT, 42, identity(inc(2), 5, 9, position=5), None)
    assert plan(view, [start(1)], scan, base=base).last_valid == {OUT: 13}


def test_without_a_base_inputs_start_where_the_last_start_says() -> None:
    """Section 3: each START carries the initial offsets on; what it left out is given up."""
    chain = [start(1, initial={0: 33, 1: 7}), start(4, 1, initial={0: 33})]
    assert plan(view_of(config()), chain, scan_of()).input_offsets == {0: 33}


def test_h9_the_parents_x_cuts_the_grandparents_lineage() -> None:
    """H9: positions after x belong to the parent, whatever the grandparent logged there."""
    view = view_of(
        config(),
        claim(),
        start(1),
        segment(1, 1, 0, 9, Consumed(0, 0, 9, 9)),
        start(5, 1, adopted=6),
        segment(5, 1, 6, 8, Consumed(6, 1, 2, 2)),
    )
    made = plan(view, [start(1), start(5, 1, adopted=6)], scan_of())
    assert made.lineage == (Consumed(0, 0, 6, UNKNOWN_OFFSET), Consumed(6, 1, 2, 2))
    assert made.adopted == 8


def test_h29_what_the_parent_adopted_is_history_even_if_nobody_restated_it() -> None:
    """H29: a parent whose adopted lineage is nowhere is a gap, not a shorter history."""
    view = view_of(config(), claim(), start(1), segment(1, 1, 0, 4))
    with pytest.raises(LineageGapError):
        plan(view, [start(1), start(5, 1, adopted=6)], scan_of())


def test_h36_outputs_of_a_single_input_task_carry_x() -> None:
    """H36: a valid output's position is adopted although its task logs no records."""
    scan = scan_of(SINK_SPEC)
    scan.on_record(OUT, 0, identity(inc(1), 1, position=9), None)
    made = plan(view_of(config()), [start(1)], scan, spec=replace(SINK_SPEC, implicit=True))
    assert (made.adopted, made.stable) == (9, 9)
    assert made.lineage == ()


def test_h36_the_committed_position_carries_x() -> None:
    """H36: so does what was committed, and what the parent adopted."""
    view = view_of(config())
    assert plan(view, [start(1)], scan_of(), spec=IMPLICIT, committed=7).adopted == 7
    chain = [start(1), start(5, 1, adopted=8)]
    assert plan(view, chain, scan_of(), spec=IMPLICIT, committed=7).adopted == 8


def test_h36_what_a_hint_skips_was_reached() -> None:
    """H36: headers after the scan start are not seen, so the hint says how far they reach."""
    hint = Hint(inc(1), TASK, 1, {OUT: 50}, 9)
    view = view_of(config(), claim(), start(1), hint)
    assert plan(view, [start(1)], scan_of(at=50), spec=IMPLICIT).adopted == 9
    # On an abandoned branch it says nothing beyond what the next START adopted.
    chain = [start(1), start(5, 1, adopted=6)]
    assert plan(view, chain, scan_of(at=50), spec=IMPLICIT).adopted == 6


def logging(offset: int, parent: int | None = None, *, adopted: int = 0) -> Start:
    """A START of an incarnation that logs runs of the only input."""
    made = start(offset, parent, adopted=adopted)
    return replace(made, tasks={s: replace(t, logs=True) for s, t in made.tasks.items()})


def test_the_only_input_decides_what_was_not_logged() -> None:
    """What no incarnation that logs has made needs no determinant, also for one that does."""
    chain = [start(1), logging(5, 1, adopted=6)]
    view = view_of(
        *(config(), claim(), chain[0], claim(), chain[1]),
        segment(5, 1, 6, 9, Consumed(6, 0, 2, 20), Tick(8, 100)),
    )
    made = plan(view, chain, scan_of(), spec=replace(IMPLICIT, logs=True))
    assert (made.adopted, made.stable, made.logs) == (9, 9, True)
    assert made.lineage == (Consumed(6, 0, 2, 20), Tick(8, 100))
    assert made.logs_runs(1)
    quiet = plan(view, chain, scan_of(), spec=IMPLICIT)
    assert quiet.logs is False
    assert not quiet.logs_runs(1)
    assert quiet.logs_runs(2), "which of two comes next must be logged"


def test_a_gap_of_who_logs_is_a_gap() -> None:
    """An incarnation that logs runs has made no record that it did not log, of one input too."""
    chain = [start(1), logging(5, 1, adopted=6)]
    view = view_of(config(), claim(), *chain, segment(5, 1, 7, 9, Tick(8, 100)))
    assert plan(view, chain, scan_of(), spec=IMPLICIT).adopted == 6
    scan = scan_of(IMPLICIT)
    scan.on_record(OUT, 0, identity(inc(5), 1, position=9), chunk(7, 9, Tick(8, 100)))
    with pytest.raises(LineageGapError, match="known only through 6"):
        plan(view, chain, scan, spec=IMPLICIT)


def test_who_logs_nothing_goes_on_from_who_did() -> None:
    """After the adopted end of one that logged, positions follow from the input again."""
    chain = [logging(1), start(5, 1, adopted=4)]
    view = view_of(config(), claim(), *chain, segment(1, 1, 0, 4, Consumed(0, 0, 4, 9)))
    scan = scan_of(IMPLICIT)
    scan.on_record(OUT, 0, identity(inc(5), 1, position=9), None)
    made = plan(view, chain, scan, spec=IMPLICIT)
    assert (made.adopted, made.stable) == (9, 9)


def test_what_only_a_header_holds_is_not_stable() -> None:
    """A tick that is in a chunk and in no segment is adopted, and logged again."""
    view = view_of(config(), claim(), logging(1), segment(1, 1, 0, 4, Consumed(0, 0, 4, 9)))
    scan = scan_of(IMPLICIT)
    scan.on_record(OUT, 0, identity(inc(1), 1, position=5), chunk(4, 5, Tick(4, 200)))
    made = plan(view, [logging(1)], scan, spec=IMPLICIT)
    assert (made.adopted, made.stable) == (5, 4)
    assert made.lineage == (Consumed(0, 0, 4, 9), Tick(4, 200))


def test_scan_starts_are_passed_on() -> None:
    """The new incarnation hints at them until it knows better."""
    assert plan(view_of(config()), [], scan_of(at=40)).scan_from == {OUT: 40}
    assert plan(view_of(config()), [], scan_of()).scan_from == {}


# -- releases ------------------------------------------------------------------------------------


def test_release_covers_its_own_checkpoint_only() -> None:
    """Section 7: the base is followed by RELEASE at its position, and by no later START."""
    base = checkpoint(1, 5)
    view = view_of(config(), claim(), start(1), base, Release(inc(1), {TASK.stage: 5}))
    assert release_covers(view, base, [start(1)])
    assert not release_covers(view, checkpoint(1, 4), [start(1)])
    assert not release_covers(view, base, [start(1), start(9, 1, adopted=5)])
    assert not release_covers(view_of(config()), base, [start(1)])


def test_h36_what_a_hint_skips_is_history() -> None:
    """H36: positions in headers before a scan's start are not seen; the hint says how far."""
    hint = Hint(inc(1), TASK, 1, {OUT: 50}, 12)
    view = view_of(config(), claim(), start(1), hint)
    assert plan(view, [start(1)], scan_of(IMPLICIT, 50), spec=IMPLICIT).adopted == 12
    # What the writer did past its successor's x is no history, whatever its hint says.
    chain = [start(1), start(5, 1, adopted=7)]
    assert plan(view, chain, scan_of(IMPLICIT, 50), spec=IMPLICIT).adopted == 7


def test_a_scan_asserts_what_it_hands_over() -> None:
    """Places rise, so the first one that reaches a position is the record that says it."""
    scan = TailScan(SPEC, starts={OUT: (0, inc(0))}, known={})
    scan._places = [(5, OUT, 1), (4, OUT, 2)]
    with pytest.raises(AssertionError, match="places out of order"):
        scan.last_valid(APP)
    scan._places = []
    scan._seen = {OUT: {inc(1): [[1, 1]]}}
    with pytest.raises(AssertionError, match="of an internal topic"):
        scan.last_valid(APP)

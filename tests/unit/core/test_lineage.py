"""What the lineage topic says about a task group. Source: protocol, section 6.4."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest

from kstash.core.determinants import UNKNOWN_OFFSET, Consumed
from kstash.core.ids import UNBOUNDED
from kstash.core.lineage import LineageView, Owner, OwnRecord, history_part, owners_of
from kstash.core.record_keys import encode_key
from kstash.core.records import BoundedRun, Claim, Gone, Hint, Release, Seal
from tests.unit.core_cases import (
    GENERATION,
    OUT,
    TASK,
    checkpoint,
    claim,
    config,
    inc,
    segment,
    start,
    view_of,
)

STAGE = TASK.stage


def test_the_config_with_the_lowest_offset_counts() -> None:
    """Section 4: two workers may both write a CONFIG; the first one is the generation."""
    view = view_of(config(100), config(200), claim())
    assert view.generation == 100
    assert view.claim == 2
    assert view.next_offset == 3


def test_offsets_may_have_gaps_but_never_go_back() -> None:
    """Compaction leaves gaps; reading the same record twice is a programmer's error."""
    view = view_of(config(), (5, claim()))
    assert (view.claim, view.next_offset) == (5, 6)
    with pytest.raises(AssertionError):
        view.fold(5, claim())


def test_h6_a_checkpoint_behind_a_higher_claim_is_void() -> None:
    """H6: a zombie's CKPT after its successor's CLAIM says nothing."""
    view = view_of(
        config(), claim(), checkpoint(1, 10), claim(), checkpoint(1, 20, number=2), claim()
    )
    assert [(offset, c.position) for offset, c in view.checkpoints[TASK]] == [(2, 10)]


def test_a_checkpoint_stays_valid_when_a_claim_follows() -> None:
    """H6: what counts is what lay before the checkpoint in the topic."""
    view = view_of(config(), claim(), claim(), checkpoint(2, 10), claim())
    assert len(view.checkpoints[TASK]) == 1


def test_h10_a_hint_behind_a_higher_claim_is_void() -> None:
    """H10: the newest hint before the next CLAIM stands."""
    view = view_of(
        config(),
        claim(),
        Hint(inc(1), TASK, 1, {OUT: 5}, 0),
        Hint(inc(1), TASK, 2, {OUT: 6}, 0),
        claim(),
        Hint(inc(1), TASK, 3, {OUT: 99}, 0),
    )
    assert view.hints[TASK].offsets == {OUT: 6}


def test_a_release_behind_a_higher_claim_is_void() -> None:
    """A zombie releases nothing."""
    view = view_of(config(), claim(), claim(), Release(inc(1), {STAGE: 5}))
    assert view.releases == {}
    view = view_of(config(), claim(), Release(inc(1), {STAGE: 5}))
    assert view.releases == {inc(1): (2, Release(inc(1), {STAGE: 5}))}


def test_what_was_given_up_does_not_count() -> None:
    """The cleaner takes the CLAIM that makes a record void before it comes to that record."""
    late = checkpoint(1, 9), Hint(inc(1), TASK, 1, {OUT: 5}, 0), Release(inc(1), {STAGE: 9})
    stays = checkpoint(1, 5, number=2)
    view = view_of(config(), claim(), *late, stays)
    assert len(view.checkpoints[TASK]) == 2
    for record in late:
        view.fold(view.next_offset, Gone(encode_key(record)))
    assert [c for _, c in view.checkpoints[TASK]] == [stays]
    assert (view.hints, view.releases, view.passing) == ({}, {}, {})


def test_a_claim_that_was_given_up_counts_while_it_is_there() -> None:
    """A CLAIM is not taken back; only nobody needs to give it up again."""
    view = view_of(config(), claim(), (4, claim()))
    view.fold(5, Gone(encode_key(claim())))
    assert (view.claim, view.claims) == (4, {})
    assert view.is_late(inc(1))


def everything(generation: int) -> list[OwnRecord]:
    """One record of each kind that an incarnation writes, of the CLAIM at 1."""
    writer = inc(1, generation)
    return [
        Seal(writer),
        replace(start(1), incarnation=writer),
        replace(segment(1, 1, 0, 5), incarnation=writer),
        Hint(writer, TASK, 1, {OUT: 5}, 5),
        replace(checkpoint(1, 5, is_remote=True), incarnation=writer),
        Release(writer, {STAGE: 5}, 7),
        BoundedRun(writer, 7, ()),
    ]


@pytest.mark.parametrize("generation", [GENERATION - 1, GENERATION + 1])
def test_h46_nothing_of_another_generation_counts(generation: int) -> None:
    """H46: a zombie of before a reset writes into the topic that was made anew, of any kind.

    Its CLAIM has any offset, so the test for late records would let it pass. The next recovery
    neither takes its START for a parent nor anything else; it is given up like what is void.
    """
    records = everything(generation)
    view = view_of(config(), claim(), *records)
    assert (view.starts, view.segments, view.hints, view.checkpoints) == ({}, {}, {}, {})
    assert (view.releases, view.runs) == ({}, [])
    assert set(view.passing) == {encode_key(record) for record in records}
    assert view.later_generation == (generation > GENERATION)
    assert view.parent_of(inc(9)) is None


def test_h46_before_the_config_nothing_counts() -> None:
    """H46: a zombie's record may come before the CONFIG of the topic that was made anew."""
    view = view_of(*everything(GENERATION - 1), config(), claim())
    assert (view.starts, view.hints, view.checkpoints, view.runs) == ({}, {}, {}, [])
    assert (view.generation, view.claim, len(view.passing)) == (GENERATION, 8, 7)


def test_h46_a_tombstone_of_another_generation_takes_nothing_away() -> None:
    """H46: a zombie gives up what it knows; keys name the incarnation."""
    own = everything(GENERATION)
    view = view_of(config(), claim(), *own)
    before = deepcopy(view)
    for record in everything(GENERATION - 1):
        view.fold(view.next_offset, Gone(encode_key(record)))
    view.fold(view.next_offset, Gone(encode_key(Claim(b"of before", "zombie"))))
    assert replace(view, next_offset=0) == replace(before, next_offset=0)


def test_a_segment_behind_a_higher_claim_is_information() -> None:
    """H3: a SEG after a later CLAIM is still a true history of its incarnation."""
    late = segment(1, 1, 0, 5)
    view = view_of(config(), claim(), claim(), late)
    assert view.segments == {TASK: [late]}


def test_runs_are_kept() -> None:
    """Section 8: RUN records of partition 0."""
    run = BoundedRun(inc(1), 9, (("in", 0, 5),))
    assert view_of(config(), claim(), run).runs == [run]
    assert view_of(config(), claim(), run, run).runs == [run]


def test_h47_a_run_behind_a_higher_claim_is_void() -> None:
    """H47: the RUN of a fenced owner of group 0 ends at inputs of long ago.

    It goes before the CLAIM that makes it void, and does not count when only its tombstone is left.
    """
    run, late = BoundedRun(inc(2), 9, (("in", 0, 25),)), BoundedRun(inc(1), 8, (("in", 0, 5),))
    view = view_of(config(), claim(), claim(), run, late)
    assert view.runs == [run]
    assert encode_key(late) in view.passing
    view = view_of(config(), (4, run), late, Gone(encode_key(late)))
    assert view.runs == [run]


def test_the_parent_is_the_highest_start_below() -> None:
    """Section 6.4: the parent of an incarnation is the highest START below it."""
    view = view_of(config(), start(1), start(4, 1), start(9, 4))
    assert view.parent_of(inc(9)) == view.starts[inc(4)]
    assert view.parent_of(inc(20)) == view.starts[inc(9)]
    assert view.parent_of(inc(1)) is None


def test_the_chain_follows_parents_not_offsets() -> None:
    """H9: a START that nobody took as parent is an abandoned branch."""
    view = view_of(config(), start(1), start(4, 1), start(6, 1), start(9, 6))
    chain = view.chain(view.parent_of(inc(20)))
    assert [s.incarnation.offset for s in chain] == [1, 6, 9]
    assert view.chain(None) == []


def test_a_trimmed_chain_begins_later() -> None:
    """STARTs below the oldest retained checkpoint are tombstoned; the rest of the chain stands."""
    view = view_of(config(), start(6, 1), start(9, 6))
    assert [s.incarnation.offset for s in view.chain(view.starts[inc(9)])] == [6, 9]


def test_owners_of_a_history() -> None:
    """H(n) = H(parent)[:x] + own, unrolled: who made which positions."""
    chain = [start(1), start(4, 1, adopted=10), start(9, 4, adopted=25)]
    assert owners_of(chain, STAGE) == [
        Owner(inc(1), 0, 10),
        Owner(inc(4), 10, 25),
        Owner(inc(9), 25, UNBOUNDED),
    ]


def test_owners_of_a_history_that_was_cut_back() -> None:
    """A later START that adopts less takes positions from all before it."""
    chain = [start(1), start(4, 1, adopted=10), start(9, 4, adopted=7)]
    assert owners_of(chain, STAGE) == [
        Owner(inc(1), 0, 7),
        Owner(inc(4), 7, 7),
        Owner(inc(9), 7, UNBOUNDED),
    ]


def test_h9_determinants_beyond_the_adopted_end_are_cut() -> None:
    """H9: what an incarnation did past its successor's x is not history."""
    owners = owners_of([start(1), start(4, 1, adopted=10)], STAGE)
    entries = (Consumed(5, 0, 3, 8), Consumed(8, 1, 4, 4))
    assert history_part(owners, inc(1), entries) == [
        Consumed(5, 0, 3, 8),
        Consumed(8, 1, 2, UNKNOWN_OFFSET),
    ]
    assert history_part(owners, inc(4), entries) == list(entries)


def test_h9_an_abandoned_branch_says_nothing() -> None:
    """H9: an incarnation off the chain contributes no determinant."""
    owners = owners_of([start(1), start(4, 1, adopted=10)], STAGE)
    assert history_part(owners, inc(3), (Consumed(0, 0, 3, 3),)) == []


def test_h29_a_restatement_counts() -> None:
    """H29: what an incarnation says below its own x restates its parent's history."""
    owners = owners_of([start(1), start(4, 1, adopted=10)], STAGE)
    assert history_part(owners, inc(4), (Consumed(2, 0, 3, 5),)) == [Consumed(2, 0, 3, 5)]


def test_a_view_begins_empty() -> None:
    """Before anything was read there is no generation and no claim."""
    view = LineageView()
    assert (view.generation, view.claim, view.parent_of(inc(1))) == (None, -1, None)


def test_a_view_that_cannot_fall_back_is_a_programmers_error() -> None:
    """H21: the newest checkpoint may turn out damaged, so two are kept at least."""
    with pytest.raises(AssertionError, match="fall back"):
        LineageView(retained=1).fold(0, config())


def test_what_was_not_folded_is_not_known() -> None:
    """CONFIG and CLAIM lie before the end of what was folded."""
    view = view_of(config(), claim())
    view.claim = 9
    with pytest.raises(AssertionError, match="CLAIM"):
        view.fold(2, start(1))
    view = view_of(claim())
    view.generation_record = 7, config()
    with pytest.raises(AssertionError, match="CONFIG"):
        view.fold(1, claim())

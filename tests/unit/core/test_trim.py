"""What may be tombstoned and purged. Source: protocol, section 5; invariant I7."""

from __future__ import annotations

from dataclasses import replace

from kstash.core.determinants import Consumed
from kstash.core.ids import TaskId
from kstash.core.lineage import LineageView
from kstash.core.record_keys import encode_key
from kstash.core.records import BoundedRun, Checkpoint, Claim, Hint, LineageRecord, Release, Seal
from kstash.core.trim import (
    claims_below,
    made_remote,
    may_trim_by,
    may_trim_now,
    oldest_needed,
    purge_limit,
    retained_remote,
    said_again,
    tombstones,
)
from tests.unit.core_cases import (
    OUT,
    TASK,
    checkpoint,
    claim,
    config,
    inc,
    run_batch,
    segment,
    start,
    task_core,
    view_of,
)

OTHER_TASK = TaskId(TASK.stage + 1, TASK.partition)


def remote(offset: int, position: int, number: int = 1, task: TaskId = TASK) -> Checkpoint:
    """A remote checkpoint."""
    return checkpoint(offset, position, number=number, is_remote=True, task=task)


def keys(*records: LineageRecord) -> set[bytes]:
    """Keys of records."""
    return {encode_key(record) for record in records}


def test_the_second_newest_remote_checkpoint_is_retained() -> None:
    """Section 5: the newest may turn out damaged, so the one before it is what trims."""
    one, two, three = (remote(1, 10 * n, n) for n in (1, 2, 3))
    view = view_of(config(), claim(), start(1), one)
    assert retained_remote(view, TASK) is None
    view.fold(10, two)
    assert retained_remote(view, TASK) == one
    view.fold(11, three)
    assert retained_remote(view, TASK) == two


def test_more_checkpoints_may_be_retained() -> None:
    """`checkpoints_retained`: what any of them needs stays."""
    view = view_of(config(), claim(), start(1), *(remote(1, 10 * n, n) for n in (1, 2, 3, 4)))
    view.retained = 3
    assert retained_remote(view, TASK) == remote(1, 20, 2)
    view.retained = 5
    assert retained_remote(view, TASK) is None
    assert tombstones(view, [TASK]) == []


def test_h21_local_checkpoints_trim_nothing() -> None:
    """H21: a lost disk could not be replayed."""
    local = [checkpoint(1, 10 * n, number=n) for n in (1, 2, 3)]
    view = view_of(config(), claim(), start(1), segment(1, 1, 0, 30), *local)
    assert not may_trim_by(local[0])
    assert retained_remote(view, TASK) is None
    assert tombstones(view, [TASK]) == []


def test_what_the_retained_checkpoint_covers_may_go() -> None:
    """Segments that end at or below its position, and older checkpoints; nothing above."""
    covered, across = segment(1, 1, 0, 20), segment(1, 2, 20, 25)
    older, base, newest = remote(1, 10, 1), remote(1, 20, 2), remote(1, 30, 3)
    local = checkpoint(1, 15, number=4)
    view = view_of(config(), claim(), start(1), covered, across, older, local, base, newest)
    assert set(tombstones(view, [TASK])) == keys(covered, older, local)


def test_i7_a_segment_across_its_position_stays() -> None:
    """I7: determinants from a retained checkpoint's position on stay readable."""
    across = segment(1, 1, 0, 21)
    view = view_of(config(), claim(), start(1), across, remote(1, 20, 2), remote(1, 30, 3))
    assert tombstones(view, [TASK]) == []


def test_starts_are_kept_from_the_retained_incarnation_on() -> None:
    """Section 4: CONFIG, and CLAIMs and STARTs from there on, are never tombstoned."""
    old, parent, own = start(1), start(3, 1, adopted=5), start(6, 3, adopted=9)
    view = view_of(
        config(),
        (1, claim()),
        old,
        (3, claim()),
        parent,
        remote(3, 7),
        (6, claim()),
        own,
        remote(6, 12),
    )
    assert retained_remote(view, TASK) == remote(3, 7)
    assert set(tombstones(view, [TASK])) == keys(old)
    assert not set(tombstones(view, [TASK])) & keys(config(), Claim(b"n", "worker"))


def test_h49_starts_stay_that_a_taken_over_checkpoint_needs() -> None:
    """H49: 3 took 1's local checkpoint at 5 over, adopted 9 and stored its files in its own name.

    A recovery that falls back to it needs what 1 made from 5 to 9, and so the START of 1.
    """
    taken_over, newest = remote(3, 5), remote(3, 12, 2)
    lineage = segment(1, 1, 5, 9), segment(3, 1, 9, 20)
    starts = start(1), start(3, 1, base=5, adopted=9)
    claims = Claim(b"1", ""), Claim(b"3", "")
    view = view_of(
        config(), (1, claims[0]), starts[0], (3, claims[1]), lineage[0], starts[1], lineage[1]
    )
    for record in (taken_over, newest):
        view.fold(view.next_offset, record)
    assert retained_remote(view, TASK) == taken_over
    assert oldest_needed(view, taken_over) == inc(1)
    assert tombstones(view, [TASK]) == []
    # And once it is no longer retained, nothing of 1 is needed.
    view.fold(view.next_offset, remote(3, 16, 3))
    assert oldest_needed(view, newest) == inc(3)
    assert set(tombstones(view, [TASK])) == keys(lineage[0], taken_over, starts[0], claims[0])


def test_h49_without_any_start_below_its_position_the_oldest_one_is_needed() -> None:
    """H49: what is left of the chain may begin above a checkpoint's position."""
    view = view_of(config(), (3, claim()), start(3, 1, adopted=9), start(6, 3, adopted=9))
    assert oldest_needed(view, remote(6, 5)) == inc(3)
    assert oldest_needed(view_of(config()), remote(6, 5)) == inc(6)


def test_h25_what_no_recovery_would_take_is_not_retained() -> None:
    """H25: a checkpoint of an abandoned branch neither trims nor purges.

    The newest one, of 1, was damaged, and its successor adopted less.
    """
    good, gone = remote(1, 5), remote(1, 20, 2)
    view = view_of(config(), (1, claim()), start(1), segment(1, 1, 0, 5), good, gone)
    assert retained_remote(view, TASK) == good
    view.fold(view.next_offset, claim())
    view.fold(view.next_offset, start(view.next_offset - 1, 1, adopted=9))
    assert retained_remote(view, TASK) is None
    view.fold(view.next_offset, replace(remote(6, 30), incarnation=max(view.starts)))
    assert retained_remote(view, TASK) == good


def restarted(*more: LineageRecord | tuple[int, LineageRecord]) -> LineageView:
    """Incarnations 1, 6 and 20; the retained checkpoints are of 6."""
    return view_of(
        config(),
        (1, Claim(b"1", "")),
        Seal(inc(1)),
        start(1),
        Hint(inc(1), TASK, 1, {OUT: 5}, 0),
        Release(inc(1), {TASK.stage: 0}),
        (6, Claim(b"6", "")),
        *more,
        (10, Seal(inc(6))),
        start(6, 1, adopted=5),
        Hint(inc(6), TASK, 1, {OUT: 7}, 0),
        remote(6, 7),
        remote(6, 8, 2),
        (20, Claim(b"20", "")),
        Seal(inc(20)),
        start(20, 6, adopted=8),
    )


def test_what_only_older_incarnations_need_goes_with_their_checkpoints() -> None:
    """I8: CLAIM, SEAL, START, HINT and RELEASE below the oldest retained checkpoint's incarnation.

    Section 4: CLAIMs and STARTs from there on stay.
    """
    gone = tombstones(restarted(), [TASK])
    older = Seal(inc(1)), Hint(inc(1), TASK, 1, {}, 0), Release(inc(1), {}), start(1)
    assert set(gone) == keys(*older, Claim(b"1", ""))
    assert tombstones(restarted(), [TASK, OTHER_TASK]) == []


def test_the_newest_bounded_run_stays_with_its_release() -> None:
    """Section 8: without them a later start would go on with a run that is over."""
    runs = [BoundedRun(inc(1), number, ()) for number in (1, 2)]
    ended, left = Release(inc(1), {}, run=2), Release(inc(3), {})
    view = restarted()
    view.runs += runs
    view.releases[inc(1)] = 5, ended
    assert encode_key(ended) not in tombstones(view, [TASK])
    assert keys(*runs) & set(tombstones(view, [TASK])) == keys(runs[0])
    view.releases[inc(3)] = 9, left
    assert encode_key(ended) not in tombstones(view, [TASK])
    for key in tombstones(view, [TASK]):
        view.forget(key)
    assert view.runs == runs[1:]


def test_h6_the_void_goes_before_the_claim_that_makes_it_void() -> None:
    """H6: without the CLAIM of 6, the late checkpoint of 1 would count again."""
    late, later = remote(1, 90, 9), remote(1, 95, 10)
    view = restarted(late)
    view.fold(30, later)
    gone = tombstones(view, [TASK])
    assert gone[-1] == encode_key(Claim(b"1", ""))
    assert {encode_key(late), encode_key(later)} <= set(gone[:-1])
    assert all(c != late for _, c in view.checkpoints[TASK])


def test_claims_go_oldest_first_and_of_this_generation_only() -> None:
    """What is left of the CLAIMs is a tail of them, whatever the cleaner has come to."""
    view = view_of(config(), *((n, Claim(b"%d" % n, "")) for n in (5, 3 + 4, 9)))
    assert claims_below(view, inc(9)) == [encode_key(Claim(b"%d" % n, "")) for n in (5, 7)]
    assert claims_below(view, inc(9, generation=1)) == []
    assert claims_below(view_of(Claim(b"n", "")), inc(9)) == []


def test_a_task_without_a_retained_checkpoint_keeps_every_start() -> None:
    """The START chain is the group's: the slowest task decides."""
    view = view_of(
        config(), (1, claim()), start(1), (3, claim()), start(3, 1), remote(3, 7), remote(3, 8, 2)
    )
    assert set(tombstones(view, [TASK])) == keys(start(1))
    assert tombstones(view, [TASK, OTHER_TASK]) == []


def test_h7_trim_only_what_was_read_back() -> None:
    """H7: a CKPT after a higher CLAIM is void, so its writer, a zombie, trims nothing."""
    own = checkpoint(1, 30, is_remote=True)
    assert may_trim_now(view_of(config(), claim(), start(1), own), own)
    assert not may_trim_now(view_of(config(), claim(), start(1), claim(), own), own)
    assert not may_trim_now(view_of(config(), claim(), start(1)), own)


def offsets(offset: int, position: int, number: int, read: int, scan: int) -> Checkpoint:
    """A remote checkpoint with the next offset of its input 0, and where OUT is scanned from."""
    made = checkpoint(offset, position, number=number, is_remote=True, inputs={0: read})
    return replace(made, scan_from={OUT: scan})


def limit_of(*checkpoints: Checkpoint, has_reader: bool = True) -> int:
    """The purge limit of a partition that TASK both reads and writes."""
    view = view_of(config(), (1, claim()), start(1), *checkpoints)
    readers = [(TASK, 0)] if has_reader else []
    return purge_limit({TASK.partition: view}, readers, [(TASK, OUT)])


def test_h14_the_purge_spares_what_readers_and_writers_need() -> None:
    """H14: a reader's checkpoint does not make the writer's chunk in a record stable."""
    assert limit_of(offsets(1, 10, 1, 50, 70), offsets(1, 20, 2, 60, 90)) == 50
    assert limit_of(offsets(1, 10, 1, 50, 30), offsets(1, 20, 2, 60, 40)) == 40


def test_h14_whoever_has_no_checkpoint_needs_everything() -> None:
    """H14: and then nothing is purged; nor is anything where nobody reads or writes."""
    assert limit_of() == 0
    assert limit_of(offsets(1, 10, 1, 50, 70)) == 0
    assert limit_of(offsets(1, 10, 1, 50, 70), has_reader=False) == 70
    assert purge_limit({}, [], []) == 0


def test_h14_a_checkpoint_that_says_nothing_of_a_partition_needs_all_of_it() -> None:
    """H14: from offset 0 on, as a reader by that input and as a writer of that partition."""
    newest = offsets(1, 20, 2, 60, 90)
    view = view_of(config(), (1, claim()), start(1), offsets(1, 10, 1, 50, 70), newest)
    views = {TASK.partition: view}
    assert purge_limit(views, [(TASK, 0)], []) == 50
    assert purge_limit(views, [(TASK, 7)], []) == 0
    assert purge_limit(views, [], [(TASK, (7, 7))]) == 0


def test_h14_local_and_void_checkpoints_purge_nothing() -> None:
    """H6, H21: neither a local one nor one after a higher CLAIM counts."""
    older, newest = offsets(1, 10, 1, 50, 70), offsets(1, 20, 2, 60, 90)
    assert limit_of(older, replace(newest, is_remote=False)) == 0
    view = view_of(config(), (1, claim()), start(1), older, (9, claim()), newest)
    assert purge_limit({TASK.partition: view}, [(TASK, 0)], [(TASK, OUT)]) == 0


def test_h40_an_idle_task_says_its_checkpoint_again() -> None:
    """H40: with scan starts of today, and only when they moved and nothing is under way."""
    core = task_core(position=20, incarnation=inc(1))
    newest = replace(checkpoint(1, 20, is_remote=True), scan_from={}, reached=20)
    assert said_again(newest, core, 2, {}) is None
    core.on_idle_end(OUT, 90)
    again = said_again(newest, core, 2, {})
    assert again == replace(newest, number=2, scan_from={OUT: 90})
    assert again is not None
    assert said_again(again, core, 3, {}) is None
    run_batch(core, 1)
    assert said_again(newest, core, 3, {}) is None


def test_h40_an_idle_task_says_again_how_far_its_inputs_were_read() -> None:
    """Inputs move on over what holds no record, which retention may delete; once per move."""
    core = task_core(position=20, incarnation=inc(1))
    newest = checkpoint(1, 20, is_remote=True, inputs={0: 70, 1: 5})
    newest = replace(newest, scan_from=core.scan_from(), reached=20)
    assert said_again(newest, core, 2, {0: 70}) is None
    again = said_again(newest, core, 2, {0: 75})
    assert again == replace(newest, number=2, input_offsets={0: 75, 1: 5})
    assert again is not None
    assert said_again(again, core, 3, {0: 75}) is None


def test_h40_what_is_said_again_is_one_checkpoint() -> None:
    """The older one stays retained; of the same position only the last word is kept."""
    older, newest = offsets(1, 10, 1, 50, 70), offsets(1, 20, 2, 60, 90)
    again = replace(newest, number=3, scan_from={OUT: 120})
    view = view_of(config(), (1, claim()), start(1), older, newest, again)
    assert retained_remote(view, TASK) == older
    assert purge_limit({TASK.partition: view}, [], [(TASK, OUT)]) == 120
    assert set(tombstones(view, [TASK])) == keys(newest)


def test_h29_a_base_is_made_remote_behind_its_adopted_lineage() -> None:
    """H29: what only headers held of the adopted history must be stable first.

    The record takes this incarnation's scan starts, which skip those headers; the successor that
    begins there would find the lineage nowhere.
    """
    base = checkpoint(1, 5, inputs={0: 70})
    core = task_core(
        incarnation=inc(3), position=5, adopted=9, stable=5, lineage=(Consumed(5, 0, 4, 9),)
    )
    core.take_segments()
    core.advance((), 7)
    assert core.may_publish_checkpoint(5)
    assert made_remote(base, core, 1, ()) is None
    core.advance((), 9)
    assert made_remote(base, core, 1, ()) is None
    core.on_segment_acked(9)
    made = made_remote(base, core, 2, ())
    assert made is not None
    assert (made.incarnation, made.number, made.position) == (inc(3), 2, 5)
    assert (made.label, made.is_remote, made.reached) == (base.label, True, 9)


def test_tombstones_carry_the_incarnation() -> None:
    """H8: a tombstone hits the record of its own incarnation only."""
    mine, theirs = segment(3, 1, 0, 5), segment(1, 1, 0, 5)
    view = view_of(config(), (1, claim()), start(1), mine, remote(1, 10), remote(1, 20, 2))
    assert set(tombstones(view, [TASK])) == keys(mine)
    assert not keys(mine) & keys(theirs)
    assert mine.incarnation == inc(3)

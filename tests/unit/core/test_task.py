"""The live path of one task: chunks, holds, segments, hints, when a checkpoint may be published.

Source: protocol, sections 4 and 5.
"""

from __future__ import annotations

import pytest

from kstash.core.determinants import Consumed
from kstash.core.lineage_codec import Lineage, decode_lineage
from kstash.core.outputs import Outgoing
from kstash.core.task import TaskCore
from tests.unit.core_cases import OTHER, OUT, TASK, TaskPair, inc, run_batch, task_core

SINK = (1, 0)


def emit(core: TaskCore, partition: tuple[int, int] = OUT, count: int = 1) -> Outgoing:
    """Emit outputs that are not held."""
    outgoing = core.emit(partition, count, None)
    assert outgoing is not None
    return outgoing


def carried(outgoing: Outgoing) -> tuple[int, int] | None:
    """The range of positions that an output's chunk covers."""
    if outgoing.chunk is None:
        return None
    lineage = decode_lineage(outgoing.chunk)
    return lineage.start, lineage.end


def flush(core: TaskCore) -> list[Outgoing]:
    """Append all segments and have them acknowledged; returns the outputs that were held."""
    freed = []
    for segment in core.take_segments():
        freed += core.on_segment_acked(segment.end)
    return freed


# -- the chunk rule ------------------------------------------------------------------------------


def test_an_output_carries_what_is_not_stable() -> None:
    """Chunk rule: `[max(stable, sent), pos)`, as determinants."""
    core = task_core()
    run_batch(core, 3)
    outgoing = emit(core)
    assert outgoing == Outgoing(OUT, 3, 1, 1, outgoing.chunk, None)
    assert outgoing.chunk is not None
    assert decode_lineage(outgoing.chunk) == Lineage(0, 3, (Consumed(0, 0, 3, 3),))


def test_a_partition_is_told_once() -> None:
    """Chunk rule: `sent[p] = pos`, so the next output there begins where the last one ended."""
    core = task_core()
    run_batch(core, 3)
    assert carried(emit(core)) == (0, 3)
    run_batch(core, 2)
    assert carried(emit(core)) == (3, 5)


def test_h11_each_partition_is_told_by_itself() -> None:
    """H11: what went to one partition is not surely durable before an output to another one."""
    core = task_core()
    run_batch(core, 3)
    assert carried(emit(core, OUT)) == (0, 3)
    assert carried(emit(core, OTHER)) == (0, 3)
    run_batch(core, 1)
    assert carried(emit(core, OTHER)) == (3, 4)
    run_batch(core, 1)
    assert carried(emit(core, OUT)) == (3, 5)


def test_stable_lineage_is_not_carried() -> None:
    """What the lineage topic has acknowledged travels no more; then no header at all."""
    core = task_core()
    run_batch(core, 3)
    flush(core)
    assert carried(emit(core)) is None
    run_batch(core, 2)
    assert carried(emit(core)) == (3, 5)


def test_h4_an_acknowledged_output_makes_nothing_stable() -> None:
    """H4: only the lineage topic's acknowledgement counts."""
    core = task_core()
    run_batch(core, 3)
    emit(core)
    core.on_output_acked(OUT, 3, 0)
    assert core.stable == 0
    assert carried(emit(core, OTHER)) == (0, 3)


def test_whole_batches() -> None:
    """Whole events, H38: all outputs of a batch have the position of its end."""
    core = task_core()
    run_batch(core, 10)
    outputs = [emit(core, OUT, 4), emit(core, OTHER, 5)]
    assert [o.position for o in outputs] == [10, 10]
    assert [carried(o) for o in outputs] == [(0, 10), (0, 10)]


def test_i4_sequences_are_dense_per_partition() -> None:
    """I4: logical records are counted, not batches or frames."""
    core = task_core(sequences={OUT: 40})
    run_batch(core, 1)
    assert core.next_sequence(OUT) == 41
    assert [emit(core, p, n).first_seq for p, n in ((OUT, 2), (OTHER, 3))] == [41, 1]
    run_batch(core, 1)
    assert [emit(core, p, 1).first_seq for p in (OUT, OTHER)] == [43, 4]
    assert core.sequences() == {OUT: 43, OTHER: 4}


def test_one_input_carries_nothing() -> None:
    """Section 0, idea 6: a task with one input has no order to tell."""
    core = task_core(implicit=True)
    core.advance((), 1000)
    assert carried(emit(core)) is None
    assert core.take_segments() == []
    assert core.stable == 1000


def test_without_lineage_nothing_is_logged() -> None:
    """`at_least_once` and `none`: no chunks, no segments, every position counts as stable."""
    core = task_core(is_logging=False)
    core.advance((), 5)
    assert carried(emit(core)) is None
    assert core.take_segments() == []
    assert core.stable == 5


def test_without_transactions_acknowledged_is_done() -> None:
    """`at_least_once` and `none`: a sink's output waits for no commit."""
    core = task_core(sinks=frozenset({0}), is_logging=False)
    core.advance((), 5)
    emit(core)
    core.on_output_acked(OUT, 5, 17)
    assert core.outputs_done_through() == 5
    assert core.may_publish_checkpoint(5)


# -- the cap -------------------------------------------------------------------------------------


def test_h19_above_the_cap_an_output_waits() -> None:
    """H19: an output whose chunk is too long waits until the lineage is acknowledged."""
    core = task_core(header_bytes_max=10)
    for source in (0, 1, 0, 1, 0):
        run_batch(core, 1, source)
    assert core.emit(OUT, 1, "first") is None
    assert core.held_count == 1
    freed = flush(core)
    assert [(o.payload, o.first_seq, o.position, o.chunk) for o in freed] == [("first", 1, 5, None)]
    assert core.held_count == 0


def test_h19_what_follows_on_the_partition_waits_too() -> None:
    """After a held output all later ones of the partition wait, in order; others go on."""
    core = task_core(header_bytes_max=10)
    run_batch(core, 1)
    assert carried(emit(core, OTHER)) == (0, 1)
    for source in (1, 0, 1, 0):
        run_batch(core, 1, source)
    assert core.emit(OUT, 1, 1) is None
    core.take_segments()
    run_batch(core, 1)
    assert core.emit(OUT, 2, 2) is None
    assert core.held_count == 2
    freed = core.on_segment_acked(5)
    assert [(o.payload, o.first_seq, carried(o)) for o in freed] == [(1, 1, None), (2, 2, (5, 6))]


def test_a_held_output_is_released_no_sooner_than_it_fits() -> None:
    """An acknowledgement of a part frees what fits then, and no more."""
    core = task_core(header_bytes_max=8)
    run_batch(core, 1)
    core.take_segments()
    for source in (1, 0, 1):
        run_batch(core, 1, source)
    assert core.emit(OUT, 1, None) is None
    assert core.on_segment_acked(1) == []
    assert len(flush(core)) == 1


def test_write_first_waits_with_every_output() -> None:
    """`write_first` is a cap of 0: no output before its lineage is acknowledged."""
    core = task_core(header_bytes_max=0)
    run_batch(core, 1)
    assert core.emit(OUT, 1, None) is None
    assert [o.chunk for o in flush(core)] == [None]


# -- lineage, later ------------------------------------------------------------------------------


def test_segments_are_numbered_by_the_task() -> None:
    """SEG n{from, to, entries} with the incarnation and the task in every one (H8)."""
    core = task_core()
    run_batch(core, 3)
    (first,) = core.take_segments()
    run_batch(core, 1, 1)
    (second,) = core.take_segments()
    assert (first.incarnation, first.task) == (inc(7), TASK)
    assert [(s.number, s.start, s.end) for s in (first, second)] == [(1, 0, 3), (2, 3, 4)]
    assert second.entries == (Consumed(3, 1, 1, 4),)


def test_h29_adopted_lineage_goes_first() -> None:
    """H29, section 6.7: lineage found only in headers is logged before any new output."""
    core = task_core(adopted=5, stable=2, lineage=[Consumed(0, 0, 4, 4), Consumed(4, 1, 1, 1)])
    (segment,) = core.take_segments()
    assert (segment.start, segment.end) == (2, 5)
    assert segment.entries == (Consumed(2, 0, 2, 4), Consumed(4, 1, 1, 1))


def test_replay_appends_no_lineage() -> None:
    """I9: in replay the determinants are there already; an output then relies on all of them."""
    core = task_core(adopted=5, stable=0, lineage=[Consumed(0, 0, 5, 5)])
    core.advance((), 3)
    assert carried(emit(core)) == (0, 5)
    assert core.stable == 0
    core.take_segments()
    core.on_segment_acked(5)
    assert core.stable == 3
    core.advance((), 5)
    assert core.stable == 5
    run_batch(core, 1)
    assert carried(emit(core)) == (5, 6)


def test_suppressed_outputs_count() -> None:
    """Section 6.7: what replay suppresses takes its sequences."""
    core = task_core(adopted=5)
    core.advance((), 2)
    assert core.skip(OUT, 3) == 1
    assert core.skip(OUT, 1) == 4
    assert emit(core).first_seq == 5


def test_an_acknowledgement_without_an_offset_moves_no_scan_start() -> None:
    """A repetition is acknowledged without one: the output is durable, a scan starts before it."""
    core = task_core()
    for position, offset in ((1, 5), (2, None)):
        run_batch(core, 1)
        emit(core)
        flush(core)
        core.on_output_acked(OUT, position, offset)
    assert core.may_publish_checkpoint(2)
    assert core.scan_from() == {OUT: 5}


# -- checkpoints ---------------------------------------------------------------------------------


def test_h5_a_checkpoint_waits_for_its_outputs() -> None:
    """H5, section 5 (i): every output up to c is acknowledged."""
    core = task_core()
    run_batch(core, 3)
    emit(core)
    flush(core)
    run_batch(core, 1)
    emit(core)
    flush(core)
    assert not core.may_publish_checkpoint(3)
    core.on_output_acked(OUT, 3, 0)
    assert core.may_publish_checkpoint(3)
    assert not core.may_publish_checkpoint(4)
    assert core.outputs_done_through() == 3
    core.on_output_acked(OUT, 4, 1)
    assert core.may_publish_checkpoint(4)


def test_h5_each_partition_is_waited_for() -> None:
    """H5: an acknowledgement from one partition says nothing of another."""
    core = task_core()
    run_batch(core, 3)
    emit(core, OUT)
    emit(core, OTHER)
    flush(core)
    core.on_output_acked(OUT, 3, 0)
    assert not core.may_publish_checkpoint(3)
    core.on_output_acked(OTHER, 3, 0)
    assert core.may_publish_checkpoint(3)


def test_a_checkpoint_waits_for_lineage() -> None:
    """Section 5 (iii): the lineage topic is acknowledged through c."""
    core = task_core()
    run_batch(core, 3)
    assert not core.may_publish_checkpoint(3)
    flush(core)
    assert core.may_publish_checkpoint(3)


def test_a_checkpoint_waits_for_held_outputs() -> None:
    """H5 with H19: a held output is not acknowledged."""
    core = task_core(header_bytes_max=0)
    run_batch(core, 3)
    core.emit(OUT, 1, None)
    assert core.outputs_done_through() == 2
    flush(core)
    assert not core.may_publish_checkpoint(3)
    core.on_output_acked(OUT, 3, 0)
    assert core.may_publish_checkpoint(3)


def test_h5_a_sink_counts_when_committed() -> None:
    """H5: for sinks an acknowledgement is not enough, since the transaction may be aborted."""
    core = task_core(sinks=frozenset({1}))
    run_batch(core, 3)
    emit(core, SINK)
    flush(core)
    core.on_output_acked(SINK, 3, 10)
    assert not core.may_publish_checkpoint(3)
    core.on_committed(2)
    assert not core.may_publish_checkpoint(3)
    core.on_committed(3)
    assert core.may_publish_checkpoint(3)


# -- hints ---------------------------------------------------------------------------------------


def test_a_hint_is_the_last_acknowledged_record() -> None:
    """HINT rule: the last acknowledged record whose pos is stable, and only when it moved."""
    core = task_core()
    assert core.take_hint() is None
    run_batch(core, 3)
    emit(core)
    flush(core)
    assert core.take_hint() is None
    core.on_output_acked(OUT, 3, 17)
    hint = core.take_hint()
    assert hint is not None
    assert (hint.incarnation, hint.task, hint.number, hint.offsets) == (inc(7), TASK, 1, {OUT: 17})
    assert core.take_hint() is None


def test_h30_a_hint_never_passes_stable_lineage() -> None:
    """H30: records whose chunk is the only copy of lineage are not skipped by a scan."""
    core = task_core()
    run_batch(core, 3)
    emit(core)
    core.on_output_acked(OUT, 3, 17)
    assert core.take_hint() is None
    run_batch(core, 1)
    emit(core)
    core.on_output_acked(OUT, 4, 18)
    core.take_segments()
    core.on_segment_acked(3)
    hint = core.take_hint()
    assert hint is not None
    assert hint.offsets == {OUT: 17}


def test_h31_a_sinks_hint_is_a_committed_record() -> None:
    """H31: on sinks only committed records count; an aborted one may be gone."""
    core = task_core(sinks=frozenset({1}))
    run_batch(core, 3)
    emit(core, SINK)
    flush(core)
    core.on_output_acked(SINK, 3, 17)
    assert core.take_hint() is None
    core.on_committed(3)
    hint = core.take_hint()
    assert hint is not None
    assert hint.offsets == {SINK: 17}


def test_inherited_scan_starts_are_hinted_again() -> None:
    """H10: a hint is void after our CLAIM, so what recovery found valid is said again."""
    core = task_core(adopted=5, stable=2, lineage=[Consumed(2, 0, 3, 5)])
    core.scans.inherit({OUT: 9})
    hint = core.take_hint()
    assert hint is not None
    assert (hint.incarnation, hint.offsets) == (inc(7), {OUT: 9})


def test_h40_an_idle_writer_hints_at_the_end() -> None:
    """H40: where nothing is on its way, the listed end, also where the task never wrote."""
    core = task_core()
    run_batch(core, 3)
    emit(core)
    assert not core.is_idle_at(OUT)
    flush(core)
    core.on_output_acked(OUT, 3, 17)
    assert core.take_hint() is not None
    assert core.is_idle_at(OUT)
    core.on_idle_end(OUT, 100)
    core.on_idle_end(OTHER, 50)
    hint = core.take_hint()
    assert hint is not None
    assert hint.offsets == {OUT: 100, OTHER: 50}


def test_h40_a_listed_end_is_void_behind_a_new_output() -> None:
    """H40: the answer is discarded when something is on its way or unstable when it comes."""
    core = task_core()
    run_batch(core, 3)
    core.on_idle_end(OUT, 100)
    flush(core)
    emit(core)
    core.on_idle_end(OUT, 100)
    core.on_output_acked(OUT, 3, 17)
    assert core.scan_from() == {OUT: 17}
    core.on_idle_end(OUT, 5)
    assert core.scan_from() == {OUT: 17}


def test_h40_a_task_with_unstable_lineage_is_idle_nowhere() -> None:
    """H40: also where nothing of it is on its way: its next output there may rely on it."""
    core = task_core()
    run_batch(core, 3)
    assert not core.is_idle_at(OUT)
    core.on_idle_end(OUT, 100)
    assert core.scan_from() == {}
    flush(core)
    assert core.is_idle_at(OUT)
    core.on_idle_end(OUT, 100)
    assert core.scan_from() == {OUT: 100}


def test_h40_an_uncommitted_sink_is_not_idle() -> None:
    """HINT rule: for sinks nothing uncommitted may be there."""
    core = task_core(sinks=frozenset({1}))
    run_batch(core, 3)
    emit(core, SINK)
    flush(core)
    core.on_output_acked(SINK, 3, 17)
    assert not core.is_idle_at(SINK)
    core.on_committed(3)
    assert core.is_idle_at(SINK)


def test_scan_starts_go_into_checkpoints() -> None:
    """CKPT holds the same as HINT: what is stable by now counts at once."""
    core = task_core()
    run_batch(core, 3)
    emit(core)
    core.on_output_acked(OUT, 3, 17)
    assert core.scan_from() == {}
    flush(core)
    assert core.scan_from() == {OUT: 17}


# -- end to end ----------------------------------------------------------------------------------


def test_a_reader_takes_what_a_task_makes() -> None:
    """Two incarnations of a producer, whatever their batches: the reader sees 1, 2, 3 … once."""
    pair = TaskPair(task_core())
    pair.produce(3)
    pair.produce(4)
    assert pair.consume() == [1, 2, 3, 4, 5, 6, 7]
    # The successor knows of the first five outputs only, and makes other batches.
    pair.core = task_core(incarnation=inc(9), sequences={OUT: 5}, position=5)
    pair.produce(1)
    pair.produce(3)
    assert pair.consume() == [8, 9]


def test_h1_a_zombies_outputs_are_void() -> None:
    """H1: after the successor's first output nothing of the predecessor counts."""
    zombie = task_core()
    pair = TaskPair(zombie)
    pair.produce(2)
    pair.core = task_core(incarnation=inc(9), sequences={OUT: 2}, position=2)
    pair.produce(1)
    pair.core = zombie
    pair.produce(2)
    assert pair.consume() == [1, 2, 3]


# -- asserts -------------------------------------------------------------------------------------


def test_a_batch_finds_what_is_wrong_with_the_task() -> None:
    """Live, a task is at the end of its lineage: an output must not rely on more or less."""
    core = task_core()
    run_batch(core, 3)
    core.position = 2
    with pytest.raises(AssertionError, match="live, and not at the end"):
        core._check()


def test_an_acknowledgement_finds_what_is_wrong_with_an_output() -> None:
    """`sent` beyond the lineage would leave a hole in the next chunk."""
    core = task_core()
    run_batch(core, 3)
    emit(core)
    core._outputs.of(OUT).sent = 4
    with pytest.raises(AssertionError, match="more lineage was sent"):
        core.on_output_acked(OUT, 3, 0)


def test_outputs_leave_in_the_order_of_their_positions() -> None:
    """A batch cannot go out in front of one that is on its way."""
    core = task_core()
    run_batch(core, 3)
    emit(core)
    core._outputs.of(OUT).in_flight.append(8)
    run_batch(core, 1)
    with pytest.raises(AssertionError, match="out of order"):
        emit(core)


def test_the_count_of_what_is_held_is_its_sum() -> None:
    """The count is what lets a batch without held outputs pass at no cost."""
    core = task_core(header_bytes_max=0)
    run_batch(core, 1)
    assert core.emit(OUT, 1, None) is None
    core._outputs.held_count += 1
    with pytest.raises(AssertionError):
        flush(core)


def test_parts_of_one_event_are_acknowledged_one_by_one() -> None:
    """They have one position and rising sequences; the event is done with the last of them."""
    core = task_core()
    run_batch(core, 3)
    parts = [core.emit(OUT, 2, None) for _ in range(3)]
    assert [(p.position, p.first_seq) for p in parts if p] == [(3, 1), (3, 3), (3, 5)]
    core.take_segments()
    core.on_segment_acked(3)
    for offset in (0, 1):
        core.on_output_acked(OUT, 3, offset)
        assert core.outputs_done_through() == 2
        assert core.scan_from() == {OUT: offset}
    core.on_output_acked(OUT, 3, 2)
    assert core.outputs_done_through() == 3
    assert core.may_publish_checkpoint(3)


def test_an_acknowledgement_is_of_the_oldest_in_flight() -> None:
    """Anything else is a mistake of the caller."""
    core = task_core()
    run_batch(core, 1)
    core.emit(OUT, 1, None)
    run_batch(core, 1)
    core.emit(OUT, 1, None)
    with pytest.raises(AssertionError, match="out of order"):
        core.on_output_acked(OUT, 2, 0)


def test_an_event_under_way_is_not_done() -> None:
    """Its position is taken with its first part; all that waits for it waits for the last one."""
    core = task_core()
    run_batch(core, 2)
    core.advance((Consumed(2, 0, 1, 3),), 3, is_over=False)
    part = core.emit(OUT, 1, None)
    assert part is not None
    assert (part.position, core.position, core.over) == (3, 3, 2)
    flush(core)
    core.on_output_acked(OUT, 3, 0)
    assert core.may_publish_checkpoint(2)
    assert not core.may_publish_checkpoint(3)
    with pytest.raises(AssertionError):
        core.made()
    with pytest.raises(AssertionError, match="not over"):
        run_batch(core, 1)
    last = core.emit(OUT, 1, None)
    assert last is not None
    assert (last.position, last.first_seq) == (3, 2)
    core.end_event()
    assert not core.may_publish_checkpoint(3)
    core.on_output_acked(OUT, 3, 1)
    assert core.may_publish_checkpoint(3)
    with pytest.raises(AssertionError):
        core.end_event()


def test_a_replay_lasts_until_its_last_event_is_over() -> None:
    """At the adopted end too: what is made there was perhaps not out before."""
    core = task_core(adopted=3, lineage=[Consumed(0, 0, 3, 3)])
    core.advance((), 3, is_over=False)
    assert core.is_replaying
    core.end_event()
    assert not core.is_replaying

"""When a transaction may be committed. Source: protocol, section 7."""

from __future__ import annotations

import pytest

from kstash.core.determinants import Consumed
from kstash.core.fields import NUMBER_MAX, TAG_MAX
from kstash.core.sink import METADATA_BYTES_MAX, CommitState, CommittedPositions, SinkCommitter
from kstash.errors import WireCorruptError
from tests.unit.core_cases import GENERATION, run_batch, task_core

SINK = (0, 0)


def committer(**positions: int) -> SinkCommitter:
    """A committer that has made its first commit; `s1=5` is stage 1 committed at 5."""
    fresh = SinkCommitter(GENERATION, {int(name[1:]): p for name, p in positions.items()})
    fresh.close()
    fresh.switch()
    fresh.commit()
    fresh.on_committed()
    return fresh


def test_h59_a_task_with_nothing_in_a_transaction_is_not_waited_for() -> None:
    """H59: it may replay for long, below the position that was committed before."""
    replaying, live = task_core(), task_core()
    run_batch(live, 6)
    live.take_segments()
    live.on_segment_acked(6)
    sinks = SinkCommitter(GENERATION, {1: 10, 2: 4})
    sinks.on_sent(2, 6)
    sinks.close()
    assert not sinks.is_settled
    assert sinks.is_stable({1: replaying, 2: live})
    assert sinks.may_switch({1: replaying, 2: live}, 0)
    sinks.switch()
    sinks.commit()
    assert sinks.on_committed() == {1: 10, 2: 6}
    assert sinks.is_settled


def test_h33_the_first_commit_is_due_at_once() -> None:
    """H33: after START the positions, 0 included, are committed; the first CKPT waits for it."""
    fresh = SinkCommitter(GENERATION, {1: 0, 2: 7})
    assert (fresh.is_fresh, fresh.is_due) == (True, True)
    fresh.close()
    fresh.switch()
    assert fresh.commit() == f"1;{GENERATION};1:0,2:7"
    assert fresh.is_fresh
    assert fresh.on_committed() == {1: 0, 2: 7}
    assert (fresh.is_fresh, fresh.is_due) == (False, False)


def test_an_empty_transaction_is_not_committed() -> None:
    """Committed every interval only when there is something in it."""
    sinks = committer(s1=0)
    assert not sinks.is_due
    sinks.on_sent(1, 3)
    assert sinks.is_due


def test_h33_positions_are_refreshed() -> None:
    """H33: offsets of an idle group expire, so they are committed again daily."""
    sinks = committer(s1=4)
    sinks.refresh()
    assert sinks.is_due
    sinks.close()
    sinks.switch()
    assert sinks.commit() == f"1;{GENERATION};1:4"
    sinks.on_committed()
    assert not sinks.is_due


def test_every_commit_names_all_tasks() -> None:
    """All tasks with sinks, unchanged where there was no output: the metadata is replaced whole."""
    sinks = committer(s1=4, s2=9)
    sinks.on_sent(2, 11)
    sinks.on_sent(2, 10)
    sinks.close()
    sinks.switch()
    assert CommittedPositions.decode(sinks.commit()).positions == {1: 4, 2: 11}
    assert sinks.on_committed() == {1: 4, 2: 11}


def test_h27_a_commit_waits_for_stable_lineage() -> None:
    """H27: committed outputs are never withdrawn, so their lineage must be stable first."""
    core = task_core(sinks=frozenset({0}))
    sinks = committer(s1=0)
    run_batch(core, 3)
    outgoing = core.emit(SINK, 1, None)
    assert outgoing is not None
    sinks.on_sent(1, outgoing.position)
    sinks.close()
    sinks.switch()
    assert not sinks.may_commit({1: core})
    core.take_segments()
    run_batch(core, 1)
    core.on_segment_acked(3)
    assert sinks.may_commit({1: core})


def test_h27_every_task_of_the_group_must_be_stable() -> None:
    """H27: one transaction holds the outputs of all the group's tasks."""
    one, two = task_core(), task_core()
    sinks = committer(s1=0, s2=0)
    for core in (one, two):
        run_batch(core, 3)
        core.take_segments()
    sinks.on_sent(1, 3)
    sinks.on_sent(2, 3)
    sinks.close()
    sinks.switch()
    one.on_segment_acked(3)
    assert not sinks.may_commit({1: one, 2: two})
    two.on_segment_acked(3)
    assert sinks.may_commit({1: one, 2: two})


def test_newer_outputs_are_held_back() -> None:
    """A transaction ends between events: what is newer goes into the next one."""
    sinks = committer(s1=0)
    sinks.on_sent(1, 3)
    assert sinks.admits(1, 4)
    sinks.close()
    assert not sinks.admits(1, 4)
    assert sinks.admits(1, 3)
    sinks.switch()
    assert sinks.admits(1, 4)
    sinks.on_sent(1, 4)
    assert sinks.commit() == f"1;{GENERATION};1:3"
    sinks.on_committed()
    assert sinks.is_due, "what came after the switch is in the next one"


def test_h37_outputs_that_the_cap_held_go_in_first() -> None:
    """H37: a transaction with position `pos` contains every sink output of the task up to it."""
    sinks = committer(s1=0)
    core = task_core(sinks=frozenset({0}), header_bytes_max=8)
    run_batch(core, 1)
    sent = core.emit((0, 1), 1, "sent")
    assert sent is not None
    for source in (1, 0, 1):
        run_batch(core, 1, source)
    assert core.emit(SINK, 1, "held") is None
    core.take_segments()
    run_batch(core, 1)
    later = core.emit((0, 1), 1, "later")
    assert later is None or later.position == 5
    sinks.on_sent(1, 5)
    sinks.close()
    assert not sinks.is_stable({1: core})
    core.take_segments()
    freed = core.on_segment_acked(5)
    # The same acknowledgement that makes it stable frees what is held, and that is let in.
    assert "held" in [o.payload for o in freed]
    assert all(sinks.admits(1, o.position) for o in freed)
    assert sinks.is_stable({1: core})
    for outgoing in freed:
        sinks.on_sent(1, outgoing.position)
    sinks.switch()
    assert CommittedPositions.decode(sinks.commit()).positions == {1: 5}
    sinks.on_committed()
    assert not sinks.is_due, "what went in late is in the transaction that was committed"


def test_the_metadata_fits() -> None:
    """A hundred tasks with sinks at large positions fit into Kafka's limit of 4,096 bytes."""
    positions = CommittedPositions(GENERATION, dict.fromkeys(range(100), 2**63))
    assert len(positions.encode()) < METADATA_BYTES_MAX


def test_steps_out_of_order_are_programmers_errors() -> None:
    """Only OPEN closes, only CLOSING commits, only COMMITTING is committed."""
    sinks = committer(s1=0)
    assert sinks.state is CommitState.OPEN
    with pytest.raises(AssertionError):
        sinks.close()
    with pytest.raises(AssertionError):
        sinks.commit()
    with pytest.raises(AssertionError):
        sinks.on_committed()
    sinks.refresh()
    sinks.close()
    with pytest.raises(AssertionError):
        sinks.commit()


def test_h37_producers_change_when_nothing_is_held_or_unacknowledged() -> None:
    """H37, S6: what is held belongs into the old transaction; order needs its acknowledgements."""
    sinks = committer(s1=0)
    core = task_core(sinks=frozenset({0}), header_bytes_max=0)
    run_batch(core, 1)
    assert core.emit(SINK, 1, "held") is None
    sinks.on_sent(1, 1)
    assert not sinks.may_switch({1: core}, 0), "nothing is being closed"
    sinks.close()
    assert not sinks.may_switch({1: core}, 0)
    core.take_segments()
    assert core.on_segment_acked(1)
    assert not sinks.may_switch({1: core}, 1)
    assert sinks.may_switch({1: core}, 0)
    sinks.switch()
    assert not sinks.may_switch({1: core}, 0), "only once"


def test_h42_a_commit_waits_for_what_a_replay_holds() -> None:
    """H42: lineage is stable through the output's own position; its chunk reaches on to x."""
    lineage = [Consumed(p, p % 2, 1, 10 + p) for p in range(20)]
    core = task_core(
        adopted=20,
        stable=5,
        lineage=lineage[5:],
        sinks=frozenset({0, 1}),
        transactional=frozenset({1}),
        header_bytes_max=16,
    )
    sinks = committer(s1=0)
    core.advance((), 3)
    assert core.emit(SINK, 1, "held") is None
    plain = core.emit((1, 0), 1, "plain")
    assert plain is not None
    sinks.on_sent(1, plain.position)
    sinks.close()
    assert core.stable == 3
    assert not sinks.may_commit({1: core})
    assert not sinks.may_switch({1: core}, 0)
    core.take_segments()
    core.on_segment_acked(20)
    assert sinks.may_switch({1: core}, 0)


def test_h42_what_is_held_above_the_closing_position_holds_nothing_up() -> None:
    """It belongs into the next transaction; and internal outputs into none."""
    core = task_core(sinks=frozenset({0}), header_bytes_max=0)
    sinks = committer(s1=0)
    run_batch(core, 1)
    core.take_segments()
    core.on_segment_acked(1)
    assert core.emit(SINK, 1, "out") is not None
    sinks.on_sent(1, 1)
    run_batch(core, 1)
    assert core.emit((1, 0), 1, "held, internal") is None
    assert core.emit(SINK, 1, "held") is None
    assert (core.is_held_through(1), core.is_held_through(2)) == (False, True)
    sinks.close()
    assert sinks.may_switch({1: core}, 0)


def test_a_refresh_alone_holds_no_output_until_one_goes_in() -> None:
    """A long batch need not wait for it (H58); what the cap held and goes into it counts (H37)."""
    sinks = committer(s1=5)
    sinks.refresh()
    sinks.close()
    assert sinks.is_settled
    assert sinks.admits(1, 5)
    sinks.on_sent(1, 5)
    assert not sinks.is_settled


def test_the_newest_position_keeps_its_generation() -> None:
    """Of several answers the highest position of each task, in the generation asked for."""
    answers = [f"1;{GENERATION};1:4,2:9", "", f"1;{GENERATION};1:7", f"1;{GENERATION + 1};1:99"]
    assert CommittedPositions.newest(answers, GENERATION) == CommittedPositions(
        GENERATION, {1: 7, 2: 9}
    )


@pytest.mark.parametrize(
    ("metadata", "words"), [("2;7;1:4", "version '2'"), ("1;7;1", "malformed .*'1;7;1'")]
)
def test_a_position_that_cannot_be_read_is_shown(metadata: str, words: str) -> None:
    """The error quotes what was found."""
    with pytest.raises(WireCorruptError, match=words):
        CommittedPositions.decode(metadata)


@pytest.mark.parametrize("generation", [0, NUMBER_MAX, NUMBER_MAX + 1, TAG_MAX])
def test_a_generation_fills_64_bits(generation: int) -> None:
    """It is no offset: half of all that there can be are above the highest of these."""
    committed = CommittedPositions(generation, {1: 4})
    assert CommittedPositions.decode(committed.encode()) == committed


def test_a_generation_of_more_is_none() -> None:
    """Nobody has written it."""
    with pytest.raises(WireCorruptError):
        CommittedPositions.decode(CommittedPositions(TAG_MAX + 1, {1: 4}).encode())


def test_a_commit_that_names_less_than_the_last_one_is_a_programmers_error() -> None:
    """Committed positions only rise: a reader has seen what they name."""
    sinks = committer(s1=5)
    sinks.on_sent(1, 4)
    with pytest.raises(AssertionError):
        sinks.close()


def test_a_commit_names_the_tasks_with_sinks() -> None:
    """An output of a task that was not there at the start has no committed position."""
    sinks = committer(s1=5)
    sinks.on_sent(2, 4)
    with pytest.raises(AssertionError, match="positions of other tasks"):
        sinks.close()


@pytest.mark.parametrize(
    ("state", "is_switched", "message"),
    [
        (CommitState.COMMITTING, False, "committed too early"),
        (CommitState.OPEN, True, "nothing to switch from"),
    ],
)
def test_the_switch_comes_between_closing_and_the_commit(
    state: CommitState, is_switched: bool, message: str
) -> None:
    """Newer outputs go on in the next transaction once the one being closed is complete."""
    sinks = committer(s1=5)
    sinks.state, sinks.is_switched = state, is_switched
    with pytest.raises(AssertionError, match=message):
        sinks._check()


def test_a_transaction_ends_where_an_event_ends() -> None:
    """Its outputs have one position: once that is committed, none of them is made again."""
    core = task_core(sinks=frozenset({0}))
    sinks = committer(s1=0, s2=0)
    tasks = {1: core, 2: task_core()}
    assert not sinks.may_close(tasks)
    core.advance((Consumed(0, 0, 1, 1),), 1, is_over=False)
    sinks.on_sent(1, 1)
    assert sinks.is_due
    assert not sinks.may_close(tasks)
    core.end_event()
    assert sinks.may_close(tasks)

"""What a replay takes next, what it suppresses and compares. Source: protocol, section 6 step 7."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kstash.core.determinants import (
    CLOCK,
    UNKNOWN_OFFSET,
    Attachment,
    Consumed,
    Determinant,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
)
from kstash.core.hashes import OutputHashes
from kstash.core.ids import OutPartition
from kstash.core.plan import TaskPlan
from kstash.core.replay import RecordsNext, Replay, Stored
from kstash.errors import LineageGapError, ReplayDivergedError
from tests.unit.core_cases import OUT, TASK

SINK: OutPartition = (1, 0)
TOPICS = ("internal", "sink")


def replay(
    *lineage: Determinant,
    position: int = 0,
    adopted: int = 10,
    committed: int = 0,
    last_valid: Mapping[OutPartition, int] | None = None,
    only_input: int | None = None,
    stored: Stored | None = None,
    checks: tuple[OutputHashes, ...] = (),
) -> Replay:
    """A replay of a task whose output 0 is an internal topic."""
    plan = TaskPlan(
        task=TASK,
        base=None,
        position=position,
        adopted=adopted,
        stable=0,
        lineage=lineage,
        owners=(),
        sequences={},
        last_valid=last_valid or {},
        committed=committed,
        input_offsets={},
        readers={},
        scan_from={},
        checks=checks,
    )
    return Replay(
        plan, name="t", only_input=only_input, topics=TOPICS, internal={0}, stored=stored or {}
    )


def count(step: Any) -> int:
    """How many events a step has at most."""
    assert isinstance(step, RecordsNext)
    return step.count


def test_runs_come_in_their_order() -> None:
    """The lineage says which input comes next; a run that was begun goes on."""
    runs = replay(Consumed(0, 1, 3, 7), Consumed(3, 0, 2, 12), adopted=5)
    assert runs.next_event(0, 100) == RecordsNext(1, 3, 3, 7, run=0)
    assert runs.next_event(2, 100) == RecordsNext(1, 1, 1, 7, run=0)
    assert runs.next_event(3, 100) == RecordsNext(0, 2, 2, 12, run=3)
    assert runs.next_event(3, 1) == RecordsNext(0, 1, 2, 12, run=3)


def test_a_run_across_the_base_goes_on_there() -> None:
    """Lineage from before the base is passed."""
    assert replay(Consumed(0, 1, 2, 5), Consumed(2, 0, 8, 30), position=6).next_event(
        6, 9
    ) == RecordsNext(0, 4, 4, 30, run=2)


def test_what_no_lineage_covers_is_an_error() -> None:
    """A task with several inputs needs a determinant of each event; a tick is one."""
    gap = replay(Consumed(0, 1, 2, 5), Consumed(4, 1, 2, 9))
    with pytest.raises(LineageGapError, match="task t: no lineage for position 2"):
        gap.next_event(2, 100)
    with pytest.raises(LineageGapError):
        replay().next_event(0, 100)
    assert replay(Tick(0, 1000)).next_event(0, 100) == Tick(0, 1000)


def test_the_only_input_needs_no_lineage() -> None:
    """Positions that nothing covers are its records, up to the next tick; attachments are none."""
    tick = Tick(4, 1000)
    only = replay(Attachment(2, 0, 0, 1, b""), tick, only_input=3, adopted=8)
    assert only.next_event(0, 100) == RecordsNext(3, 4, 4, UNKNOWN_OFFSET, run=0)
    assert only.next_event(4, 100) == tick
    assert only.next_event(5, 100) == RecordsNext(3, 3, 3, UNKNOWN_OFFSET, run=5)


def test_a_merged_batch_comes_whole() -> None:
    """Where it ended decides what it took: it is never begun within, and never ended early."""
    place = InputPlace(8, 0, 50)
    batch = MergedBatch(2, (MergedInput(0, 5, place), MergedInput(1, 1, place)))
    lineage = (Consumed(0, 0, 2, 3), batch, Tick(8, 9))
    merged = replay(*lineage, adopted=9)
    assert merged.next_event(2, 1) == batch
    assert merged.next_event(8, 1) == Tick(8, 9)
    for broken in (
        replay(*lineage, adopted=7),
        replay(*lineage, adopted=9, committed=5),
        replay(*lineage, adopted=9, checks=(OutputHashes(0, 4, {}),)),
    ):
        with pytest.raises(LineageGapError, match=r"task t: \[2, 8\) is one"):
            broken.next_event(2, 100)
    with pytest.raises(LineageGapError, match="cannot be begun at 4"):
        replay(*lineage, adopted=9).next_event(4, 100)


def test_h32_batches_end_at_the_committed_position_and_the_adopted_end() -> None:
    """H32: an output's position is its batch's end, and suppression goes by it."""
    assert count(replay(committed=6, only_input=0).next_event(0, 100)) == 6
    assert count(replay(committed=6, only_input=0).next_event(6, 100)) == 4
    assert count(replay(Consumed(0, 0, 30, 30), committed=6).next_event(4, 100)) == 2
    assert count(replay(Consumed(0, 0, 30, 30)).next_event(4, 100)) == 6
    assert count(replay(committed=40, only_input=0).next_event(4, 100)) == 6


def test_h32_sink_outputs_are_suppressed_up_to_the_committed_position() -> None:
    """H32: not by sequences, which aborted records have too."""
    sinks = replay(committed=6, last_valid={SINK: 100})
    assert sinks.suppressed(SINK, 6, 41, 5) == 5
    assert sinks.suppressed(SINK, 7, 46, 5) == 0


def test_internal_outputs_are_suppressed_up_to_the_last_valid_sequence() -> None:
    """Also beyond the adopted end, and at the head of a batch only as much as is out."""
    outputs = replay(last_valid={OUT: 7}, committed=100)
    assert outputs.suppressed(OUT, 1, 1, 5) == 5
    assert outputs.suppressed((0, 1), 2, 1, 5) == 0
    assert outputs.suppressed(OUT, 20, 6, 5) == 2
    assert outputs.suppressed(OUT, 21, 11, 5) == 0


@pytest.mark.parametrize(
    ("count", "end_offset", "is_sound"),
    [(4, 20, True), (4, 21, False), (4, 19, False), (3, 19, True), (3, 20, True), (3, 21, False)],
)
def test_h13_inputs_are_verified(count: int, end_offset: int, is_sound: bool) -> None:
    """H13: a run ends where it ended, its parts at most there."""
    whole = replay(Consumed(0, 1, 4, 20))
    step = whole.next_event(0, 100)
    assert isinstance(step, RecordsNext)
    if is_sound:
        whole.verify(step, count, end_offset)
        return
    with pytest.raises(ReplayDivergedError, match="the lineage says 20: the input"):
        whole.verify(step, count, end_offset)


def test_what_a_record_had_of_the_outside_it_gets_again() -> None:
    """By event, index in the frame and number; as often as it is asked until it is passed."""
    asked = replay(
        Attachment(0, 1, 0, 1, b"first"),
        Attachment(0, 1, 1, 2, b"second"),
        Consumed(0, 1, 4, 20),
        MergedBatch(4, (MergedInput(0, 2, InputPlace(9, 0, 5)),)),
        Attachment(5, 0, 0, 1, b"merged"),
    )
    assert isinstance(asked.next_event(0, 4), RecordsNext)
    for _ in range(2):
        assert asked.attachment(0, 1, 0, 1) == b"first"
        assert asked.attachment(0, 1, 1, 2) == b"second"
        assert asked.attachment(5, 0, 0, 1) == b"merged", "a batch is asked for its events at once"
    asked.next_event(4, 4)
    assert asked.attachment(5, 0, 0, 1) == b"merged"
    assert len(asked._attachments) == 1, "what is passed is kept no longer"


def test_answers_of_a_run_stay_until_it_is_over() -> None:
    """They are of all of its records, however many slices it takes."""
    asked = replay(Attachment(0, 0, 0, CLOCK, b"now"), Consumed(0, 1, 4, 20), Consumed(4, 1, 2, 22))
    for position in (0, 2, 3):
        step = asked.next_event(position, 2)
        assert isinstance(step, RecordsNext)
        assert asked.attachment(step.run, 0, 0, CLOCK) == b"now"
    asked.next_event(4, 2)
    assert not asked._attachments


@pytest.mark.parametrize("wrong", [(1, 1, 0, 1), (0, 0, 0, 1), (0, 1, 1, 1), (0, 1, 0, 2)])
def test_a_record_that_asks_for_what_it_never_had_has_diverged(wrong: tuple[int, ...]) -> None:
    """Asked anew the answer would be another one; of another kind it is no answer at all."""
    asked = replay(Attachment(0, 1, 0, 1, b"first"), Consumed(0, 1, 4, 20))
    asked.next_event(0, 4)
    with pytest.raises(ReplayDivergedError, match="asks the outside for kind"):
        asked.attachment(*wrong)


def test_h13_an_end_that_was_cut_off_is_not_verified() -> None:
    """The head of a cut run has no known end, and an only input no lineage."""
    for some in (replay(Consumed(0, 1, 4, UNKNOWN_OFFSET)), replay(only_input=1)):
        step = some.next_event(0, 4)
        assert isinstance(step, RecordsNext)
        some.verify(step, 4, 999)


def test_i9_what_a_scan_found_is_compared() -> None:
    """I9: each output of which a scan has found the like, by its sequence."""
    outputs = replay(stored={OUT: {5: "five", 7: "seven"}, SINK: {}})
    assert not outputs.is_stored(SINK, 5, 1)
    assert not outputs.is_stored(OUT, 1, 4)
    assert outputs.is_stored(OUT, 4, 3)
    outputs.compare(OUT, 4, 3, ["four", "five", "six"].__getitem__)
    assert outputs.is_stored(OUT, 7, 1)
    with pytest.raises(ReplayDivergedError, match="sequence 7: replay made six, but seven is st"):
        outputs.compare(OUT, 7, 1, ["six"].__getitem__)


def test_i9_what_is_passed_is_forgotten() -> None:
    """A scan may have found outputs before the base too, which nobody makes again."""
    outputs = replay(stored={OUT: {5: "five"}})
    assert outputs.is_stored(OUT, 5, 1)
    assert not outputs.is_stored(OUT, 6, 3)
    assert not outputs.is_stored(OUT, 5, 1)


def test_h44_batches_end_where_hashes_are_known() -> None:
    """H44: they are of a position, so a batch must end there to be compared."""
    checks = OutputHashes(0, 3, {}), OutputHashes(0, 8, {})
    checked = replay(only_input=0, committed=6, checks=checks)
    assert count(checked.next_event(0, 100)) == 3
    assert (checked.is_checked_at(2), checked.is_checked_at(3)) == (False, True)
    checked.check(OutputHashes(0, 3, {}))
    assert not checked.is_checked_at(3)
    assert count(checked.next_event(3, 100)) == 3
    assert count(checked.next_event(6, 100)) == 2


def test_h44_what_differs_is_told() -> None:
    """H44: topic, position, and which part of the records."""
    before = OutputHashes(0, 3, {0: (1, 2, 3, 4, 5), 1: (1, 2, 3, 4, 5)})
    same = OutputHashes(0, 3, {0: (1, 2, 3, 4, 5), 1: (1, 2, 3, 4, 5)})
    replay(checks=(before,)).check(same)
    other = OutputHashes(0, 3, {0: (1, 2, 3, 4, 5), 1: (1, 9, 9, 4, 5)})
    with pytest.raises(ReplayDivergedError, match="the values and timestamps of what") as caught:
        replay(checks=(before,)).check(other)
    assert "up to event 3" in str(caught.value)
    assert caught.value.topic == "sink"
    with pytest.raises(
        ReplayDivergedError, match="the keys and values and timestamps and headers and number"
    ):
        replay(checks=(before,)).check(OutputHashes(0, 3, {}))

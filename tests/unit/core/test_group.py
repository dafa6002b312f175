"""The steps of a task group's recovery and what stops it. Source: protocol, section 6."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kstash.core.determinants import Consumed
from kstash.core.effects import (
    AppendClaim,
    AppendGeneration,
    AppendSeal,
    AppendStart,
    Effect,
    FenceOutputs,
    GoLive,
    ReadLineage,
    Recover,
    ScanTails,
    VerifyCheckpoints,
)
from kstash.core.events import (
    Begin,
    CheckpointsVerified,
    ClaimAppended,
    Event,
    Fenced,
    GenerationAppended,
    LineageRead,
    Replayed,
    SealAppended,
    SkipsLocated,
    StartAppended,
    TailsScanned,
)
from kstash.core.group import TRANSITIONS, GroupCore
from kstash.core.group_state import GroupState
from kstash.core.lineage_codec import Lineage
from kstash.core.records import Generation, Hint, LineageRecord, Release, Seal, Start, TaskStart
from kstash.core.sink import CommittedPositions
from kstash.core.wire import Fence
from kstash.errors import (
    CommittedPositionLostError,
    IncarnationFencedError,
    ProgramChangedError,
)
from tests.unit.core_cases import (
    APP,
    GENERATION,
    OUT,
    SINK_SPEC,
    SPEC,
    TASK,
    checkpoint,
    claim,
    config,
    events_of,
    group_core,
    identity,
    inc,
    segment,
    start,
)

STAGE = TASK.stage
SETTINGS = {"topology": "t1"}
BASE = checkpoint(1, 5, inputs={0: 70})
USABLE = frozenset({(TASK, BASE.label)})


Topic = list[LineageRecord]


def drive(core: GroupCore, events: Sequence[Event]) -> list[Effect]:
    """Give events in order; returns the effects of the last one."""
    effects: list[Effect] = []
    for event in events:
        effects = core.step(event)
    return effects


def recover(topic: Sequence[LineageRecord], core: GroupCore, committed: str | None = None) -> Start:
    """An undisturbed recovery over `topic`; returns the START that is appended."""
    events = events_of(topic, usable=USABLE, committed=committed)
    (effect,) = drive(core, events[:-1])
    assert isinstance(effect, AppendStart)
    return effect.record


def committed(position: int, generation: int = GENERATION) -> str:
    """The metadata of a committed position."""
    return CommittedPositions(generation, {STAGE: position}).encode()


# -- a topic that was made anew -------------------------------------------------------------------


def test_h46_a_start_of_another_generation_is_no_parent() -> None:
    """H46: a zombie of before a reset may write any kind of record into the new topic."""
    zombie = inc(1, GENERATION - 1)
    left: Topic = [
        replace(start(1, adopted=9), incarnation=zombie),
        replace(segment(1, 1, 0, 9), incarnation=zombie),
        replace(checkpoint(1, 5, is_remote=True), incarnation=zombie),
        Hint(zombie, TASK, 1, {OUT: 70}, 9),
    ]
    for topic in ([config(), claim(), *left], [*left, config(), claim()]):
        core = group_core()
        events = events_of(topic)
        drive(core, events[:8])
        assert core.state is GroupState.VERIFYING
        assert core.step(events[8]) == [ScanTails((), {STAGE: [0]})]
        (effect,) = core.step(events[9])
        assert isinstance(effect, AppendStart)
        assert (effect.record.parent, effect.record.tasks[STAGE].adopted) == (None, 0)


@pytest.mark.parametrize("at", [3, 6])
def test_h46_who_meets_a_later_generation_starts_over(at: int) -> None:
    """H46: the topic was made anew during the recovery, or since: what is known is of the old one.

    The CLAIM has any offset there; only the incarnations of others tell.
    """
    events = events_of([config(), claim(), start(1, settings=SETTINGS)])
    later = (at + 1, Seal(inc(1, GENERATION + 1)))
    core = group_core()
    drive(core, events[:at])
    read = events[at]
    assert isinstance(read, LineageRead)
    with pytest.raises(IncarnationFencedError, match="made anew"):
        core.step(LineageRead([*read.records, later]))
    core = group_core()
    drive(core, events)
    core.view.fold(9, Hint(inc(1, GENERATION - 1), TASK, 1, {}, 0))
    core.check_fenced()
    core.view.fold(10, later[1])
    with pytest.raises(IncarnationFencedError, match="made anew"):
        core.check_fenced()


@pytest.mark.parametrize("found", [[], [(3, Seal(inc(1)))]])
def test_h46_a_claim_that_is_not_where_it_was_acknowledged(
    found: list[tuple[int, LineageRecord]],
) -> None:
    """H46: in a topic that was made anew it may lie below what was read of the old one."""
    core = group_core()
    drive(core, events_of([config(), claim(), start(1)])[:3])
    with pytest.raises(IncarnationFencedError, match="not at offset 3"):
        core.step(LineageRead(found))
    core = group_core()
    drive(core, [Begin(), LineageRead([]), GenerationAppended(), ClaimAppended(0)])
    with pytest.raises(IncarnationFencedError, match="not at offset 0"):
        core.step(LineageRead([(0, claim())]))


@pytest.mark.parametrize(
    "found", [[], [(0, Generation(b"other", GENERATION))], [(0, Seal(inc(1)))]]
)
def test_h63_a_topic_made_anew_before_the_seal(found: list[tuple[int, LineageRecord]]) -> None:
    """H63: a claimant that slept through a reset has initialised its sinks after it.

    It found its CLAIM before, and reads nothing new up to a SEAL that lies in the other topic.
    """
    core = group_core()
    drive(core, events_of([config(), claim(), start(1)])[:7])
    with pytest.raises(IncarnationFencedError, match="CONFIG is another"):
        core.step(LineageRead(found))


def test_h48_what_a_successor_wrote_says_nothing_to_a_stalled_claimant() -> None:
    """H48: it claimed after the SEAL to which lineage was read, and its outputs are there already.

    Taken into account, they rely on lineage that this incarnation has not read: it would refuse to
    start for good, and stop the worker. As it is, it starts, and finds that it is fenced.
    """
    core = group_core(SINK_SPEC)
    topic: Topic = [config(), claim(), start(1, settings=SETTINGS)]
    events = events_of(topic, committed=committed(0))
    (effect,) = drive(core, events[:9])
    assert isinstance(effect, ScanTails)
    (scan,) = effect.scans
    assert scan.on_record(
        OUT, 0, identity(inc(1), 1, position=1), Lineage(0, 1, (Consumed(0, 0, 1, 1),))
    )
    successor = inc(9)
    assert not scan.on_record(OUT, 1, identity(successor, 2, position=7), None)
    assert scan.position == 1
    (started,) = core.step(events[9])
    assert isinstance(started, AppendStart)
    assert started.record.tasks[STAGE].adopted == 1


# -- order ---------------------------------------------------------------------------------------


def test_the_first_start_of_all() -> None:
    """Section 6 on an empty topic: every step only after the acknowledgement of the last one."""
    core = group_core()
    assert core.step(Begin()) == [ReadLineage(0, None)]
    assert core.step(LineageRead([])) == [AppendGeneration()]
    assert core.step(GenerationAppended()) == [AppendClaim()]
    assert core.step(ClaimAppended(1)) == [ReadLineage(0, 1)]
    fence = Fence(APP, ((3, inc(1)),))
    assert core.step(LineageRead([(0, config()), (1, claim())])) == [FenceOutputs(fence)]
    assert core.incarnation == inc(1)
    assert core.step(Fenced(())) == [AppendSeal(Seal(inc(1)))]
    assert core.step(SealAppended(2)) == [ReadLineage(2, 2)]
    assert core.step(LineageRead([(2, Seal(inc(1)))])) == [ReadLineage(0, 0)]
    assert core.step(LineageRead([(0, config())])) == [VerifyCheckpoints({TASK: []})]
    # No incarnation ever started: there is nothing to scan.
    assert core.step(CheckpointsVerified(frozenset())) == [ScanTails((), {STAGE: [0]})]
    record = Start(inc(1), None, {STAGE: TaskStart(0, 0, {0: 42})}, SETTINGS)
    assert core.step(TailsScanned({STAGE: {0: 42}})) == [AppendStart(record)]
    (effect,) = core.step(StartAppended())
    assert isinstance(effect, Recover)
    assert core.step(Replayed()) == [GoLive()]
    assert core.state is GroupState.LIVE


def test_a_takeover() -> None:
    """A later incarnation: no CONFIG, lineage from the START chain, tails scanned."""
    topic: Topic = [
        config(),
        claim(),
        start(1, initial={0: 33}, settings=SETTINGS),
        segment(1, 1, 0, 5),
    ]
    core = group_core()
    events = events_of(topic)
    assert drive(core, events[:2]) == [AppendClaim()]
    assert drive(core, events[2:3]) == [ReadLineage(4, 4)]
    drive(core, events[3:8])
    (scan,) = core.step(events[8])
    assert isinstance(scan, ScanTails)
    assert [s.task for s in scan.scans] == [TASK]
    assert scan.missing_inputs == {}
    assert core.step(TailsScanned({})) == [
        AppendStart(Start(inc(4), inc(1), {STAGE: TaskStart(0, 5, {0: 33})}, SETTINGS))
    ]
    (effect,) = core.step(StartAppended())
    assert isinstance(effect, Recover)
    assert (effect.plans[TASK].position, effect.plans[TASK].adopted) == (0, 5)


def test_h2_h3_there_is_one_way_only() -> None:
    """H2, H3: each state is left by one event; FENCE, SEAL and scan cannot be passed by."""
    steps = [(state, kind) for state, kind in TRANSITIONS if kind is not Begin]
    assert [state for state, _ in steps] == list(GroupState)[1:-1]
    assert [kind for _, kind in steps] == [
        LineageRead,
        GenerationAppended,
        ClaimAppended,
        LineageRead,
        Fenced,
        SealAppended,
        LineageRead,
        LineageRead,
        CheckpointsVerified,
        TailsScanned,
        SkipsLocated,
        StartAppended,
        Replayed,
    ]


def test_a_transition_leads_where_the_table_says() -> None:
    """The drawing is of the table, so what the code does must be in it."""
    core = group_core()
    core.step(Begin())
    key = GroupState.READING, LineageRead
    stated = TRANSITIONS[key]
    try:
        TRANSITIONS[key] = replace(stated, targets=(GroupState.FENCING,))
        with pytest.raises(AssertionError, match="leads to"):
            core.step(LineageRead([]))
    finally:
        TRANSITIONS[key] = stated


@pytest.mark.parametrize(
    ("steps", "field", "value"),
    [
        (2, "claim_offset", 5),
        (4, "claim_offset", -1),
        (4, "plans", {TASK: None}),
        (10, "plans", {}),
        (10, "_start", None),
    ],
)
def test_a_step_asserts_what_its_state_knows(steps: int, field: str, value: object) -> None:
    """The own CLAIM is known from its acknowledgement on, plans and START from the scan on."""
    topic: Topic = [config(), claim(), start(1, settings=SETTINGS)]
    core = group_core(settings=SETTINGS)
    drive(core, events_of(topic)[:steps])
    core._check()
    setattr(core, field, value)
    with pytest.raises(AssertionError):
        core._check()


def test_an_event_out_of_order_is_a_programmers_error() -> None:
    """What no transition foresees is refused."""
    core = group_core()
    core.step(Begin())
    with pytest.raises(KeyError):
        core.step(Fenced(()))


def test_any_state_may_begin_anew() -> None:
    """Section 6.8: a failure at any point starts over with a new CLAIM."""
    topic: Topic = [config(), claim(), start(1, settings=SETTINGS)]
    events = events_of(topic)
    for taken in range(len(events)):
        core = group_core()
        drive(core, events[:taken])
        assert core.step(Begin()) == [ReadLineage(0, None)]
        assert isinstance(drive(core, events[1:])[0], Recover)


# -- fenced --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3, 6])
def test_a_higher_claim_stops(step: int) -> None:
    """Section 6.3: a CLAIM above the own one, when the CLAIM is read back and when the SEAL is."""
    events = events_of([config(), claim(), start(1)])
    core = group_core()
    drive(core, events[:step])
    with pytest.raises(IncarnationFencedError):
        core.step(LineageRead([(9, claim())]))


def test_a_late_claim_of_ones_own_counts_too() -> None:
    """Section 4: `inc` is the last CLAIM acknowledged; a retry that arrives late fences us."""
    core = group_core()
    drive(core, events_of([config()]))
    core.step(Replayed())
    core.check_fenced()
    core.view.claim = 99
    with pytest.raises(IncarnationFencedError, match="offset 99"):
        core.check_fenced()


# -- base and START ------------------------------------------------------------------------------


def test_the_base_is_the_best_that_opens() -> None:
    """Section 6.4: only files that this worker can open and verify count."""
    older = checkpoint(1, 3, number=9)
    topic: Topic = [
        config(),
        claim(),
        start(1, settings=SETTINGS),
        segment(1, 1, 0, 8),
        older,
        BASE,
    ]
    events = events_of(topic)
    core = group_core()
    (effect,) = drive(core, events[:8])
    assert effect == VerifyCheckpoints({TASK: [BASE, older]})
    core.step(CheckpointsVerified(frozenset({(TASK, older.label)})))
    (effect,) = core.step(TailsScanned({}))
    assert isinstance(effect, AppendStart)
    assert effect.record.tasks[STAGE] == TaskStart(3, 8, {})


def test_first_offsets_are_carried_on() -> None:
    """Section 3: every START restates them, so that older STARTs may be tombstoned."""
    topic: Topic = [
        config(),
        claim(),
        start(1, initial={0: 33}, settings=SETTINGS),
        start(3, 1, initial={0: 33}, settings=SETTINGS),
    ]
    record = recover(topic, group_core())
    assert record.tasks[STAGE].initial_offsets == {0: 33}
    assert record.parent == inc(3)


# -- H15, H16 ------------------------------------------------------------------------------------


def test_h15_new_code_does_not_replay_old_lineage() -> None:
    """H15: another topology hash with lineage to replay stops, and names the difference."""
    topic: Topic = [config(), claim(), start(1, settings={"topology": "t0"}), segment(1, 1, 0, 5)]
    with pytest.raises(ProgramChangedError, match=r"topology: was 't0', is 't1'") as caught:
        recover(topic, group_core())
    assert caught.value.differences == {"topology": ("t0", "t1")}


def test_h15_a_changed_program_starts_behind_a_drain() -> None:
    """H15: an upgrade is a drain to a checkpoint: after a RELEASE there is nothing to replay."""
    topic: Topic = [
        config(),
        claim(),
        start(1, settings={"topology": "t0"}),
        segment(1, 1, 0, 5),
        BASE,
        Release(inc(1), {STAGE: 5}),
    ]
    record = recover(topic, group_core())
    assert record.settings == SETTINGS
    assert record.tasks[STAGE] == TaskStart(5, 5, {0: 0})


def test_h15_a_release_without_a_checkpoint_that_opens_is_no_drain() -> None:
    """H15: with the disk lost there is something to replay again."""
    topic: Topic = [
        config(),
        claim(),
        start(1, settings={"topology": "t0"}),
        segment(1, 1, 0, 5),
        BASE,
        Release(inc(1), {STAGE: 5}),
    ]
    with pytest.raises(ProgramChangedError):
        drive(group_core(), events_of(topic)[:-1])


def test_h16_partition_counts_are_pinned() -> None:
    """H16: partition counts are a setting of START; added partitions stop the replay."""
    topic: Topic = [
        config(),
        claim(),
        start(1, settings={"partitions": "in=2"}),
        segment(1, 1, 0, 5),
    ]
    with pytest.raises(ProgramChangedError, match="partitions: was 'in=2', is 'in=3'"):
        recover(topic, group_core(settings={"partitions": "in=3"}))


def test_h17_skips_are_carried_on() -> None:
    """H17: a skip holds in every replay whose chain holds its START: each START says it again."""
    topic: Topic = [
        config(),
        claim(),
        start(1, settings=SETTINGS, skips=((1, 0, 17), (1, 1, 4))),
        start(3, 1, settings=SETTINGS, skips=((1, 0, 17), (1, 1, 4))),
    ]
    assert recover(topic, group_core()).skips == ((1, 0, 17), (1, 1, 4))
    told = group_core(skips=frozenset({(1, 0, 17), (1, 0, 2)}))
    assert recover(topic, told).skips == ((1, 0, 2), (1, 0, 17), (1, 1, 4))


def test_h15_a_group_with_something_to_replay_is_not_drained() -> None:
    """H15: a RELEASE covers the base's position, not what was found after it."""
    topic: Topic = [
        config(),
        claim(),
        start(1, settings=SETTINGS),
        segment(1, 1, 0, 5),
        BASE,
        Release(inc(1), {STAGE: 5}),
    ]
    core = group_core(settings=SETTINGS)
    recover(topic, core)
    plan = core.plans[TASK]
    assert core._takeover.is_drained(plan)
    assert not core._takeover.is_drained(replace(plan, adopted=6))


# -- H33 -----------------------------------------------------------------------------------------

SINK_TOPIC: Topic = [
    config(),
    claim(),
    start(1, settings=SETTINGS),
    segment(1, 1, 0, 9),
    BASE,
]


def test_h33_a_lost_committed_position_refuses_to_start() -> None:
    """H33: a checkpoint of a task with sinks, and no committed position: what is out already?"""
    with pytest.raises(CommittedPositionLostError, match="position 5"):
        recover(SINK_TOPIC, group_core(SINK_SPEC))


def test_h33_a_lost_position_refuses_to_start_from_a_checkpoint_at_0_too() -> None:
    """H33: a task that never had an event is checkpointed once, and may have put out much since."""
    at_0 = checkpoint(1, 0, inputs={0: 70})
    topic: Topic = [config(), claim(), start(1, settings=SETTINGS), at_0]
    core = group_core(SINK_SPEC)
    events = events_of(topic, usable=frozenset({(TASK, at_0.label)}))
    with pytest.raises(CommittedPositionLostError, match="position 0"):
        drive(core, events[:-1])


def test_h33_a_committed_position_of_another_generation_is_none() -> None:
    """H26, H33: it belongs to a lineage topic that is gone."""
    with pytest.raises(CommittedPositionLostError):
        recover(SINK_TOPIC, group_core(SINK_SPEC), committed(7, GENERATION - 1))
    core = group_core(SINK_SPEC)
    recover(SINK_TOPIC, core, committed(7))
    assert core.plans[TASK].committed == 7


def test_h33_behind_a_release_the_checkpoint_stands_in() -> None:
    """H33: a drained group needs none: all outputs up to its checkpoint were committed."""
    core = group_core(SINK_SPEC)
    recover([*SINK_TOPIC[:3], segment(1, 1, 0, 5), BASE, Release(inc(1), {STAGE: 5})], core)
    assert core.plans[TASK].committed == 5


def test_h33_only_sinks_need_a_committed_position() -> None:
    """H33: a task without sinks, or without a checkpoint, starts without one."""
    recover(SINK_TOPIC, group_core(SPEC))
    core = group_core(SINK_SPEC)
    recover(SINK_TOPIC[:-1], core)
    assert core.plans[TASK].committed == 0


def test_h32_the_committed_position_is_what_suppresses() -> None:
    """H32: not the position of the task: outputs between the two were aborted, and come again."""
    core = group_core(SINK_SPEC)
    record = recover(SINK_TOPIC, core, committed(7))
    assert (record.tasks[STAGE].adopted, core.plans[TASK].committed) == (9, 7)


def test_the_scan_decides_x() -> None:
    """Section 6.5: chunks found in tails are adopted, and START says up to where."""
    topic: Topic = [config(), claim(), start(1, settings=SETTINGS), segment(1, 1, 0, 5)]
    core = group_core()
    (effect,) = drive(core, events_of(topic)[:-2])
    assert isinstance(effect, ScanTails)
    chunk = Lineage(5, 9, (Consumed(5, 0, 4, 9),))
    assert effect.scans[0].on_record(OUT, 0, identity(inc(1), 1, position=9), chunk)
    (effect,) = core.step(TailsScanned({}))
    assert isinstance(effect, AppendStart)
    assert effect.record.tasks[STAGE].adopted == 9

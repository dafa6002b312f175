"""Recovery of a task group as a state machine (protocol, section 6).

Everything passes through `GroupCore.step(event) -> effects`. The transitions are data
(`TRANSITIONS`): which event counts in which state, and to which states it leads. An event without
an entry in the current state, and a state that the entry does not name, are programmer's errors.
The order of the states is the order of the protocol's steps, and each next step is only ever caused
by the event that says the last one is durable:

- nothing but reading the lineage topic happens before the CLAIM is acknowledged;
- the output tails are read only after FENCEs and `init_transactions()` (H2), and lineage to a SEAL
  that was appended after those (H3);
- nothing is produced before START is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kstash.core import effects, events
from kstash.core.effects import Effect
from kstash.core.events import Event
from kstash.core.group_state import GroupState
from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage import LineageView
from kstash.core.manifest import manifest_of
from kstash.core.plan import TaskPlan, TaskSpec
from kstash.core.records import Checkpoint, Seal, Start
from kstash.core.recovery import candidates, plan_task, reached_by, scan_starts
from kstash.core.sink import CommittedPositions
from kstash.core.skips import Asked, Gap, Skip, check_answers, questions
from kstash.core.starting import Takeover, committed_position
from kstash.core.tail_scan import TailScan
from kstash.core.upgrade import Adapter
from kstash.core.wire import Fence
from kstash.errors import IncarnationFencedError


@dataclass(slots=True, kw_only=True)
class GroupCore:
    """One worker's attempt at owning one task group.

    What the operator and the program say, down to `gaps`, is fixed. The rest is known from some
    step on, and forgotten when the group begins anew.

    Attributes:
        group: its number.
        application: tag of the application.
        specs: the group's tasks, all of its stages that have this partition.
        external_inputs: per stage, its inputs that are not internal topics (internal ones start
            at 0).
        settings: what must not change between a crash and its replay (topology hash, seed …).
            The description of the program is one of them (`kstash.core.manifest`).
        skips: records that the settings have it skip (H17).
        gaps: offsets that hold no event, by the settings.
        drop_stores: stores that a changed program may give up.
        checkpoints_retained: newest remote checkpoints of a task that are kept, 2 or more.
        state: the step that waits for its event.
        view: what the lineage topic says, as far as it was read: to the own CLAIM, then to the own
            SEAL; while the group lives, as far as its tail was followed.
        claim_offset: of the own CLAIM, -1 before it is acknowledged.
        committed: positions of the sinks, read after their fence (H28); None where nothing was
            committed under this generation.
        plans: how each task comes back; empty before the tails were scanned, then of all `specs`.
    """

    group: int
    application: int
    specs: Sequence[TaskSpec]
    external_inputs: Mapping[int, Sequence[int]]
    settings: Mapping[str, str]
    skips: frozenset[Skip] = frozenset()
    drop_stores: frozenset[str] = frozenset()
    checkpoints_retained: int = 2
    gaps: frozenset[Gap] = frozenset()
    state: GroupState = GroupState.NEW
    view: LineageView = field(default_factory=LineageView)
    claim_offset: int = -1
    committed: CommittedPositions | None = None
    plans: dict[TaskId, TaskPlan] = field(default_factory=dict)
    # STARTs of the history, oldest first; empty before the SEAL was read, and at the first start.
    _chain: list[Start] = field(default_factory=list)
    # What each task is restored from, None for the empty state; known once files were verified.
    _bases: dict[TaskId, Checkpoint | None] = field(default_factory=dict)
    # Of each task, in the order of `specs`; filled by who carries out `ScanTails`.
    _scans: list[TailScan] = field(default_factory=list)
    # The own START, made when the plans are, and appended after the questions are answered.
    _start: Start | None = None
    # Questions whose answers `SkipsLocated` gives, in this order.
    _asked: tuple[Asked, ...] = ()

    @property
    def incarnation(self) -> Incarnation:
        """Own incarnation; known once the lineage was read to the CLAIM."""
        assert self.view.generation is not None
        assert self.claim_offset >= 0
        return Incarnation(self.view.generation, self.claim_offset)

    def step(self, event: Event) -> list[Effect]:
        """Take one event; returns the effects to carry out, in order.

        Raises:
            IncarnationFencedError: a higher CLAIM exists: begin anew, or stop.
            LineageGapError, CommittedPositionLostError, ProgramChangedError, SkipTooLateError: the
                group cannot start; nothing was changed.
        """
        transition = TRANSITIONS[self.state, type(event)]
        wanted = transition.take(self, event)
        assert self.state in transition.targets, f"{event} leads to {self.state}"
        self._check()
        return wanted

    def _check(self) -> None:
        """Assert what is known in which state; both ways where that is so."""
        step = _ORDER[self.state]
        assert (self.claim_offset >= 0) == (step > _ORDER[GroupState.CLAIMING])
        assert self.view.generation is not None or step < _ORDER[GroupState.FENCING]
        is_planned = step > _ORDER[GroupState.SCANNING]
        assert bool(self.plans) == is_planned or not self.specs
        assert not is_planned or self._start is not None
        assert not is_planned or self.plans.keys() == {spec.task for spec in self.specs}

    @property
    def chain(self) -> Sequence[Start]:
        """STARTs that the group's history goes back on, oldest first; known after the SEAL."""
        return self._chain

    @property
    def _takeover(self) -> Takeover:
        return Takeover(self.view, self._chain, self.settings)

    def check_fenced(self) -> None:
        """Raise when a CLAIM above the own one was seen (a late one of our own included).

        Likewise when the topic was made anew: nothing of this incarnation counts there (H46).
        """
        if reason := self.view.outlived(self.claim_offset):
            raise IncarnationFencedError(f"task group {self.group}: {reason}")

    def remote_checkpoints(self, task: TaskId) -> list[Checkpoint]:
        """Remote checkpoints of a task on the adopted history, oldest first, each once.

        What an idle task says again is the same checkpoint.
        """
        found = candidates(self.view, task, self._chain)
        by_label = {c.label: c for c in reversed(found) if c.is_remote}
        return list(by_label.values())

    def _begin(self, _: Event) -> list[Effect]:
        self.view = LineageView(retained=self.checkpoints_retained)
        self.claim_offset = -1
        self.committed = self._start = None
        self.plans = {}
        self._chain, self._bases, self._scans, self._asked = [], {}, [], ()
        self.state = GroupState.READING
        return [effects.ReadLineage(0, None)]

    def _fold(self, event: Event) -> None:
        assert isinstance(event, events.LineageRead)
        for offset, record in event.records:
            self.view.fold(offset, record)

    def _read_lineage(self, event: Event) -> list[Effect]:
        self._fold(event)
        if self.view.generation is None:
            self.state = GroupState.CONFIGURING
            return [effects.AppendGeneration()]
        return self._claim(event)

    def _claim(self, _: Event) -> list[Effect]:
        self.state = GroupState.CLAIMING
        return [effects.AppendClaim()]

    def _claimed(self, event: Event) -> list[Effect]:
        assert isinstance(event, events.ClaimAppended)
        self.claim_offset = event.offset
        self.state = GroupState.READING_CLAIM
        return [effects.ReadLineage(self.view.next_offset, event.offset)]

    def _read_claim(self, event: Event) -> list[Effect]:
        self._fold(event)
        self.check_fenced()
        self.state = GroupState.FENCING
        return [effects.FenceOutputs(Fence(self.application, ((self.group, self.incarnation),)))]

    def _fenced(self, event: Event) -> list[Effect]:
        assert isinstance(event, events.Fenced)
        self.committed = CommittedPositions.newest(event.committed, self.incarnation.generation)
        self.state = GroupState.SEALING
        return [effects.AppendSeal(Seal(self.incarnation))]

    def _sealed(self, event: Event) -> list[Effect]:
        assert isinstance(event, events.SealAppended)
        self.state = GroupState.READING_SEAL
        return [effects.ReadLineage(self.view.next_offset, event.offset)]

    def _read_seal(self, event: Event) -> list[Effect]:
        self._fold(event)
        self.check_fenced()
        assert self.view.generation_record is not None
        offset, _ = self.view.generation_record
        self.state = GroupState.READING_CONFIG
        return [effects.ReadLineage(offset, offset)]

    def _read_config(self, event: Event) -> list[Effect]:
        # A reset deletes the lineage topic, then fences the sinks, then makes the topic anew. Who
        # slept meanwhile has read a part of either, and may have initialised its sinks since (H63).
        assert isinstance(event, events.LineageRead)
        if self.view.is_another(event.records):
            raise IncarnationFencedError(
                f"task group {self.group}: the lineage topic was made anew: its CONFIG is another"
            )
        manifest = manifest_of(self.settings)
        if manifest is not None:
            Adapter(self.view, manifest).adapt()
        self._chain = self.view.chain(self.view.parent_of(self.incarnation))
        self.state = GroupState.VERIFYING
        return [
            effects.VerifyCheckpoints(
                {spec.task: candidates(self.view, spec.task, self._chain) for spec in self.specs}
            )
        ]

    def _verified(self, event: Event) -> list[Effect]:
        assert isinstance(event, events.CheckpointsVerified)
        for spec in self.specs:
            usable = [
                checkpoint
                for checkpoint in candidates(self.view, spec.task, self._chain)
                if (spec.task, checkpoint.label) in event.usable
            ]
            self._bases[spec.task] = usable[0] if usable else None
            self._takeover.check_committed(spec, self._bases[spec.task], self.committed)
        self._scans = [
            TailScan(
                spec,
                starts=scan_starts(self.view, spec, self._bases[spec.task]),
                known=self.view.starts,
                reached=reached_by(self.view, spec.task, self._bases[spec.task]),
            )
            for spec in self.specs
        ]
        self.state = GroupState.SCANNING
        missing = self._takeover.missing_inputs(self.external_inputs, self.specs)
        return [effects.ScanTails(self._scans if self._chain else (), missing)]

    def _scanned(self, event: Event) -> list[Effect]:
        assert isinstance(event, events.TailsScanned)
        for spec, scan in zip(self.specs, self._scans, strict=True):
            self.plans[spec.task] = plan_task(
                self.view,
                spec,
                application=self.application,
                chain=self._chain,
                base=self._bases[spec.task],
                scan=scan,
                committed=committed_position(spec, self._bases[spec.task], self.committed),
            )
        self.plans = self._takeover.check_program(self.plans, self.drop_stores)
        self._start = self._takeover.start(
            self.incarnation,
            self.plans,
            event.initial_offsets,
            skips=self.skips,
            gaps=self.gaps,
        )
        self._asked = questions(
            self.skips,
            self.gaps,
            chain=self._chain,
            start=self._start,
            specs=self.specs,
            plans=self.plans,
        )
        if self._asked:
            self.state = GroupState.LOCATING
            return [effects.LocateSkips(self._asked)]
        return self._append_start()

    def _located(self, event: Event) -> list[Effect]:
        assert isinstance(event, events.SkipsLocated)
        check_answers(self._asked, event.before)
        return self._append_start()

    def _append_start(self) -> list[Effect]:
        assert self._start is not None
        self.state = GroupState.STARTING
        return [effects.AppendStart(self._start)]

    def _started(self, _: Event) -> list[Effect]:
        assert self._start is not None
        self.view.starts[self.incarnation] = self._start
        self.state = GroupState.REPLAYING
        return [effects.Recover(self.plans)]

    def _replayed(self, _: Event) -> list[Effect]:
        self.state = GroupState.LIVE
        return [effects.GoLive()]


@dataclass(frozen=True, slots=True)
class Transition:
    """What an event does in a state.

    Attributes:
        take: does it, and gives the effects.
        targets: the states that it may lead to.
    """

    take: Callable[[GroupCore, Event], list[Effect]]
    targets: tuple[GroupState, ...]


_S = GroupState
_ORDER = {state: step for step, state in enumerate(GroupState)}

TRANSITIONS: dict[tuple[GroupState, type[Event]], Transition] = {
    (_S.READING, events.LineageRead): Transition(
        GroupCore._read_lineage, (_S.CONFIGURING, _S.CLAIMING)
    ),
    (_S.CONFIGURING, events.GenerationAppended): Transition(GroupCore._claim, (_S.CLAIMING,)),
    (_S.CLAIMING, events.ClaimAppended): Transition(GroupCore._claimed, (_S.READING_CLAIM,)),
    (_S.READING_CLAIM, events.LineageRead): Transition(GroupCore._read_claim, (_S.FENCING,)),
    (_S.FENCING, events.Fenced): Transition(GroupCore._fenced, (_S.SEALING,)),
    (_S.SEALING, events.SealAppended): Transition(GroupCore._sealed, (_S.READING_SEAL,)),
    (_S.READING_SEAL, events.LineageRead): Transition(GroupCore._read_seal, (_S.READING_CONFIG,)),
    (_S.READING_CONFIG, events.LineageRead): Transition(GroupCore._read_config, (_S.VERIFYING,)),
    (_S.VERIFYING, events.CheckpointsVerified): Transition(GroupCore._verified, (_S.SCANNING,)),
    (_S.SCANNING, events.TailsScanned): Transition(GroupCore._scanned, (_S.LOCATING, _S.STARTING)),
    (_S.LOCATING, events.SkipsLocated): Transition(GroupCore._located, (_S.STARTING,)),
    (_S.STARTING, events.StartAppended): Transition(GroupCore._started, (_S.REPLAYING,)),
    (_S.REPLAYING, events.Replayed): Transition(GroupCore._replayed, (_S.LIVE,)),
    # From any state: assigned, or starting over after a failure.
    **{(state, events.Begin): Transition(GroupCore._begin, (_S.READING,)) for state in GroupState},
}

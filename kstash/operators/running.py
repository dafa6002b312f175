"""What is under way in a stage: records go from operator to operator, up to the exits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from kstash.operators.calls import join
from kstash.operators.entry import Entry
from kstash.operators.flow import Flow
from kstash.operators.homes import Homes
from kstash.operators.interleaved import Share, meets_by_columns, runs_of
from kstash.operators.scope import OriginOf, TaskScope, Turn
from kstash.operators.step import Step, WorkLeft
from kstash.operators.turns import all_turns, in_turn, takes_one_by_one
from kstash.operators.unfinished import REST, Unfinished
from kstash.topology.model import Stage


class Running:
    """Runs the operators of a stage in their turns, on a batch or on what one of them left.

    Args:
        stage: what to run.
        turns: by input index, those of the operators after it, in the order of declaration.
        scope: what operators are given.
        homes: where keys belong.
        seconds: a clock that never goes back.
    """

    def __init__(
        self,
        stage: Stage,
        turns: Sequence[Sequence[Turn]],
        *,
        scope: TaskScope,
        homes: Homes,
        seconds: Callable[[], float],
    ) -> None:
        self._stage, self._turns, self._scope, self._homes = stage, turns, scope, homes
        self._seconds = seconds
        self._slowest: tuple[float, str] | None = None
        self._entries = [
            Entry(source, stage.read_after[node.index])
            for node, source in zip(stage.entries, stage.inputs, strict=True)
        ]
        self._all_turns = all_turns(self._turns)
        self._is_one_by_one = [takes_one_by_one(stage, [entry]) for entry in stage.entries]
        self._meets_by_columns = meets_by_columns(stage, self._entries)
        self._unfinished = Unfinished()
        # Of what is under way: whose turn it is after it, and whether it is new.
        self._way: Sequence[Turn] = ()
        self._is_new = True

    @property
    def has_work(self) -> bool:
        """Whether what is under way has left work."""
        return bool(self._unfinished)

    @property
    def slowest(self) -> tuple[float, str]:
        """As of `StageProgram`."""
        return self._slowest or (0.0, "")

    def begin(self, *, is_new: bool, origin_of: OriginOf | None = None) -> None:
        """Something begins of which nothing was done yet."""
        assert not self._unfinished, "the batch before is not done"
        self._is_new, self._slowest = is_new, None
        self._homes.begin(())
        self._scope.first, self._scope.origin_of = 0, origin_of

    def enter(self, shares: Sequence[Share]) -> None:
        """Run records of inputs through the stage, together where that makes no difference."""
        if len(shares) == 1:
            is_whole = not self._is_one_by_one[shares[0].input]
        else:
            is_whole = self._meets_by_columns
        if is_whole:
            self._enter_together(shares, 0)
        else:
            self._enter_runs(runs_of(shares, self._is_one_by_one))

    def go_on(self) -> None:
        """Do some of the work that is left; there must be some."""
        index, work = self._unfinished.take()
        self._slowest = None
        if index == REST:
            work(self._scope)
        else:
            self._do(index, work)

    def do_own(self, turn: Turn, source: int, work: WorkLeft, *, is_new: bool) -> None:
        """Do what no record has set off."""
        self.begin(is_new=is_new)
        self._way = self._turns[source]
        self._do(turn.node.index, work)

    def pass_time(self, steps: Iterator[tuple[int, int, WorkLeft]]) -> None:
        """Do steps of event time one after the other, the rest later where one leaves work."""
        for source, index, work in steps:
            self._way = self._turns[source]
            self._do(index, work)
            if self._unfinished:
                self._unfinished.leave(REST, [lambda _: self.pass_time(steps)])
                return

    def _do(self, index: int, work: WorkLeft) -> None:
        """Have an operator do some work, and run what it makes through the stage."""
        turns = self._way
        number = next(n for n, turn in enumerate(turns) if turn.node.index == index)
        started = self._seconds()
        self._scope.begin(turns[number], self._scope.first, is_new=self._is_new)
        work(self._scope)
        self._finish(turns[number])
        ended = self._seconds()
        self._slowest = ended - started, turns[number].title
        self._run_all(turns[number + 1 :], ended)

    def _enter_together(self, shares: Sequence[Share], first: int) -> None:
        """Run records through the stage together; they are those of the batch from `first` on."""
        scope, source = self._scope, shares[0].input
        if self._is_new:
            self._homes.begin(shares)
        self._way = self._turns[source] if len(shares) == 1 else self._all_turns
        started = self._seconds()
        scope.begin(self._entries[source], first, is_new=self._is_new)
        for share in shares:
            scope.input, scope.turn = share.input, self._entries[share.input]
            flow = scope.turn.decode(share.batch, scope, share.trail)
            if flow is not None:
                scope.flows[self._stage.entries[share.input].index] = flow
        self._run_all(self._way, started)

    def _enter_runs(self, runs: Iterator[tuple[int, Share]]) -> None:
        """Do so run by run, up to one that leaves work: the others come later."""
        for first, run in runs:
            self._enter_together([run], first)
            if self._unfinished:
                self._unfinished.leave(REST, [lambda _: self._enter_runs(runs)])
                return

    def _run_all(self, turns: Iterable[Turn], started: float) -> None:
        seconds = self._seconds
        for turn in turns:
            self._run(turn)
            ended = seconds()
            if self._slowest is None or ended - started > self._slowest[0]:
                self._slowest = ended - started, turn.title
            started = ended

    def _run(self, turn: Turn) -> None:
        scope, flows = self._scope, self._scope.flows
        scope.turn = turn
        if len(turn.parents) > 1:
            self._run_several(turn)
        elif (flow := flows.get(turn.parents[0])) is not None:
            if turn.step is None:
                scope.out(flow)
            else:
                self._step(turn, turn.step, 0, flow)
        self._finish(turn)

    def _finish(self, turn: Turn) -> None:
        """The operator is done for now: what it sent leaves the stage, what it left is kept."""
        scope = self._scope
        scope.end(turn)
        if turn.way_out is not None and (made := scope.flows.get(turn.node.index)) is not None:
            turn.way_out.add(made, scope, is_new=self._is_new)
        if scope.left:
            self._unfinished.leave(turn.node.index, scope.left)
            scope.left = []

    def _run_several(self, turn: Turn) -> None:
        """Run an operator that reads from several."""
        scope = self._scope
        given = [
            (side, flow)
            for side, index in enumerate(turn.parents)
            if (flow := scope.flows.get(index)) is not None
        ]
        if turn.step is not None:
            self._run_sides(turn, turn.step, in_turn(given))
        elif given:
            whole = join([flow for _, flow in given], turn.read, turn.node.label(), scope)
            if whole is not None:
                scope.out(whole)

    def _run_sides(self, turn: Turn, step: Step, given: Iterator[tuple[int, Flow]]) -> None:
        """Run it on one side after the other, up to where it leaves work: the rest comes later."""
        for side, flow in given:
            self._step(turn, step, side, flow)
            if self._scope.left:
                self._scope.left.append(lambda _: self._run_sides(turn, step, given))
                return

    def _step(self, turn: Turn, step: Step, side: int, flow: Flow) -> None:
        left: Flow | None = flow
        if turn.is_shared and self._homes:
            left = self._homes.check(turn.node, flow, self._scope)
        if left is not None:
            step.run(side, left, self._scope)

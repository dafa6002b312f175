"""A stage as a program: bytes in, bytes out, for one task.

A batch runs through the whole stage step by step in the order of declaration, so each step sees a
whole column at once. Where two branches of one input meet again, their records are put back into
the order of the input: the result is that of batches of one record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import get_args

from kstash.core.watermark import TaskTime
from kstash.operators.batch import Batch, concatenate
from kstash.operators.calls import join
from kstash.operators.entry import Entry
from kstash.operators.exit import Exit
from kstash.operators.flow import Flow
from kstash.operators.flushes import Flushes
from kstash.operators.homes import Home, Homes
from kstash.operators.interleaved import Share, meets_by_columns, runs_of
from kstash.operators.passing import Passing
from kstash.operators.scope import OriginOf, TaskScope, Turn
from kstash.operators.sizes import Limit
from kstash.operators.step import Decide, Outside, RecordError, Step, Stores, WorkLeft, always_fail
from kstash.operators.ticks import Ticks
from kstash.operators.turns import all_turns, in_turn, takes_one_by_one, turns_of
from kstash.operators.unfinished import REST, Unfinished
from kstash.topology.model import Stage

RECORD_ERRORS: tuple[type[RecordError], ...] = get_args(RecordError)
"""Errors at one record of a batch, which `record_index` names."""


class StageProgram:
    """The operators of one task.

    Args:
        stage: what to run.
        stores: of the task.
        seconds: a clock that never goes back, to measure which operator takes long.
        homes: by input index, of inputs of which nobody knows that they are spread as others are.
        limits: by output index, what the topics take; empty: anything.
        decide: what becomes of a record that fails.
        outside: asked for the time and for chance; None: no operator asks.
        event_time: of the task, where it is the smallest over all that feeds it.

    Attributes:
        passing: whom event time reaches that no record brings.
        ticks, flushes: who goes by the wall clock, and who is flushed.
    """

    def __init__(
        self,
        stage: Stage,
        stores: Stores,
        seconds: Callable[[], float] = lambda: 0.0,
        homes: Mapping[int, Home] = MappingProxyType({}),
        limits: Sequence[Limit] = (),
        decide: Decide = always_fail,
        event_time: TaskTime | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._stage = stage
        self._seconds = seconds
        self._slowest: tuple[float, str] | None = None
        self._entries = [
            Entry(source, stage.read_after[node.index])
            for node, source in zip(stage.entries, stage.inputs, strict=True)
        ]
        self._exits = [
            Exit(node.title, output, limit, says_times=stage.is_watermark and output.internal)
            for node, output, limit in zip(
                stage.exits,
                stage.outputs,
                limits or [Limit(output.topic) for output in stage.outputs],
                strict=True,
            )
        ]
        self._turns = turns_of(stage, self._exits)
        self._all_turns = all_turns(self._turns)
        self._is_one_by_one = [takes_one_by_one(stage, [entry]) for entry in stage.entries]
        self._meets_by_columns = meets_by_columns(stage, self._entries)
        self._unfinished = Unfinished()
        # Of what is under way: whose turn it is after it, and whether it is new.
        self._way: Sequence[Turn] = ()
        self._is_new = True
        self._homes = Homes(homes)
        self._scope = TaskScope(stores, decide, event_time, outside)
        self.passing = Passing(stage, self._turns)
        self.ticks, self.flushes = Ticks(self._turns, stores), Flushes(self._turns, stores)

    @property
    def skipped(self) -> Mapping[str, int]:
        """Records that failed and were skipped, by title of the operator."""
        return self._scope.skipped

    @property
    def dropped(self) -> Mapping[tuple[str, str], int]:
        """Records that operators left out, by (label of the operator, reason), replays apart."""
        return self._scope.drops

    def process(
        self,
        input_index: int,
        batch: Batch,
        *,
        is_new: bool = True,
        origin_of: OriginOf | None = None,
    ) -> None:
        """Run records through the stage; what they make waits for `take_outputs`.

        They may leave work (`has_work`), which is to be done before the next batch comes.

        Args:
            input_index: which of the stage's inputs they are from.
            batch: encoded columns, any number of records.
            is_new: whether they were never processed before. Whether a key is where it belongs, and
                whether a topic takes what is made, is asked of new ones only: what was counted
                elsewhere, or is out, already replays as it was.
            origin_of: says where a record of the batch was read, for operators that ask.

        Raises:
            MisplacedKeyError: a record of state over several topics is not where its key belongs.
            OperatorError: a user's function failed; the state may hold part of the batch, so the
                task must not go on. `record_index` is the index in `batch`.
            SerdeError: the same for a serde.
            RecordTooLargeError, NullKeyError: the same for what a topic would not take.
        """
        if len(batch):
            self.process_merged([Share(input_index, batch)], is_new=is_new, origin_of=origin_of)

    def process_merged(
        self, shares: Sequence[Share], *, is_new: bool = True, origin_of: OriginOf | None = None
    ) -> None:
        """Run records of several inputs through the stage, in the order of their places.

        Args:
            shares: what there is of each input, one record or more.
            is_new: as of `process`. It raises what that does, with indexes in the whole.
            origin_of: as of `process`.
        """
        self._begin(is_new=is_new, origin_of=origin_of)
        if len(shares) == 1:
            is_whole = not self._is_one_by_one[shares[0].input]
        else:
            is_whole = self._meets_by_columns
        if is_whole:
            self._enter(shares, 0)
        else:
            self._enter_runs(runs_of(shares, self._is_one_by_one))

    @property
    def has_work(self) -> bool:
        """Whether the batch that `process` was given last has left work."""
        return bool(self._unfinished)

    def go_on(self) -> None:
        """Do some of the work that the batch has left, and run what it makes through the stage.

        There must be some. Raises what `process` does, with indexes in that batch.
        """
        index, work = self._unfinished.take()
        self._slowest = None
        if index == REST:
            work(self._scope)
        else:
            self._do(index, work)

    def tick(self, now_ms: int, *, is_new: bool = True) -> bool:
        """Let the operator that is due first do what the clock says; else as `process`.

        Args:
            now_ms: what it says, in Unix milliseconds, not below any tick before.
            is_new: whether this tick was never processed before.

        Returns:
            Whether one was due.

        Raises:
            KstashError: what `process` raises; the index of a record means nothing.
        """
        found = self.ticks.take(now_ms)
        if found is not None:
            self._do_own(*found, is_new=is_new)
        return found is not None

    def flush(self, number: int, *, is_new: bool = True) -> None:
        """Flush an operator, by the number in `flushes`; else as `process`."""
        self._do_own(*self.flushes.take(number), is_new=is_new)

    def _do_own(self, turn: Turn, source: int, work: WorkLeft, *, is_new: bool) -> None:
        """Do what no record has set off."""
        self._begin(is_new=is_new)
        self._way = self._turns[source]
        self._do(turn.node.index, work)

    def pass_time(self, time_ms: int, *, is_new: bool = True) -> None:
        """Let event time come as far as no record brings it; else as `process`."""
        self._begin(is_new=is_new)
        self._pass(self.passing.steps(time_ms))

    def _begin(self, *, is_new: bool, origin_of: OriginOf | None = None) -> None:
        """Something begins of which nothing was done yet."""
        assert not self._unfinished, "the batch before is not done"
        self._is_new, self._slowest = is_new, None
        self._homes.begin(())
        self._scope.first, self._scope.origin_of = 0, origin_of

    def _pass(self, steps: Iterator[tuple[int, int, WorkLeft]]) -> None:
        """Do so for one operator after the other, the rest later where one leaves work."""
        for source, index, work in steps:
            self._way = self._turns[source]
            self._do(index, work)
            if self._unfinished:
                self._unfinished.leave(REST, [lambda _: self._pass(steps)])
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

    @property
    def slowest(self) -> tuple[float, str]:
        """Seconds that the operator took which took most of the last call, and its name.

        Decoding counts as the first one's.
        """
        return self._slowest or (0.0, "")

    def close(self) -> None:
        """The task ends: operators give up what they opened."""
        with ExitStack() as stack:
            for step in {turn.step for turns in self._turns for turn in turns}:
                if (close := getattr(step, "close", None)) is not None:
                    stack.callback(close)

    @property
    def pending(self) -> int:
        """Number of records that `take_outputs` would give."""
        return sum(len(batch) for way_out in self._exits for batch in way_out.pending)

    def take_outputs(self) -> list[tuple[int, Batch, int]]:
        """What was made since the last call, by output index.

        Returns:
            (Output index, encoded columns, their size as of `bytes_of`).
        """
        taken: list[tuple[int, Batch, int]] = []
        for index, way_out in enumerate(self._exits):
            if way_out.pending:
                taken.append((index, concatenate(way_out.pending), way_out.pending_bytes))
                way_out.pending, way_out.pending_bytes = [], 0
        return taken

    # --- running --------------------------------------------------------------------------------

    def _enter(self, shares: Sequence[Share], first: int) -> None:
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
            self._enter([run], first)
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

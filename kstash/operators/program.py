"""A stage as a program: bytes in, bytes out, for one task.

A batch runs through the whole stage step by step in the order of declaration, so each step sees a
whole column at once. Where two branches of one input meet again, their records are put back into
the order of the input: the result is that of batches of one record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import get_args

from kstash.core.watermark import TaskTime
from kstash.operators.batch import Batch, concatenate
from kstash.operators.exit import Exit
from kstash.operators.flushes import Flushes
from kstash.operators.homes import Home, Homes
from kstash.operators.interleaved import Share
from kstash.operators.passing import Passing
from kstash.operators.running import Running
from kstash.operators.scope import OriginOf, TaskScope
from kstash.operators.sizes import Limit
from kstash.operators.step import Decide, Outside, RecordError, Stores, always_fail
from kstash.operators.ticks import Ticks
from kstash.operators.turns import turns_of
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
        *,
        seconds: Callable[[], float] = lambda: 0.0,
        homes: Mapping[int, Home] = MappingProxyType({}),
        limits: Sequence[Limit] = (),
        decide: Decide = always_fail,
        event_time: TaskTime | None = None,
        outside: Outside | None = None,
    ) -> None:
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
        self._scope = TaskScope(stores, decide, event_time=event_time, outside=outside)
        self._running = Running(
            stage, self._turns, scope=self._scope, homes=Homes(homes), seconds=seconds
        )
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
        self._running.begin(is_new=is_new, origin_of=origin_of)
        self._running.enter(shares)

    @property
    def has_work(self) -> bool:
        """Whether the batch that `process` was given last has left work."""
        return self._running.has_work

    def go_on(self) -> None:
        """Do some of the work that the batch has left, and run what it makes through the stage.

        There must be some. Raises what `process` does, with indexes in that batch.
        """
        self._running.go_on()

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
            self._running.do_own(*found, is_new=is_new)
        return found is not None

    def flush(self, number: int, *, is_new: bool = True) -> None:
        """Flush an operator, by the number in `flushes`; else as `process`."""
        self._running.do_own(*self.flushes.take(number), is_new=is_new)

    def pass_time(self, time_ms: int, *, is_new: bool = True) -> None:
        """Let event time come as far as no record brings it; else as `process`."""
        self._running.begin(is_new=is_new)
        self._running.pass_time(self.passing.steps(time_ms))

    @property
    def slowest(self) -> tuple[float, str]:
        """Seconds that the operator took which took most of the last call, and its name.

        Decoding counts as the first one's.
        """
        return self._running.slowest

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

"""Windows that send at intervals: what has changed, once, as it would have been sent last."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import App
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.windows import unsent
from kstash.testing.state import MemoryBackend
from kstash.topology.model import Stage
from kstash.topology.window_nodes import Windows

START = 10**9
NO_ROOM = 1


def _ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


KINDS: list[Windows] = [
    kstash.tumbling(_ms(10)),
    kstash.hopping(_ms(12), _ms(5)),
    kstash.daily("UTC"),
    kstash.sliding(_ms(8)),
    kstash.session(_ms(6)),
]


def joined(one: list[str], other: list[str]) -> Any:
    """The state of two sessions, or of none."""
    return (one + other)[-3:]


def added(state: list[str], value: str) -> Any:
    """Changes the state in place; some values empty the window."""
    if value == "d":
        return kstash.DELETE
    state.append(value)
    return state


FOLDS: list[Callable[[Any, Windows], Any]] = [
    lambda windowed, _: windowed.count("n"),
    lambda windowed, _: windowed.collect("n", value=kstash.text),
    lambda windowed, windows: windowed.aggregate(
        "n",
        list,
        added,
        value=kstash.json,
        merge=joined if "session" in str(windows) else None,
    ),
]

ENDS = None
"""An interval ends."""

EVENTS = st.lists(
    st.one_of(
        st.just(ENDS),
        st.lists(
            st.tuples(
                st.sampled_from("kl"),
                st.sampled_from("abd"),
                st.one_of(st.integers(-9, 9), st.integers(-60, 60)),
            ),
            min_size=1,
            max_size=4,
        ),
    ),
    max_size=10,
)


def stage_of(windows: Windows, fold: int, every: timedelta | None) -> Stage:
    """A fold of windows."""
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    windowed = stream.window(windows, grace=_ms(4), every=every)
    FOLDS[fold](windowed, windows).to("out", value=kstash.json)
    return app.topology().stages[0]


Row = tuple[bytes | None, bytes | None, int]


class Run:
    """A stage that is given batches, and the ends of intervals.

    Args:
        stage: what runs.
        memory_bytes: of its state.
    """

    def __init__(self, stage: Stage, memory_bytes: int) -> None:
        self.stage = stage
        self.folder = MemoryBackend(memory_bytes).task("n", 0)
        self.state = self.folder.open(stage.stores, base=None)
        self.program = StageProgram(stage, self.state)
        self.number = 0

    def send(self, rows: list[tuple[str, str, int]]) -> list[Row]:
        """A batch; gives what leaves."""
        keys, values, stamps = map(list, zip(*rows, strict=True))
        batch = Batch([k.encode() for k in keys], [v.encode() for v in values], stamps)
        self.program.process(0, batch)
        return self._taken()

    def end(self) -> list[Row]:
        """An interval ends; gives what leaves."""
        made: list[Row] = []
        while self.program.flushes.wants(0):
            self.program.flush(0)
            made += self._taken()
        return made

    def restart(self) -> None:
        """The state is written, and opened anew."""
        self.number += 1
        self.state.checkpoint(str(self.number), self.number)
        self.state = self.folder.open(self.stage.stores, base=str(self.number))
        self.program = StageProgram(self.stage, self.state)

    def _taken(self) -> list[Row]:
        made: list[Row] = []
        while True:
            for _, batch, _ in self.program.take_outputs():
                made += zip(batch.keys, batch.values, batch.timestamps, strict=True)
            if not self.program.has_work:
                return made
            self.program.go_on()


@pytest.mark.parametrize("windows", KINDS, ids=str)
@given(
    events=EVENTS,
    fold=st.integers(0, len(FOLDS) - 1),
    part=st.integers(1, 4),
    cut=st.integers(1, 3),
    restarts=st.booleans(),
    memory_bytes=st.sampled_from([NO_ROOM, 1 << 30]),
)
def test_each_changed_window_is_said_once_as_it_was_last(
    windows: Windows,
    events: list[Any],
    fold: int,
    part: int,
    cut: int,
    restarts: bool,
    memory_bytes: int,
) -> None:
    """The model sends with each record; any batches, parts, restarts, and no room in memory."""
    run = Run(stage_of(windows, fold, _ms(1)), memory_bytes)
    model = Run(stage_of(windows, fold, None), 1 << 30)
    now = START
    last: dict[bytes | None, Row] = {}
    sent = set[bytes | None]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unsent, "PART_RECORDS", part)
        for event in [*events, ENDS]:
            if event is ENDS:
                said = run.end()
                # What was never sent needs not be taken back.
                due = {k: row for k, row in last.items() if row[1] is not None or k in sent}
                assert {row[0]: row for row in said} == due
                assert len(said) == len(due)
                sent.update(due)
                sent.difference_update(k for k, row in due.items() if row[1] is None)
                gone = [row[1] is None for row in said]
                if "session" not in str(windows):
                    last = {}
                    continue
                # A session that is taken back comes before what it has become part of.
                for index, row in enumerate(said):
                    if gone[index]:
                        assert not any(_takes(other, row, windows) for other in said[:index])
                last = {}
                continue
            rows = []
            for key, value, gap in event:
                now += gap
                rows.append((key, value, now))
            last.update({row[0]: row for row in model.send(rows)})
            for start in range(0, len(rows), cut):
                assert run.send(rows[start : start + cut]) == []
            if restarts:
                run.restart()
    assert run.state.store("n.unsent").items() == run.state.store("n.unsent.queue").items() == []
    assert run.state.store("n").items() == model.state.store("n").items()


def _takes(other: Row, gone: Row, windows: Windows) -> bool:
    """Whether a session that is there reaches around one that was taken back."""
    key = kstash.windowed(kstash.text, windows)
    one, two = key.deserialize(other[0] or b""), key.deserialize(gone[0] or b"")
    within = one.start_ms <= two.start_ms and two.end_ms <= one.end_ms
    return other[1] is not None and one.key == two.key and within


@given(
    moves=st.lists(st.tuples(st.sampled_from("kl"), st.integers(-3, 30)), max_size=12),
    ends=st.sets(st.integers(0, 12)),
)
def test_nothing_that_waited_is_late_for_the_next_windows(
    moves: list[tuple[str, int]], ends: set[int]
) -> None:
    """What the second windows take in does not depend on when results of the first are sent."""

    def chain(every: timedelta | None) -> Stage:
        app = App("app")
        stream = app.stream("in", key=kstash.text, value=kstash.text)
        first = stream.window(kstash.tumbling(_ms(10)), grace=_ms(5), every=every).count("n")
        second = first.inner_key().window(kstash.tumbling(_ms(20)), grace=_ms(5))
        second.max("m", value=kstash.int_text).to("out")
        return app.topology().stages[0]

    run, model = Run(chain(_ms(1)), 1 << 30), Run(chain(None), 1 << 30)
    now, told, expected = START, list[Row](), list[Row]()
    for number, (key, gap) in enumerate(moves):
        now += gap
        expected += model.send([(key, "v", now)])
        run.send([(key, "v", now)])
        if number in ends:
            told += run.end()
    told += run.end()
    assert {row[0]: row for row in told} == {row[0]: row for row in expected}
    assert run.program.dropped.get(("n", "late"), 0) == model.program.dropped.get(("n", "late"), 0)

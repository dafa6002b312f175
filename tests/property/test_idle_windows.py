"""Windows that close where no record comes: all at once, each for good, whatever came before."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import Windowed
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.windows import aligned, queue
from kstash.testing.state import MemoryBackend
from kstash.topology.aligned_nodes import ByStart
from kstash.topology.model import Stage
from kstash.topology.window_nodes import Windows

START = 10**9
GRACE_MS = 3


def _ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


KINDS: list[tuple[Windows, int]] = [
    (kstash.tumbling(_ms(10)), 0),
    (kstash.tumbling(_ms(10), offset=_ms(3)), 0),
    (kstash.hopping(_ms(12), _ms(5)), 0),
    (kstash.daily("Europe/Berlin"), 0),
    (kstash.sliding(_ms(8)), 1),
    (kstash.session(_ms(6)), 7),
]
"""Windows, and how many milliseconds after its end and grace the last one closes."""

FLUSH = None
"""No record has come for long."""

EVENTS = st.lists(
    st.one_of(
        st.just(FLUSH),
        st.tuples(st.sampled_from("kl"), st.one_of(st.integers(-9, 9), st.integers(-60, 60))),
    ),
    max_size=16,
)


def stage_of(windows: Windows, emit: Any) -> Stage:
    """Counts in windows that go by the clock too."""
    app = kstash.App("idle")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    counts = stream.window(windows, grace=_ms(GRACE_MS), emit=emit, idle_timeout=_ms(1))
    counts.count("counts").to("out")
    return app.topology().stages[0]


class Run:
    """A stage that is given records and flushes.

    Attributes:
        results: (window, count), in order.
        late: records and windows that were missed.
    """

    def __init__(self, windows: Windows, emit: Any) -> None:
        self.stage = stage_of(windows, emit)
        self.backend = MemoryBackend()
        self.state = self.backend.task("0", 0).open(self.stage.stores, base=None)
        self.program = StageProgram(self.stage, self.state)
        self.results: list[tuple[Windowed[str], int]] = []
        self.key: kstash.Serde[Any] = kstash.windowed(kstash.text, windows)

    def send(self, key: str, timestamp: int) -> None:
        """A record."""
        self.program.process(0, Batch([key.encode()], [b"v"], [timestamp]))
        self._take()

    def flush(self) -> None:
        """None comes for long."""
        if self.program.flushes.wants(0):
            self.program.flush(0)
            self._take()
        assert not self.program.flushes.wants(0)

    def _take(self) -> None:
        while self.program.has_work:
            self.program.go_on()
        for _, made, _ in self.program.take_outputs():
            rows = zip(made.keys, made.values, strict=True)
            self.results += [(self.key.deserialize(k or b""), int(v or b"0")) for k, v in rows]

    @property
    def time(self) -> int:
        """The operator's stream time."""
        time: int = self.state.store("counts.time").peek((b"",)).get(b"", -1)
        return time

    @property
    def dropped(self) -> Counter[str]:
        """Records that were left out, by why."""
        return Counter({why: count for (_, why), count in self.program.dropped.items()})


@pytest.mark.parametrize(("windows", "beyond"), KINDS, ids=str)
@given(events=EVENTS, part=st.integers(1, 4))
def test_all_close_once_and_for_good(
    windows: Windows, beyond: int, events: list[Any], part: int
) -> None:
    """A flush leaves none open, gives each one result, and moves time to the last closing.

    So what came before it and is sent again after it is late.
    """
    run, now, stamps = Run(windows, "final"), START, list[int]()
    with pytest.MonkeyPatch.context() as patch:
        for module in (aligned, queue):
            patch.setattr(module, "PART_RECORDS", part)
        for event in events:
            if event is not FLUSH:
                key, gap = event
                now += gap
                run.send(key, now)
                stamps.append(now)
                continue
            before = run.time
            run.flush()
            ends = [window.end_ms for window, _ in run.results]
            last = max(ends, default=-1) + GRACE_MS + beyond
            assert run.time == (max(before, last) if stamps else -1)
            if stamps:
                told, late = len(run.results), run.dropped["late"]
                run.send("k", min(stamps))
                assert len(run.results) == told
                assert run.dropped["late"] > late
        run.flush()
    if isinstance(windows, ByStart):
        assert run.state.store("counts").items() == []
    windows_told = [window for window, _ in run.results]
    assert len(windows_told) == len(set(windows_told))


@pytest.mark.parametrize("windows", [windows for windows, _ in KINDS], ids=str)
@given(events=EVENTS)
def test_a_flush_is_as_a_record_that_comes_then(windows: Windows, events: list[Any]) -> None:
    """Of another key, at the time of the last closing: all else is the same, in both emissions."""
    for emit in ("update", "final"):
        flushed, closed = Run(windows, emit), Run(windows, emit)
        now = START
        for event in events:
            if event is FLUSH:
                flushed.flush()
                if closed.program.flushes.wants(0):
                    step: Any = closed.program.flushes.all[0].step
                    closed.send("z", step.logic.idle_time_ms(closed.state))
                    # Its own windows are not open for the other.
                    break
                continue
            key, gap = event
            now += gap
            for run in (flushed, closed):
                run.send(key, now)
        told = [(window, count) for window, count in closed.results if window.key != "z"]
        assert told == flushed.results

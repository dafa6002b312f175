"""Operators that leave work: in which order it is done, and who is given what meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import pytest

import kstash
from kstash import App, KeyedStream
from kstash.errors import OperatorError
from kstash.operators.batch import Batch
from kstash.operators.flow import Flow
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision, Scope
from kstash.operators.steps import STEPS
from kstash.operators.turns import takes_one_by_one
from kstash.operators.unfinished import REST, Unfinished
from kstash.testing.state import MemoryBackend
from kstash.topology.model import Stage
from tests.bursts import Burst, Text, burst, known


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """The operator of these tests has a step."""
    with known():
        yield


def texts(app: App, topic: str = "in") -> Text:
    """A source of text."""
    return app.stream(topic, key=kstash.text, value=kstash.text)


class Task:
    """A stage on one partition."""

    def __init__(self, app: App, decision: Decision = Decision.FAIL) -> None:
        (self.stage,) = app.topology().stages
        self.state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        self.asked: list[int] = []

        def decide(error: Any) -> Decision:
            self.asked.append(error.record_index)
            return decision

        self.program = StageProgram(self.stage, self.state, decide=decide)

    def taken(self) -> list[str]:
        """Values that were made since the last call."""
        return [v.decode() for _, made, _ in self.program.take_outputs() for v in made.values]

    def feed(self, *values: str) -> list[list[str]]:
        """The parts that become of a batch of one key."""
        self.program.process(0, batch(*values))
        parts = [self.taken()]
        while self.program.has_work:
            self.program.go_on()
            parts.append(self.taken())
        return parts


def batch(*values: str) -> Batch:
    """Records of one key."""
    return Batch([b"k"] * len(values), [v.encode() for v in values], list(range(len(values))))


def test_a_record_is_done_in_parts() -> None:
    """Each part goes through the stage before the next is asked for; the rest comes after it."""
    app = App("app")
    burst(texts(app), "b", 2)[0].map_values(str.upper).to("out", value=kstash.text)
    task = Task(app)
    assert task.feed("x5", "x0", "1") == [
        ["X5/1/0/0", "X5/1/1/1"],
        ["X5/1/2/2", "X5/1/3/3"],
        ["X5/1/4/4"],
    ]
    assert not task.program.has_work
    assert task.state.store("b").items() == [(b"k", [3, 5])]


def test_the_operator_furthest_downstream_goes_first() -> None:
    """One that has left work is given nothing before it is done: nothing piles up."""
    app = App("app")
    first = burst(texts(app), "a", 2)[0].map_values(lambda value: f"{'abc'[int(value[-1])]}x3")
    burst(first, "b", 2)[0].map_values(lambda value: value[0] + value[-1]).to(
        "out", value=kstash.text
    )
    assert Task(app).feed("x3") == [["a0", "a1"], ["a2", "b0"], ["b1", "b2"], ["c0", "c1"], ["c2"]]


def test_sides_come_in_the_order_of_the_records() -> None:
    """What another side has of the same or of later records waits for the work of this one."""

    class Both:
        label = "both"
        given: ClassVar[list[str]] = []

        def run(self, side: int, flow: Flow, scope: Scope) -> None:
            for value in flow.live_values:
                self.given.append(f"{side}{value}")
            for value in flow.live_values:
                if side == 0:
                    scope.later(partial(self.rest, f"{value} first", flow))
                    scope.later(partial(self.rest, f"{value} second", flow))

        def rest(self, what: str, flow: Flow, scope: Scope) -> None:
            self.given.append(what)
            scope.out(flow.with_values([what] * flow.count))

    app = App("app")
    stream = texts(app)
    burst(stream, "b", 2, stream.map_values(str.upper))[0].to("out", value=kstash.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STEPS, Burst, lambda *_: Both())
        parts = Task(app).feed("a", "b")
    assert Both.given == ["0a", "a first", "a second", "1A", "0b", "b first", "b second", "1B"]
    assert [part for part in parts if part] == [
        ["a first"], ["a second"], ["b first"], ["b second"]
    ]  # fmt: skip


def test_only_operators_that_say_so_may_leave_work() -> None:
    """Else branches might meet again after one, and nobody would know."""
    app = App("app")
    burst(texts(app), "b", 1)[0].to("out", value=kstash.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Burst, "may_leave_work", False)
        task = Task(app)
        with pytest.raises(AssertionError, match="burst"):
            task.feed("x2")


def test_work_is_finished_before_the_next_batch() -> None:
    """The caller goes on until nothing is left."""
    app = App("app")
    burst(texts(app), "b", 1)[0].to("out", value=kstash.text)
    task = Task(app)
    task.program.process(0, batch("x2"))
    with pytest.raises(AssertionError, match="not done"):
        task.program.process(0, batch("x2"))


def fail(value: str) -> str:
    """Raise for the third result of a record."""
    if value.endswith("/2"):
        raise LookupError(value)
    return value


@pytest.mark.parametrize("meets", [False, True])
def test_errors_name_the_record_of_the_batch(meets: bool) -> None:
    """In work that was left too, and where records come one by one."""
    app = App("app")
    stream = texts(app)
    out = burst(stream, "b", 1)[0].map_values(fail)
    if meets:
        out = out.merge(stream)
    out.to("out", value=kstash.text)
    with pytest.raises(OperatorError) as caught:
        Task(app).feed("x0", "x2", "x4", "x0")
    assert caught.value.record_index == 2
    task = Task(app, Decision.SKIP)
    made = [value for part in task.feed("x0", "x2", "x4", "x3") for value in part]
    assert task.asked == [2, 3]
    assert [value[-1] for value in made if "/" in value] == list("0101301")
    assert list(task.program.skipped.values()) == [2]


def test_what_takes_longest_is_named_of_work_too() -> None:
    """The last call is meant, whichever it was."""
    app = App("app")
    burst(texts(app), "b", 1)[0].to("out", value=kstash.text)
    (stage,) = app.topology().stages
    now = iter([0.0, 0.1, 0.2, 1.0, 6.0, 6.5])
    state = MemoryBackend().task(stage.name, 0).open(stage.stores, base=None)
    program = StageProgram(stage, state, seconds=partial(next, now))
    program.process(0, batch("x2"))
    assert program.slowest[1].startswith("burst(b)")
    assert program.slowest[0] == pytest.approx(0.1)
    program.go_on()
    assert program.slowest[0] == 5.0
    assert program.slowest[1].startswith("burst(b)")


def test_what_is_left_within_work_comes_before_what_was_left() -> None:
    """The highest index first, then in order; what comes last is the rest of the batch."""
    done: list[str] = []

    def work(name: str) -> Any:
        return lambda _: done.append(name)

    unfinished = Unfinished()
    assert not unfinished
    unfinished.leave(REST, [work("rest")])
    unfinished.leave(3, [work("c"), work("d")])
    unfinished.leave(5, [work("first")])
    unfinished.leave(3, [work("a"), work("b")])
    while unfinished:
        index, next_one = unfinished.take()
        next_one(None)  # type: ignore[arg-type]
        done[-1] += f" {index}"
    assert done == ["first 5", "a 3", "b 3", "c 3", "d 3", "rest -1"]


def through(stream: Text) -> Text:
    """Through an operator that may leave work."""
    return burst(stream, f"b{len(stream._graph.nodes)}", 2)[0]


MEETINGS: dict[str, tuple[bool, Any]] = {
    "nothing leaves work": (False, lambda s: s.merge(s.map_values(str.upper))),
    "a chain": (False, lambda s: through(through(s))),
    "before it": (False, lambda s: through(s.merge(s.map_values(str.upper)))),
    "after it": (False, lambda s: meet(through(s))),
    "ports of another kind": (False, lambda s: KeyedStream.merge(*through(s).split(len))),
    "around it": (True, lambda s: through(s).merge(s)),
    "far around it": (True, lambda s: through(s).filter(len).merge(s.filter(len).map_values(str))),
    "two of them": (True, lambda s: through(s).merge(through(s))),
    "around the second": (True, lambda s: meet_around(through(s))),
    "its own port": (True, lambda s: KeyedStream.merge(*burst(s, "b", 2))),
    "after its port": (True, lambda s: met(*burst(s, "b", 2))),
}  # fmt: skip


def meet(stream: Text) -> Text:
    """Branches of one stream."""
    return stream.merge(stream.map_values(str.upper))


def meet_around(stream: Text) -> Text:
    """Branches of one stream, one of them through an operator that may leave work."""
    return through(stream).merge(stream)


def met(out: Text, late: Text) -> Text:
    """A port, and what comes long after the results."""
    return through(out).filter(len).merge(late.map_values(str))


@pytest.mark.parametrize("name", MEETINGS)
def test_where_branches_meet_again_records_come_one_by_one(name: str) -> None:
    """Through and around an operator that may leave work, or by two of its outputs."""
    expected, make = MEETINGS[name]
    app = App("app")
    make(texts(app)).to("out", value=kstash.text)
    (stage,) = app.topology().stages
    assert entries_one_by_one(stage) == [expected]


def test_other_inputs_do_not_matter() -> None:
    """Unless records of both come in one batch: then those that meet may be of both."""
    app = App("app")
    through(texts(app, "left")).merge(texts(app, "right")).to("out", value=kstash.text)
    (stage,) = app.topology().stages
    assert entries_one_by_one(stage) == [False, False]
    assert takes_one_by_one(stage, stage.entries)


def entries_one_by_one(stage: Stage) -> list[bool]:
    """Of each input, what was found."""
    return [takes_one_by_one(stage, [entry]) for entry in stage.entries]

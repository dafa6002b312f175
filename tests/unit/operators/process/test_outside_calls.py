"""A context and states are of use within a call of the processor alone, and say so elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest

import kstash
from kstash import App, Context, Processor, Record
from kstash.errors import OperatorError, OutsideCallError, ProcessorError
from kstash.testing import TestDriver
from kstash.topology.processor import FiredTimer

AnyContext = Context[Any, Any]
WITHIN = "use it within on_record, on_timer or on_wall_timer"


class Keeps(Processor[str, int, Any]):
    """Lets its context out; a record of key `late` uses the first one that there was."""

    contexts: ClassVar[list[AnyContext]] = []
    value = kstash.Value("v", kstash.int_text)
    map = kstash.Map("m", key=kstash.text, value=kstash.int_text)
    items = kstash.List("l", kstash.int_text)
    states: ClassVar[list[Any]] = []
    walks: ClassVar[list[Any]] = []

    def __init__(self, late: Callable[[], object] = lambda: None) -> None:
        self.late = late

    def on_record(self, record: Record, context: AnyContext) -> None:
        """Keep all, then use what was kept."""
        if record.key == "late":
            self.late()
            return
        self.contexts.append(context)
        self.states[:] = [self.value, self.map, self.items]
        self.map.set("a", record.value)
        self.map.set("b", record.value)
        self.walks.append(walk := iter(self.map))
        next(walk)
        if record.value < 0:
            raise ValueError("negative")

    def on_timer(self, timer: FiredTimer, context: AnyContext) -> None:
        """So that timers may be set."""

    def on_wall_timer(self, timer: FiredTimer, context: AnyContext) -> None:
        """Likewise."""


def keeping(late: Callable[[], object] = lambda: None) -> App:
    """A program of it, with nothing kept yet."""
    Keeps.contexts.clear()
    Keeps.states.clear()
    Keeps.walks.clear()
    app = App("keeps")
    stream = app.stream("in", key=kstash.text, value=kstash.int_text)
    stream.process("p", Keeps(late), value=kstash.int_text).to("out")
    return app


USES_OF_CONTEXTS: dict[str, Callable[[AnyContext], object]] = {
    "send": lambda context: context.send(99),
    "timer": lambda context: context.timer("t", at=5),
    "wall_timer": lambda context: context.wall_timer("t", at=5),
    "cancel": lambda context: context.cancel("t"),
    "cancel_wall_timer": lambda context: context.cancel_wall_timer("t"),
    "now": lambda context: context.now(),
    "random": lambda context: context.random(),
    "uuid": lambda context: context.uuid(),
    "record": lambda context: context.record,
    "origin": lambda context: context.origin,
}


@pytest.mark.parametrize("use", USES_OF_CONTEXTS.values(), ids=USES_OF_CONTEXTS)
def test_a_context_that_was_kept_does_nothing_in_a_later_call(
    use: Callable[[AnyContext], object],
) -> None:
    """It would be for the key of that call; its own key and time it still says."""
    app = keeping(lambda: use(Keeps.contexts[0]))
    driver = TestDriver(app)
    driver.send("in", 1, key="a", timestamp_ms=7)
    with pytest.raises(OutsideCallError, match=WITHIN):
        use(Keeps.contexts[0])
    with pytest.raises(OperatorError, match=WITHIN) as raised:
        driver.send("in", 2, key="late", timestamp_ms=8)
    assert isinstance(raised.value.cause, OutsideCallError)
    assert raised.value.cause.location.startswith(__file__)
    assert (Keeps.contexts[0].key, Keeps.contexts[0].time_ms) == ("a", 7)
    assert driver.read("out") == []


USES_OF_STATES: dict[str, Callable[[Any, Any, Any], object]] = {
    "get": lambda value, _m, _l: value.get(),
    "set": lambda value, _m, _l: value.set(5),
    "delete": lambda value, _m, _l: value.delete(),
    "map.get": lambda _v, map_, _l: map_.get("a"),
    "map.set": lambda _v, map_, _l: map_.set("a", 5),
    "map.delete": lambda _v, map_, _l: map_.delete("a"),
    "map.items": lambda _v, map_, _l: map_.items(),
    "map.clear": lambda _v, map_, _l: map_.clear(),
    "in map": lambda _v, map_, _l: "a" in map_,
    "for map": lambda _v, map_, _l: iter(map_),
    "len map": lambda _v, map_, _l: len(map_),
    "bool map": lambda _v, map_, _l: bool(map_),
    "append": lambda _v, _m, list_: list_.append(5),
    "extend by nothing": lambda _v, _m, list_: list_.extend([]),
    "list.clear": lambda _v, _m, list_: list_.clear(),
    "for list": lambda _v, _m, list_: list(list_),
    "len list": lambda _v, _m, list_: len(list_),
    "list[0]": lambda _v, _m, list_: list_[0],
}


@pytest.mark.parametrize("use", USES_OF_STATES.values(), ids=USES_OF_STATES)
@pytest.mark.parametrize("number", [1, -1])
def test_a_state_is_of_no_use_between_calls(
    use: Callable[[Any, Any, Any], object], number: int
) -> None:
    """Also after a call that failed: what was written then would have no event in the lineage."""
    driver = TestDriver(keeping())
    with pytest.raises(OperatorError, match="negative") if number < 0 else nullcontext():
        driver.send("in", number, key="a")
    with pytest.raises(OutsideCallError, match=rf"a state of process\(p\).*{WITHIN}"):
        use(*Keeps.states)
    if number > 0:
        assert driver.state("p.m") == {("a", "a"): 1, ("a", "b"): 1}


def test_what_is_left_of_a_loop_over_a_map_does_not_go_on_in_a_later_call() -> None:
    """It would give entries of another key."""
    driver = TestDriver(keeping(lambda: next(Keeps.walks[0])))
    driver.send("in", 1, key="a")
    with pytest.raises(OperatorError, match=rf"self\.map, a state of.*{WITHIN}"):
        driver.send("in", 2, key="late")


@pytest.mark.parametrize("method", ["open", "close"])
@pytest.mark.parametrize("cause", [OSError("no file"), None])
def test_an_error_of_open_or_close_blames_no_record(method: str, cause: OSError | None) -> None:
    """Nor does it say how to pass one over: it names the processor and the method."""

    class Fails(Processor[Any, Any, Any]):
        value = kstash.Value("v", kstash.int_text)

        def on_record(self, record: Record, _context: AnyContext, /) -> None:
            self.value.set(record.value)

    def fail(processor: Fails) -> None:
        if cause is None:
            processor.value.set(999)
        else:
            raise cause

    fail.__name__ = method
    setattr(Fails, method, fail)
    app = App("fails")
    stream = app.stream("in", key=kstash.text, value=kstash.int_text)
    stream.process("p", Fails, value=kstash.int_text).to("out")
    driver = TestDriver(app)
    expected = "OSError: no file" if cause else WITHIN
    place = rf"'process\(p\) at .*' failed in Fails\.{method}\(\)"
    if method == "open":
        with pytest.raises(ProcessorError, match=place) as raised:
            driver.send("in", 1, key="a")
    else:
        driver.send("in", 1, key="a")
        with pytest.raises(ProcessorError, match=place) as raised:
            driver.close()
    assert expected in str(raised.value)
    assert "skip_records" not in str(raised.value)
    assert "offset" not in str(raised.value)
    assert isinstance(raised.value.cause, OSError if cause else OutsideCallError)


def test_what_close_raises_keeps_no_other_task_open() -> None:
    """Nor the clients of the worker: a start after it finds all that was done."""
    closed = []

    class Fails(Processor[Any, Any, Any]):
        value = kstash.Value("v", kstash.int_text)

        def on_record(self, record: Record, context: AnyContext, /) -> None:
            self.value.set(record.value)
            context.send(record.value)

        def close(self) -> None:
            closed.append(self)
            raise OSError("no file")

    app = App("fails")
    stream = app.stream("in", key=kstash.text, value=kstash.int_text)
    again = stream.process("p", Fails, value=kstash.int_text).repartition("again")
    again.process("q", Fails, value=kstash.int_text).to("out")
    driver = TestDriver(app, partitions=4)
    for number in range(20):
        driver.send("in", number, key=f"k{number}")
    with pytest.raises(ProcessorError, match="no file"):
        driver.close()
    assert len(closed) == 8
    driver.recover()
    assert driver.state("q.v") == {f"k{number}": number for number in range(20)}
    driver.crash()

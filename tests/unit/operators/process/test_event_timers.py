"""Timers of a processor: due when its stream time says so, in order, before the record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kstash
from kstash import App, Context, FiredTimer, Processor, Record
from kstash.errors import OperatorError
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.step import Decide, Decision
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend
from kstash.topology.traits import PART_RECORDS

AnyContext = Context[Any, Any]


class Obeys(Processor[str, list[Any], Any]):
    """Does what records say: ["set", name, at] or ["cancel", name]; a timer may have such orders.

    Sends what happened, with the time.
    """

    orders = kstash.Map("orders", key=kstash.text, value=kstash.json)

    def on_record(self, record: Record, context: Context[str, Any]) -> None:
        """Obey."""
        context.send(["record", context.time_ms])
        for order in record.value:
            self.obey(order, context)

    def obey(self, order: Any, context: Context[str, Any]) -> None:
        """One order; one for later is kept with the timer."""
        what, name, *more = order
        if what == "fail":
            raise LookupError(name)
        if what == "cancel":
            context.cancel(name)
        else:
            context.timer(name, at=more[0])
            self.orders.set(name, more[1:])

    def on_timer(self, timer: FiredTimer, context: Context[str, Any]) -> None:
        """Say so, and do what it was set with."""
        context.send([timer.name, timer.at_ms, context.time_ms, context.record.timestamp_ms])
        for order in self.orders.get(timer.name, []):
            self.obey(order, context)


def obeying() -> App:
    """`Obeys`, with an output."""
    app = App("obeys")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.process("p", Obeys, value=kstash.json).to("out")
    return app


class Task:
    """A program of one stage on one partition."""

    def __init__(self, app: App | None = None, decide: Decide | None = None) -> None:
        (self.stage,) = (app or obeying()).topology().stages
        self.state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        more: dict[str, Any] = {} if decide is None else {"decide": decide}
        self.program = StageProgram(self.stage, self.state, **more)

    def feed(self, *records: tuple[str, int, Any]) -> list[Any]:
        """(Key, result, timestamp) of what came of (key, timestamp, orders), in all its parts."""
        keys, times, values = zip(*records, strict=True)
        encoded = [kstash.json.serialize(value) for value in values]
        self.program.process(0, Batch([k.encode() for k in keys], list(encoded), list(times)))
        made = self.made()
        while self.program.has_work:
            self.program.go_on()
            made += self.made()
        return made

    def made(self) -> list[Any]:
        """What was made by now."""
        made: list[Any] = []
        for _, batch, _ in self.program.take_outputs():
            for key, value, at in zip(batch.keys, batch.values, batch.timestamps, strict=True):
                assert key is not None
                assert value is not None
                made.append((key.decode(), kstash.json.deserialize(value), at))
        return made


def test_a_timer_fires_before_the_record_that_moves_the_time() -> None:
    """Whatever its key; what it sends has its key and its time."""
    task = Task()
    assert task.feed(("a", 100, [["set", "t", 150]]), ("b", 149, [])) == [
        ("a", ["record", 100], 100),
        ("b", ["record", 149], 149),
    ]
    assert task.feed(("b", 200, [])) == [
        ("a", ["t", 150, 150, 200], 150),
        ("b", ["record", 200], 200),
    ]
    assert task.feed(("b", 300, [])) == [("b", ["record", 300], 300)]


def test_the_time_that_was_set_is_enough() -> None:
    """A record of that very time lets it fire."""
    task = Task()
    made = task.feed(("a", 100, [["set", "t", 150]]), ("b", 150, []))
    assert [result[0] for _, result, _ in made] == ["record", "t", "record"]


def test_timers_fire_in_the_order_of_time_key_and_name() -> None:
    """The time of the operator steps to each."""
    task = Task()
    task.feed(
        ("b", 1, [["set", "x", 10], ["set", "w", 10], ["set", "y", 9]]),
        ("a", 1, [["set", "z", 10], ["set", "late", 11]]),
        ("", 1, [["set", "z", 10]]),
    )
    made = task.feed(("c", 10, []))
    fired = [(result[1], key, result[0], result[2]) for key, result, _ in made[:-1]]
    assert fired == [
        (9, "b", "y", 9),
        (10, "", "z", 10),
        (10, "a", "z", 10),
        (10, "b", "w", 10),
        (10, "b", "x", 10),
    ]


def test_a_time_that_has_come_is_the_next_millisecond() -> None:
    """So a timer never fires while its own record is under way, nor without end."""
    task = Task()
    made = task.feed(("a", 100, [["set", "t", 5]]), ("a", 100, []), ("a", 50, []), ("a", 101, []))
    assert [result for _, result, _ in made] == [
        ["record", 100],
        ["record", 100],
        ["record", 100],
        ["t", 101, 101, 101],
        ["record", 101],
    ]


def test_setting_a_timer_again_moves_it() -> None:
    """In the same call and in a later one; another name is another timer; it can be cancelled."""
    task = Task()
    task.feed(("a", 1, [["set", "t", 5], ["set", "t", 20], ["set", "u", 6], ["set", "v", 30]]))
    made = task.feed(("a", 10, [["set", "v", 15], ["cancel", "t"], ["cancel", "none"]]))
    assert [result[0] for _, result, _ in made] == ["u", "record"]
    assert task.state.timers("p").due(1000, limit=9) == [(15, b"a", "v", 0)]
    task.feed(("a", 11, [["cancel", "v"], ["set", "v", 12], ["set", "w", 13], ["cancel", "w"]]))
    made = task.feed(("a", 20, []))
    assert [result[0] for _, result, _ in made] == ["v", "record"]


def test_timers_that_are_set_by_timers_take_part_in_the_same_pass() -> None:
    """In their place, before those that are due later; one that is cancelled does not fire."""
    task = Task()
    task.feed(
        ("a", 0, [["set", "first", 10, ["set", "second", 15, ["set", "third", 0]]]]),
        ("b", 0, [["set", "b", 12, ["set", "beyond", 99]], ["set", "c", 17]]),
        ("a", 0, [["set", "d", 13, ["cancel", "e"]], ["set", "e", 14]]),
    )
    made = task.feed(("z", 20, []))
    assert [(result[0], result[1]) for _, result, _ in made] == [
        ("first", 10),
        ("b", 12),
        ("d", 13),
        ("second", 15),
        ("third", 16),
        ("c", 17),
        ("record", 20),
    ]


def test_a_timer_sees_the_state_of_its_time() -> None:
    """What would be over by the record's time is not by the timer's."""

    class Ends(Processor[str, str, str]):
        value = kstash.Value("value", kstash.text, ttl=timedelta(milliseconds=10))

        def on_record(self, record: Record, context: AnyContext) -> None:
            context.send(f"record {self.value.get()}")
            self.value.set(record.value)
            context.timer("t", at=record.timestamp_ms + 9)
            context.timer("u", at=record.timestamp_ms + 10)

        def on_timer(self, timer: FiredTimer, context: AnyContext) -> None:
            context.send(f"{timer.name} {self.value.get()}")

    app = App("ends")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.process("p", Ends, value=kstash.json).to("out")
    made = Task(app).feed(("a", 100, "x"), ("b", 1000, "y"))
    assert [r for _, r, _ in made] == ["record None", "t x", "u None", "record None"]


def test_what_a_record_did_before_it_failed_sets_no_timer() -> None:
    """Nor does it cancel one; the timer that fails is gone, and nothing else of it counts."""
    task = Task(decide=lambda _: Decision.SKIP)
    task.feed(("a", 1, [["set", "t", 10, ["set", "u", 11], ["fail", "timer"]]]))
    task.feed(("a", 2, [["cancel", "t"], ["set", "v", 10], ["fail", "record"]]))
    made = task.feed(("a", 3, [["set", "w", 10]]), ("a", 20, []))
    assert [result[0] for _, result, _ in made] == ["record", "w", "record"]
    assert task.state.timers("p").next_due() is None
    assert list(task.program.skipped.values()) == [2]


def test_a_timer_that_fails_is_an_error_at_the_record_that_moved_the_time() -> None:
    """Which is the one to skip."""
    task = Task()
    task.feed(("a", 1, [["set", "t", 10, ["fail", "timer"]]]))
    with pytest.raises(OperatorError, match="timer") as caught:
        task.feed(("b", 5, []), ("b", 10, []))
    assert caught.value.record_index == 1


def test_results_carry_the_time_at_which_they_were_sent() -> None:
    """A second processor after the first is at each time before what comes next: nothing is late.

    With timestamps of their own, too: what moves the time is when a result was sent.
    """

    class Ahead(Processor[str, Any, Any]):
        def on_record(self, record: Record, context: AnyContext) -> None:
            context.timer("t", at=record.timestamp_ms + 5)
            context.send("early", timestamp_ms=9_999)

        def on_timer(self, _timer: FiredTimer, context: AnyContext) -> None:
            context.send("timer")

    class Times(Processor[str, Any, Any]):
        def on_record(self, record: Record, context: AnyContext) -> None:
            context.send([record.value, context.time_ms])

    app = App("times")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    first = stream.process("first", Ahead, value=kstash.json)
    first.process("second", Times, value=kstash.json).to("out")
    made = Task(app).feed(("a", 100, 0), ("b", 200, 0), ("b", 150, 0))
    assert [result for _, result, _ in made] == [
        ["early", 100],
        ["timer", 105],
        ["early", 200],
        ["early", 200],
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.timer("t", at="x"), "as an integer"),
        (lambda c: c.timer("t", at=1 << 63), "at most 64 bits"),
        (lambda c: c.timer(5, at=1), "the name of a timer is a text"),
        (lambda c: c.cancel(5), "the name of a timer is a text"),
    ],
)
def test_timers_that_cannot_be(call: Callable[[AnyContext], None], message: str) -> None:
    """Errors at the record."""

    class Calls(Processor[Any, Any, Any]):
        def on_record(self, _record: Record, context: AnyContext) -> None:
            call(context)

        def on_timer(self, timer: FiredTimer, context: AnyContext) -> None:
            """Never called."""

    app = App("calls")
    app.stream("in", key=kstash.text, value=kstash.json).process("p", Calls, value=kstash.json)
    with pytest.raises(OperatorError, match=message):
        Task(app).feed(("a", 1, 0))


def test_a_timer_needs_who_takes_it() -> None:
    """Else it would be set and nothing would happen."""

    class Forgets(Processor[Any, Any, Any]):
        def on_record(self, _record: Record, context: AnyContext) -> None:
            context.timer("t", at=1)

    app = App("forgets")
    app.stream("in", key=kstash.text, value=kstash.json).process("p", Forgets, value=kstash.json)
    with pytest.raises(OperatorError, match="has no on_timer"):
        Task(app).feed(("a", 1, 0))


class Ticks(Processor[str, int, int]):
    """Sets as many timers as a value says, which leave nothing but a count."""

    count = kstash.Value("count", kstash.int_text)

    def on_record(self, record: Record, context: Context[str, int]) -> None:
        """Set them, and send how many have fired."""
        context.send(self.count.get(0))
        for number in range(record.value):
            context.timer(f"{number}", at=record.timestamp_ms + 1 + number // 2)

    def on_timer(self, timer: FiredTimer, context: Context[str, int]) -> None:
        """Count."""
        self.count.set(self.count.get(0) + 1)
        if timer.name == "7":
            context.send(-1)


def ticking() -> App:
    """`Ticks`, with an output."""
    app = App("ticks")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.process("p", Ticks, value=kstash.json).to("out")
    return app


def test_very_many_timers_fire_in_parts() -> None:
    """Each has a bounded number; their results come before those of the record, which waits."""
    task = Task(ticking())
    count = 2 * PART_RECORDS + 5
    task.feed(("a", 1, count))
    task.program.process(0, Batch([b"a", b"b"], [b"0", b"0"], [count + 1, count + 1]))
    parts = [task.made()]
    fired = [task.state.store("p.count").items()]
    while task.program.has_work:
        task.program.go_on()
        parts.append(task.made())
        fired.append(task.state.store("p.count").items())
    assert [[value for _, value, _ in part] for part in parts] == [[-1], [], [count, 0]]
    numbers = [int(entries[0][1][8:]) for entries in fired]
    assert numbers == [PART_RECORDS, 2 * PART_RECORDS, count]


def test_a_crash_after_many_timers() -> None:
    """The event is made again as a whole, and nothing of it is sent twice."""
    count = 3 * PART_RECORDS
    with TestDriver(ticking()) as driver:
        driver.send("in", count, key="a", timestamp_ms=1)
        driver.send("in", 0, key="b", timestamp_ms=count)
        driver.crash()
        driver.recover()
        driver.send("in", 0, key="a", timestamp_ms=count)
        assert [record.value for record in driver.read("out")] == [0, -1, 0, count]


def test_a_batch_looks_at_the_first_timers_only() -> None:
    """However many are set: a task that begins reads none of the others."""
    task = Task(ticking())
    task.feed(("a", 1, 5000))
    timers = task.state.timers("p")
    asked: list[int] = []
    due = timers.due

    def counted(until_ms: int, *, limit: int) -> list[Any]:
        asked.append(limit)
        return due(until_ms, limit=limit)

    timers.due = counted  # type: ignore[method-assign]
    task.feed(("b", 1, 0), ("c", 1, 0))
    assert sum(asked) == 1
    task.feed(("b", 2, 0))
    assert max(asked) <= 64
    assert len(asked) <= 5


# --- against an obvious model ---------------------------------------------------------------------


class Pending(NamedTuple):
    """A timer of the model."""

    at_ms: int
    key: str
    name: str


class Model:
    """The rules, as they are written down: a list that is sorted whenever it is looked at."""

    def __init__(self) -> None:
        self.time = -(1 << 62)
        self.timers: dict[tuple[str, str], int] = {}
        self.orders: dict[tuple[str, str], list[Any]] = {}
        self.made: list[Any] = []

    def feed(self, key: str, timestamp: int, orders: list[Any]) -> None:
        """One record."""
        new = max(self.time, timestamp)
        while due := sorted(
            Pending(at, key, name) for (key, name), at in self.timers.items() if at <= new
        ):
            timer = due[0]
            del self.timers[timer.key, timer.name]
            self.time = timer.at_ms
            result = [timer.name, timer.at_ms, self.time, timestamp]
            self.made.append((timer.key, result, timer.at_ms))
            self.obey(timer.key, self.orders.get((timer.key, timer.name), []))
        self.time = new
        self.made.append((key, ["record", new], timestamp))
        self.obey(key, orders)

    def obey(self, key: str, orders: list[Any]) -> None:
        """The orders of a record or a timer."""
        for what, name, *more in orders:
            if what == "cancel":
                self.timers.pop((key, name), None)
            else:
                self.timers[key, name] = max(more[0], self.time + 1)
                self.orders[key, name] = more[1:]


NAMES = st.sampled_from(["t", "u"])
TIMES = st.integers(0, 60)
CANCEL = st.tuples(st.just("cancel"), NAMES).map(list)
ORDER: st.SearchStrategy[list[Any]] = st.recursive(
    CANCEL | st.tuples(st.just("set"), NAMES, TIMES).map(list),
    lambda inner: st.tuples(st.just("set"), NAMES, TIMES, inner).map(list),
    max_leaves=3,
)
STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), TIMES, st.lists(ORDER, max_size=3)), min_size=1, max_size=10
)


@given(steps=STEPS, cuts=st.lists(st.booleans(), min_size=10, max_size=10))
def test_timers_are_those_of_the_model(steps: list[Any], cuts: list[bool]) -> None:
    """Whatever is set, moved and cancelled by records and timers, and wherever a batch ends."""
    model, task = Model(), Task()
    made: list[Any] = []
    batch: list[Any] = []
    for step, is_cut in zip(steps, cuts, strict=False):
        model.feed(*step)
        batch.append(step)
        if is_cut:
            made += task.feed(*batch)
            batch = []
    made += task.feed(*batch) if batch else []
    assert made == model.made
    left = sorted(Pending(at, key, name) for (key, name), at in model.timers.items())
    found = task.state.timers("p").due(1 << 62, limit=99)
    assert [Pending(at, key.decode(), name) for at, key, name, _ in found] == left


@settings(max_examples=20, deadline=None)
@given(steps=STEPS, restarts=st.lists(st.sampled_from(["", "crash", "drain"]), min_size=10))
def test_timers_outlive_the_worker(steps: list[Any], restarts: list[str]) -> None:
    """Crashed or drained between any two records: the same results, once."""
    model = Model()
    with TestDriver(obeying()) as driver:
        for (key, timestamp, orders), restart in zip(steps, restarts, strict=False):
            timestamp += 1
            model.feed(key, timestamp, orders)
            driver.send("in", orders, key=key, timestamp_ms=timestamp)
            if restart:
                getattr(driver, restart)()
                driver.recover()
        made = [(r.key, r.value, r.timestamp_ms) for r in driver.read("out")]
    assert made == model.made

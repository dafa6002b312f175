"""Values, maps and lists of a processor, and how long they live."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import App, Context, Processor, Record
from kstash.errors import SerdeError, TopologyError
from kstash.operators.batch import Batch
from kstash.operators.process.expiry import SWEPT_MAX
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend
from kstash.topology.item_lists import list_of
from kstash.topology.pairs import first_of, pair_of, prefix_of

AnyContext = Context[Any, Any]
TTL = timedelta(milliseconds=10)


class Keeps(Processor[str, str, Any]):
    """One state of each kind, for 10 ms, and without an end."""

    value = kstash.Value("value", kstash.json, ttl=TTL)
    map = kstash.Map("map", key=kstash.text, value=kstash.json, ttl=TTL)
    list = kstash.List("list", kstash.json, ttl=TTL)
    value_of_old = kstash.Value("old-value", kstash.json)
    map_of_old = kstash.Map("old-map", key=kstash.text, value=kstash.json)
    list_of_old = kstash.List("old-list", kstash.json)

    def __init__(self, function: Callable[[Any, Record], Any]) -> None:
        self.function = function

    def on_record(self, record: Record, context: Context[str, Any]) -> None:
        """Send what the function makes of the states."""
        context.send(self.function(self, record))


class Task:
    """`Keeps` with a function, on one partition; records may be skipped."""

    def __init__(self, function: Callable[[Any, Record], Any]) -> None:
        app = App("keeps")
        stream = app.stream("in", key=kstash.text, value=kstash.text)
        stream.process("p", Keeps(function), value=kstash.json).to("out")
        (stage,) = app.topology().stages
        self.state = MemoryBackend().task("p", 0).open(stage.stores, base=None)
        self.program = StageProgram(stage, self.state, decide=lambda _: Decision.SKIP)

    def feed(self, *records: tuple[str, int], key: str = "k") -> list[Any]:
        """What came of (value, timestamp) of a key."""
        values, times = zip(*records, strict=True)
        keys: list[bytes | None] = [key.encode()] * len(values)
        self.program.process(0, Batch(keys, [v.encode() for v in values], list(times)))
        made = [batch.values for _, batch, _ in self.program.take_outputs()]
        return [
            None if value is None else kstash.json.deserialize(value)
            for values in made
            for value in values
        ]

    def entries(self) -> dict[str, int]:
        """Entries of each store that has any, but for that of the time."""
        names = ("value", "map", "list", "old-value", "old-map", "old-list", "expiry")
        sizes = {name: len(self.state.store(f"p.{name}").items()) for name in names}
        return {name: size for name, size in sizes.items() if size}


def test_a_value() -> None:
    """Is what was set last, and can be deleted."""

    def function(p: Keeps, record: Record) -> Any:
        before = p.value_of_old.get("nothing")
        if record.value == "delete":
            p.value_of_old.delete()
        else:
            p.value_of_old.set([record.value])
        return [before, p.value_of_old.get()]

    task = Task(function)
    made = task.feed(("a", 1), ("b", 2), ("delete", 3), ("c", 4))
    assert made == [["nothing", ["a"]], [["a"], ["b"]], [["b"], None], ["nothing", ["c"]]]
    assert task.feed(("delete", 5), key="l") == [["nothing", None]]
    assert task.entries() == {"old-value": 1}


def test_what_was_read_is_no_state() -> None:
    """It may be changed, and nothing of that is kept until it is set; a tuple is a list."""

    def function(p: Keeps, _record: Record) -> Any:
        if (value := p.value_of_old.get()) is None:
            value = (1, 2)
            p.value_of_old.set(value)
            return p.value_of_old.get()
        value.append(3)
        return p.value_of_old.get()

    assert Task(function).feed(("a", 1), ("a", 2)) == [[1, 2], [1, 2]]


def test_a_map_is_read_in_the_order_of_its_keys() -> None:
    """All of it, or a range; entries of other keys are none of them."""

    def function(p: Keeps, record: Record) -> Any:
        m = p.map_of_old
        for letter in record.value:
            m.set(letter, letter.upper())
        return [
            "".join(key for key, _ in m.items()),
            "".join(value for _, value in m.items("b", "d")),
            "".join(value for _, value in m.items(start="d")),
            "".join(value for _, value in m.items(end="b")),
            ["c" in m, "x" in m, m.get("c"), m.get("x"), m.get("x", 0)],
        ]

    task = Task(function)
    assert task.feed(("z", 1), key="k\x00") == [["z", "", "Z", "", [False, False, None, None, 0]]]
    assert task.feed(("y", 1), key="") == [["y", "", "Y", "", [False, False, None, None, 0]]]
    made = task.feed(("dbeca", 2))
    assert made == [["abcde", "BC", "DE", "A", [True, False, "C", None, 0]]]


def test_a_map_may_change_while_it_is_read() -> None:
    """What is set and deleted after the present entry counts; 250 are more than one page."""

    def function(p: Keeps, record: Record) -> Any:
        m = p.map_of_old
        for number in range(250):
            m.set(f"{number:03}", number)
        seen = []
        for _, number in m.items():
            seen.append(number)
            if number % 2 == 0:
                m.delete(f"{number + 1:03}")
            if number == 100:
                m.set("150", 999)
        if record.value == "clear":
            m.clear()
        return seen

    task = Task(function)
    (seen,) = task.feed(("", 1))
    assert seen == [*range(0, 150, 2), 999, 151, *range(152, 250, 2)]
    assert task.entries() == {"old-map": 126}
    task.feed(("clear", 2))
    assert task.entries() == {}


def test_a_list() -> None:
    """Its items are in the order in which they were appended."""

    def function(p: Keeps, record: Record) -> Any:
        if record.value == "clear":
            p.list_of_old.clear()
        else:
            p.list_of_old.append(record.value)
            p.list_of_old.extend([[1], {"a": 2}])
            p.list_of_old.extend([])
        return [*p.list_of_old, len(p.list_of_old), bool(p.list_of_old)]

    task = Task(function)
    made = task.feed(("a", 1), ("b", 2), ("clear", 3))
    first, second = ["a", [1], {"a": 2}], ["b", [1], {"a": 2}]
    assert made == [[*first, 3, True], [*first, *second, 6, True], [0, False]]
    assert task.entries() == {}


def test_a_record_that_fails_leaves_no_state() -> None:
    """Whatever it did before that, to all kinds and to what goes at a time."""

    def function(p: Keeps, record: Record) -> Any:
        before = [p.value.get(), list(p.map.items()), list(p.list)]
        p.value.set(record.value)
        p.value.set([record.value])
        p.map.set("b", record.value)
        p.map.delete("a")
        p.map.set("c", record.value)
        p.list.append(record.value)
        if record.value == "clear and fail":
            p.value.delete()
            p.map.clear()
            p.list.clear()
        if record.value.endswith("fail"):
            raise LookupError
        p.map.set("a", record.value)
        return before

    task = Task(function)
    task.feed(("fail", 1))
    assert task.entries() == {}
    task.feed(("x", 2))
    made = task.feed(("fail", 3), ("clear and fail", 4), ("y", 5))
    assert made == [[["x"], [["a", "x"], ["b", "x"], ["c", "x"]], ["x"]]]


def read_all(p: Keeps, record: Record) -> Any:
    """What each state has; a letter is written to each, and to those without an end."""
    found = [p.value.get(), [key for key, _ in p.map.items()], list(p.list), len(p.list)]
    if record.value:
        p.value.set(record.value)
        p.map.set(record.value, 1)
        p.list.append(record.value)
        p.value_of_old.set(record.value)
    return found


def test_what_has_outlived_its_time_is_not_seen() -> None:
    """From the record on that moved the time there; each write counts anew, in a list its own."""
    task = Task(read_all)
    assert task.feed(("a", 100), ("b", 105)) == [[None, [], [], 0], ["a", ["a"], ["a"], 1]]
    assert task.feed(("", 109)) == [["b", ["a", "b"], ["a", "b"], 2]]
    assert task.feed(("", 110)) == [["b", ["b"], ["b"], 1]]
    assert task.feed(("", 114)) == [["b", ["b"], ["b"], 1]]
    assert task.feed(("", 115)) == [[None, [], [], 0]]


def test_time_is_that_of_the_operator() -> None:
    """Any key moves it, and it never goes back; what a late record writes lives as long."""
    task = Task(read_all)
    task.feed(("a", 100))
    task.feed(("x", 110), key="l")
    assert task.feed(("", 50)) == [[None, [], [], 0]]
    task.feed(("b", 50))
    assert task.feed(("", 119)) == [["b", ["b"], ["b"], 1]]
    assert task.feed(("", 120)) == [[None, [], [], 0]]


def test_bytes_go() -> None:
    """With the record that moved the time, and with them what says when."""
    task = Task(read_all)
    task.feed(("a", 100), ("b", 101))
    assert task.entries() == {"value": 1, "map": 2, "list": 1, "old-value": 1, "expiry": 8}
    task.feed(("", 110))
    assert task.entries() == {"value": 1, "map": 1, "list": 1, "old-value": 1, "expiry": 6}
    task.feed(("", 1000))
    assert task.entries() == {"old-value": 1}


def test_a_record_removes_some() -> None:
    """No more than a number and as many as it makes, and all go in the end."""

    def function(p: Keeps, record: Record) -> Any:
        for number in range(int(record.value)):
            p.map.set(f"{record.timestamp_ms}-{number}", number)
        return sum(1 for _ in p.map.items())

    task = Task(function)
    task.feed(("100", 1))
    assert task.feed(("0", 20)) == [0]
    assert task.entries()["map"] == 100 - SWEPT_MAX
    task.feed(("10", 20))
    assert task.entries()["map"] == 100 + 10 - 2 * SWEPT_MAX - 10
    task.feed(("0", 20), ("0", 20))
    assert task.entries() == {"map": 10, "expiry": 20}


def test_what_was_deleted_and_set_again_lives_from_then() -> None:
    """The time of the first one does not end it, and nothing is left behind."""

    def function(p: Keeps, record: Record) -> Any:
        if record.value == "delete":
            p.value.delete()
        elif record.value:
            p.value.set(record.value)
        return p.value.get()

    task = Task(function)
    made = task.feed(("a", 100), ("delete", 105), ("b", 106), ("", 110), ("", 115), ("", 116))
    assert made == ["a", None, "b", "b", "b", None]
    assert task.entries() == {}


def test_state_lives_over_a_crash() -> None:
    """And its time goes on where it was."""
    app = App("keeps")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.process("p", Keeps(read_all), value=kstash.json).to("out")
    with TestDriver(app, partitions=3) as driver:
        driver.send("in", "a", key="k", timestamp_ms=100)
        driver.send("in", "b", key="k", timestamp_ms=105)
        driver.crash()
        driver.recover()
        driver.drain()
        driver.recover()
        assert driver.state("p.map") == {("k", "a"): 1, ("k", "b"): 1}
        assert driver.state("p.list") == {"k": ["a", "b"]}
        assert driver.state("p.value") == {"k": "b"}
        assert driver.state("p.expiry")
        driver.send("in", "", key="k", timestamp_ms=112)
        assert driver.read("out")[-1].value == ["b", ["b"], ["b"], 1]


@pytest.mark.parametrize("ttl", [0, timedelta(0), timedelta(microseconds=1500), -TTL])
def test_times_to_live_that_are_none(ttl: Any) -> None:
    """Whole milliseconds, one or more."""
    with pytest.raises(TopologyError, match="ttl of 'v' is "):
        kstash.Value("v", kstash.text, ttl=ttl)


def test_bytes_that_the_serde_cannot_read() -> None:
    """An error at the record that reads them."""
    broken: kstash.Serde[Any] = kstash.Serde("broken", kstash.text.serialize, int, is_steady=True)

    class Reads(Processor[Any, Any, Any]):
        kept = kstash.Value("kept", broken)

        def on_record(self, record: Record, context: AnyContext) -> None:
            context.send(str(self.kept.get()))
            self.kept.set(record.value)

    app = App("reads")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.process("p", Reads, value=kstash.text).to("out")
    with TestDriver(app) as driver:
        driver.send("in", "x", key="k")
        with pytest.raises(SerdeError, match="cannot deserialize a value"):
            driver.send("in", "y", key="k")


def test_a_serde_that_gives_other_things_back() -> None:
    """What it cannot read is an error at the record that writes it, where it does not promise."""
    broken: kstash.Serde[Any] = kstash.Serde("broken", kstash.text.serialize, int)

    def function(p: Keeps, record: Record) -> Any:
        p.value_of_old.serde = broken
        p.value_of_old.set(record.value)

    task = Task(function)
    task.feed(("5", 1), ("x", 2))
    assert list(task.program.skipped.values()) == [1]


@given(st.tuples(st.binary(max_size=4), st.binary(max_size=4)), st.binary(max_size=4))
def test_pairs(pair: tuple[bytes, bytes], other: bytes) -> None:
    """Come back, are in the order of their second parts, and of no other key."""
    serde = pair_of(kstash.raw, kstash.raw)
    data = serde.serialize(pair)
    assert serde.deserialize(data) == pair
    assert first_of(data) == pair[0]
    assert (data < serde.serialize((pair[0], other))) == (pair[1] < other)
    assert data.startswith(prefix_of(other)) == (pair[0] == other)


@given(st.lists(st.text(max_size=3), max_size=4))
def test_lists_come_back(items: list[str]) -> None:
    """As they were."""
    serde = list_of(kstash.text)
    assert serde.deserialize(serde.serialize(items)) == items

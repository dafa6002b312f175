"""What a processor is given, what it sends, and what is left of it where it fails."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import kstash
from kstash import App, Context, Processor, Record
from kstash.errors import OperatorError, SerdeError, TopologyError
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.step import Decide, Decision
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend
from kstash.topology.process_node import Process

AnyContext = Context[Any, Any]


class Total(Processor[str, int, int]):
    """The sum of a key's numbers; negative ones go elsewhere, and 13 fails after all is done."""

    sides = ("negative",)
    total = kstash.Value("total", kstash.int_text)

    def on_record(self, record: Record, context: Context[str, int]) -> None:
        """Add a number."""
        if record.value < 0:
            context.send(record.value, to="negative")
            return
        self.total.set(self.total.get(0) + record.value)
        context.send(self.total.get())
        if record.value == 13:
            raise LookupError("13")


class Task:
    """A program of one stage on one partition."""

    def __init__(self, app: App, decide: Decide | None = None) -> None:
        (self.stage,) = app.topology().stages
        self.state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        more: dict[str, Any] = {} if decide is None else {"decide": decide}
        self.program = StageProgram(self.stage, self.state, **more)

    def feed(self, *records: tuple[str, str, int]) -> dict[str, list[Any]]:
        """(Key, value, timestamp) of what each topic got of such records."""
        keys, values, times = zip(*records, strict=True)
        batch = Batch([k.encode() for k in keys], [v.encode() for v in values], list(times))
        self.program.process(0, batch)
        return {
            self.stage.outputs[number].topic: [
                (key.decode(), value.decode(), at)
                for key, value, at in zip(made.keys, made.values, made.timestamps, strict=True)
                if key is not None and value is not None
            ]
            for number, made, _ in self.program.take_outputs()
        }


def totals() -> App:
    """`Total` with both outputs."""
    app = App("totals")
    numbers = app.stream("in", key=kstash.text, value=kstash.int_text)
    made = numbers.process("totals", Total, value=kstash.int_text)
    made.to("out")
    made.side("negative", value=kstash.int_text).to("negative")
    return app


def test_a_processor_keeps_a_value_for_each_key() -> None:
    """And sends results, through both outputs, of the key and time of the record."""
    task = Task(totals())
    made = task.feed(("a", "1", 5), ("b", "2", 6), ("a", "-4", 7), ("a", "3", 8))
    assert made == {
        "out": [("a", "1", 5), ("b", "2", 6), ("a", "4", 8)],
        "negative": [("a", "-4", 7)],
    }


def test_state_is_there_after_a_crash() -> None:
    """Also after a checkpoint; it is read by the name of operator and state."""
    with TestDriver(totals()) as driver:
        driver.send("in", 1, key="a")
        driver.send("in", 2, key="a")
        driver.crash()
        driver.recover()
        driver.send("in", 3, key="a")
        assert [record.value for record in driver.read("out")] == [1, 3, 6]
        driver.drain()
        driver.recover()
        driver.send("in", 4, key="a")
        assert driver.state("totals.total") == {"a": 10}


def test_a_record_that_is_skipped_leaves_nothing() -> None:
    """Neither state nor results; the next one of the batch goes on from before."""
    task = Task(totals(), lambda _: Decision.SKIP)
    made = task.feed(("a", "1", 1), ("a", "13", 2), ("b", "13", 3), ("a", "2", 4), ("a", "-1", 5))
    assert made == {"out": [("a", "1", 1), ("a", "3", 4)], "negative": [("a", "-1", 5)]}
    assert [v[8:] for _, v in task.state.store("totals.total").items()] == [b"3"]
    assert list(task.program.skipped.values()) == [2]


def test_an_error_stops_the_task() -> None:
    """It names the operator and the record."""
    with pytest.raises(OperatorError, match="13") as caught:
        Task(totals()).feed(("a", "1", 1), ("a", "13", 2))
    assert caught.value.record_index == 1
    assert "process(totals)" in caught.value.operator


def test_what_a_result_has_of_its_record() -> None:
    """Key, time and headers, unless it is given others."""

    class Sends(Processor[str, str, str]):
        def on_record(self, record: Record, context: Context[str, str]) -> None:
            assert (record.key, context.key, context.record) == ("k", "k", record)
            context.send("as it is")
            context.send("other", timestamp_ms=3, headers=[("n", b"2")])
            context.send("none", headers=[])
            context.send(None)

    app = App("sends")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.process("p", Sends, value=kstash.text).to("out")
    with TestDriver(app) as driver:
        driver.send("in", "v", key="k", timestamp_ms=7, headers=[("h", b"1")])
        made = [(r.key, r.value, r.timestamp_ms, r.headers) for r in driver.read("out")]
    own: list[Any] = [("h", b"1")]
    assert made == [
        ("k", "as it is", 7, own),
        ("k", "other", 3, [("n", b"2")]),
        ("k", "none", 7, []),
        ("k", None, 7, own),
    ]


class Rekeys(Processor[str, str, str]):
    """Sends each value under a key of its own, and under that of the record."""

    def on_record(self, record: Record, context: AnyContext) -> None:
        """Two results."""
        context.send("own", key=record.value)
        context.send("same")


def test_keys_of_their_own_need_a_serde() -> None:
    """And then no state can follow without `key_by`."""
    app = App("rekeys")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    made = stream.process("p", Rekeys, value=kstash.text, key=kstash.text)
    assert type(made) is kstash.Stream
    made.to("out")
    assert Task(app).feed(("k", "v", 1)) == {"out": [("v", "own", 1), ("k", "same", 1)]}
    with pytest.raises(TopologyError, match="gives results keys of their own"):
        getattr(made, "count")("n")  # noqa: B009 - mypy sees that it is not there
    app = App("rekeys")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.process("p", Rekeys, value=kstash.text).to("out")
    with pytest.raises(OperatorError, match="was not given the serde of such keys"):
        Task(app).feed(("k", "v", 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "elsewhere"}, "no side output 'elsewhere'"),
        ({"timestamp_ms": -1}, "0 or more, not -1"),
        ({"timestamp_ms": 1.5}, "as an integer"),
    ],
)
def test_what_cannot_be_sent(arguments: dict[str, Any], message: str) -> None:
    """An error at the record."""

    class Sends(Processor[Any, Any, Any]):
        def on_record(self, record: Record, context: AnyContext) -> None:
            context.send(record.value, **arguments)

    app = App("sends")
    app.stream("in", key=kstash.text, value=kstash.text).process("p", Sends, value=kstash.text)
    with pytest.raises(OperatorError, match=message):
        Task(app).feed(("k", "v", 1))


def test_a_processor_is_made_for_each_task() -> None:
    """Of a class by calling it, of an instance by a copy; it is opened and closed with the task."""

    class Prefix(Processor[str, str, str]):
        log: ClassVar[list[str]] = []

        def __init__(self, prefix: str = "") -> None:
            self.prefix = prefix

        def open(self) -> None:
            self.log.append("open")

        def close(self) -> None:
            self.log.append("close")

        def on_record(self, record: Record, context: AnyContext) -> None:
            context.send(self.prefix + record.value)

    given = Prefix("pre-")
    app = App("prefixes")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.process("p", given, value=kstash.text).to("out")
    (process,) = [node for node in app.topology().stages[0].nodes if isinstance(node, Process)]
    assert process.make() is not given
    with TestDriver(app) as driver:
        assert Prefix.log == []
        driver.send("in", "a", key="k")
        driver.send("in", "b", key="k")
        assert [record.value for record in driver.read("out")] == ["pre-a", "pre-b"]
        assert Prefix.log == ["open"]
    assert Prefix.log == ["open", "close"]


def test_two_tasks_share_nothing() -> None:
    """Each has its own processor over its own stores."""
    with TestDriver(totals(), partitions=2) as driver:
        for number in range(20):
            driver.send("in", 1, key=f"k{number % 5}")
        assert driver.state("totals.total") == {f"k{number}": 4 for number in range(5)}


class NoRecords(Processor[Any, Any, Any]):
    """Has no `on_record`."""


class Later(Processor[Any, Any, Any]):
    """Waits for what nobody awaits."""

    async def on_record(self, record: Record, context: AnyContext) -> None:  # type: ignore[override]
        """Never runs."""


class Twice(Total):
    """Two states of one name."""

    again = kstash.List("total", kstash.text)


class Reserved(Total):
    """A state with the name of another store."""

    when = kstash.Value("time", kstash.text)


class NoSerde(Total):
    """A state whose serde is none."""

    wrong: Any = kstash.Value("wrong", str)  # type: ignore[arg-type]


class Needs(Total):
    """Is made with arguments."""

    def __init__(self, number: int) -> None:
        self.number = number


class OutSide(Total):
    """A side output that is the output."""

    sides = ("out",)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (NoRecords, "NoRecords has no on_record"),
        (Later, "is async"),
        (Twice, "a name that is taken"),
        (Reserved, "a name that is taken"),
        (NoSerde, "takes a serde"),
        (Needs, "give process an instance"),
        (OutSide, "'out' needs another name"),
        (Processor, "a subclass of kstash.Processor"),
        (len, "a subclass of kstash.Processor"),
    ],
)
def test_processors_that_cannot_work(processor: Any, message: str) -> None:
    """Refused where they are declared, with the line, and nothing is declared."""
    app = App("wrong")
    stream = app.stream("in", key=kstash.text, value=kstash.int_text)
    with pytest.raises(TopologyError, match=message) as caught:
        stream.process("p", processor, value=kstash.int_text)
    assert "test_processor.py" in str(caught.value.location)
    stream.process("p", Needs(1), value=kstash.int_text)


def test_a_side_output_is_one_of_a_processor() -> None:
    """Of no other stream, and of no other name."""
    app = App("sides")
    stream = app.stream("in", key=kstash.text, value=kstash.int_text)
    with pytest.raises(TopologyError, match="of what process"):
        stream.side("negative")
    made = stream.process("p", Total, value=kstash.int_text)
    assert type(made) is kstash.KeyedStream
    with pytest.raises(TopologyError, match=r"no side output 'positive'.*\['negative'\]"):
        made.side("positive")
    with pytest.raises(TopologyError, match="of what process"):
        made.filter(bool).side("negative")


def test_states_are_part_of_the_program() -> None:
    """Another state is another topology; a time to live is none of it."""

    def hash_of(processor: type[Processor[Any, Any, Any]]) -> str:
        app = App("hash")
        stream = app.stream("in", key=kstash.text, value=kstash.int_text)
        stream.process("p", processor, value=kstash.int_text)
        return app.topology().hash

    class More(Total):
        more = kstash.List("more", kstash.text)

    class Living(Total):
        total = kstash.Value("total", kstash.int_text)

    assert hash_of(Total) == hash_of(Living) != hash_of(More)


def test_state_outside_of_a_call() -> None:
    """There is no key whose state it would be."""
    with pytest.raises(TopologyError, match="while a processor is given a record or a timer"):
        Total().total.get()


def test_a_value_that_the_serde_refuses() -> None:
    """An error at its record; None is one that says what to do."""

    class Sets(Processor[Any, Any, Any]):
        kept = kstash.Value("kept", kstash.json)

        def on_record(self, record: Record, _context: AnyContext) -> None:
            self.kept.set({"nan": float("nan"), "none": None}[record.value])

    app = App("sets")
    app.stream("in", key=kstash.text, value=kstash.text).process("p", Sets, value=kstash.text)
    with pytest.raises(SerdeError, match="NaN") as caught:
        Task(app).feed(("k", "nan", 1))
    assert caught.value.record_index == 0
    with pytest.raises(SerdeError, match="delete what is to be forgotten"):
        Task(app).feed(("k", "none", 1))

"""Records of several inputs in one batch: columns of each, in the order of their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

import kstash
from kstash import App, Context, Processor, Record, RecordOrigin, Serde
from kstash.core.partitioner import Partitioner
from kstash.errors import MisplacedKeyError, OperatorError
from kstash.operators.batch import Batch
from kstash.operators.entry import Entry
from kstash.operators.homes import Home
from kstash.operators.interleaved import Share, meets_by_columns
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend
from kstash.topology.model import Stage
from kstash.topology.traits import ColumnSet
from tests.bursts import Text, burst, known

WHERE = Partitioner(2)


def texts(app: App, topic: str, **more: Any) -> Text:
    """A source of text."""
    return app.stream(topic, key=more.get("key", kstash.text), value=kstash.text)


class Task:
    """The last stage of a program on one partition.

    Attributes:
        columns: how many keys each call of an operator asked its state for.
    """

    def __init__(self, app: App, **more: Any) -> None:
        self.stage: Stage = app.topology().stages[-1]
        self.state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        self.columns: list[int] = []
        counts = self.state.store("n") if self.stage.stores else None
        if counts is not None:
            load = counts.load

            def seen(keys: Any) -> dict[bytes, Any]:
                self.columns.append(len(keys))
                return load(keys)

            counts.load = seen  # type: ignore[method-assign]
        self.program = StageProgram(self.stage, self.state, **more)

    def feed(self, sources: Sequence[int], keys: Sequence[bytes], **more: Any) -> list[bytes]:
        """Values that become of a merged batch, of which record i is of input `sources[i]`."""
        shares = []
        for source in sorted(set(sources)):
            places = [place for place, other in enumerate(sources) if other == source]
            values = [b"%d" % place for place in places]
            batch = Batch([keys[place] for place in places], values, places)
            shares.append(Share(source, batch, places if len(places) < len(sources) else None))
        self.program.process_merged(shares, **more)
        made = self.program.take_outputs()
        while self.program.has_work:
            self.program.go_on()
            made += self.program.take_outputs()
        return [value for _, batch, _ in made for value in batch.values]


def counting(**more: Any) -> App:
    """Counts over two topics."""
    app = App("app")
    both = texts(app, "left", **more).merge(texts(app, "right", **more))
    both.map_values(lambda value: value).count("n").to("out")
    return app


def test_an_operator_sees_what_alternates_as_one_column() -> None:
    """However often the input changes."""
    task = Task(counting())
    assert task.feed([0, 1] * 50, [b"k"] * 100) == [b"%d" % (n + 1) for n in range(100)]
    assert task.columns == [100]


def through(app: App, text: Serde[str] = kstash.text) -> tuple[Text, Text]:
    """A topic of others, and one that comes through an internal topic."""
    left, right = (texts(app, topic, key=text) for topic in ("left", "right"))
    return left, right.repartition("spread")


def apart(app: App) -> tuple[Text, Text]:
    """Two topics of others."""
    return texts(app, "left"), texts(app, "right")


def refuse(data: bytes) -> str:
    """Nothing is read back."""
    if data == b"odd":
        raise ValueError("odd")
    return data.decode()


MEETINGS: dict[str, tuple[bool, Callable[[App], Text]]] = {
    "topics of others": (True, lambda app: Text.merge(*apart(app))),
    "one of them an internal one": (True, lambda app: Text.merge(*through(app))),
    "the same, of keys that may become others": (
        False,
        lambda app: Text.merge(*through(app, Serde("odd", str.encode, refuse))),
    ),
    "both internal ones": (
        True,
        lambda app: Text.merge(*(s.repartition(f"r{n}") for n, s in enumerate(apart(app)))),
    ),
    "branches that keep their keys": (
        True,
        lambda app: meet(apart(app), lambda s: s.map_values(str.upper).filter(len)),
    ),
    "one whose records are made anew": (
        False,
        lambda app: meet(apart(app), lambda s: s.map_records(lambda record: record)),
    ),
    "one that a processor makes": (
        False,
        lambda app: meet(apart(app), lambda s: s.process("p", Places, value=kstash.text)),
    ),
    "one that leaves work": (False, lambda app: meet(apart(app), lambda s: burst(s, "b", 2)[0])),
    "work is left after they have met": (
        True,
        lambda app: burst(Text.merge(*apart(app)), "b", 2)[0],
    ),
}


def meet(streams: tuple[Text, Text], grow: Callable[[Text], Any]) -> Text:
    """One of them after an operator."""
    found: Text = grow(streams[0]).merge(streams[1])
    return found


class Places(Processor[str, str, str]):
    """Says where each record was read."""

    def on_record(self, record: Record, context: Context[str, str]) -> None:
        """By topic and offset."""
        assert context.origin is not None
        context.send(f"{record.value}={context.origin.topic}/{context.origin.offset}")


@pytest.mark.parametrize("name", MEETINGS)
def test_records_are_cut_only_where_a_rule_demands_it(name: str) -> None:
    """Where keys meet as bytes and live, and where results come in parts; the counts are right."""
    expected, make = MEETINGS[name]
    app = App("app")
    with known():
        make(app).count("n").to("out")
        task = Task(app)
        sources = [0, 1, 1, 0, 1, 0]
        origin_of: Any = lambda index: RecordOrigin("t", 0, index, 0)  # noqa: E731
        made = task.feed(sources, [b"k"] * len(sources), origin_of=origin_of)
    assert made == [b"%d" % (number + 1) for number in range(len(made))]
    assert len(made) >= len(sources)
    entries = [Entry(source, ColumnSet.ALL) for source in task.stage.inputs]
    assert meets_by_columns(task.stage, entries) is expected
    if not expected:
        assert max(task.columns) <= 3


def test_bytes_of_keys_are_not_decoded_because_of_others() -> None:
    """As they came through an internal topic they count, next to keys of others too."""
    app = App("app")
    left, right = through(app, Serde("odd", str.encode, refuse))
    left.merge(right).count("n").to("out")
    task = Task(app)
    inner = [source.internal for source in task.stage.inputs].index(True)
    sources = [1 - inner, inner, 1 - inner, inner]
    assert task.feed(sources, [b"k", b"odd", b"k", b"odd"]) == [b"1", b"1", b"2", b"2"]


@pytest.mark.parametrize("asked", [(0,), (1,), (0, 1)])
def test_h56_of_each_input_keys_are_where_they_belong(asked: tuple[int, ...]) -> None:
    """The first record that is not is named by its place; a replay asks nothing."""
    sources = [0, 1, 0, 1, 0]
    here, there = ([key for key in (b"a", b"b", b"c", b"d") if WHERE[key] == n] for n in (0, 1))
    homes = {source: Home(0, WHERE) for source in asked}
    keys = [here[0], here[0], here[0], there[0], there[0]]
    task = Task(counting(), homes=homes)
    with pytest.raises(MisplacedKeyError) as caught:
        task.feed(sources, keys)
    assert caught.value.record_index == (3 if 1 in asked else 4)
    again = Task(counting(), homes=homes)
    assert again.feed(sources, keys, is_new=False) == [b"1", b"2", b"3", b"1", b"2"]


def test_a_record_that_fails_is_named_by_its_place_and_fails_alone() -> None:
    """At the entry of its input, and at an operator after the inputs have met."""
    app = App("app")
    both = texts(app, "left").merge(texts(app, "right"))
    both.map_values(lambda value: 6 // (int(value) - 4)).count("n").to("out")
    failed = []

    def decide(error: Any) -> Decision:
        failed.append((type(error).__name__, error.record_index))
        return Decision.SKIP

    task = Task(app, decide=decide)
    made = task.feed([1, 0, 1, 0, 0, 1, 0], [b"k", b"k", b"\xff", b"\xfe", b"k", b"k", b"k"])
    assert made == [b"1", b"2", b"3", b"4"]
    assert sorted(failed, key=lambda it: it[1]) == [
        ("SerdeError", 2),
        ("SerdeError", 3),
        ("OperatorError", 4),
    ]


def test_each_record_knows_its_origin() -> None:
    """Of its own topic, live and in a replay, in slices of whatever size."""
    app = App("app")
    both = texts(app, "left").merge(texts(app, "right"))
    both.process("places", Places, value=kstash.text).to("out")
    expected = [f"{n}={'lr'[n % 2]}/{n // 2}" for n in range(40)]
    expected = [it.replace("l/", "left/").replace("r/", "right/") for it in expected]
    with TestDriver(app, lineage_delay_s=1) as driver:
        driver.crash()
        for number in range(40):
            topic = ("left", "right")[number % 2]
            driver.send(topic, f"{number}", "k", timestamp_ms=1 + number)
        driver.recover()
        driver.crash()
        driver.recover()
        assert [record.value for record in driver.read("out")] == expected


def test_headers_and_times_stay_with_their_records() -> None:
    """Also where records of one input have headers and those of the other have none."""
    app = App("app")
    both = texts(app, "left").merge(texts(app, "right"))
    both.to("out", value=kstash.text)
    task = Task(app)
    left = Batch([b"a", b"b"], [b"0", b"2"], [10, 30], [None, [("n", b"2")]])
    right = Batch([b"c"], [b"1"], [20])
    task.program.process_merged([Share(0, left, [0, 2]), Share(1, right, [1])])
    ((_, made, _),) = task.program.take_outputs()
    assert (made.keys, made.values) == ([b"a", b"c", b"b"], [b"0", b"1", b"2"])
    assert (made.timestamps, made.headers) == ([10, 20, 30], [None, None, [("n", b"2")]])


def test_an_error_stops_the_batch() -> None:
    """The error counts the records of the whole batch."""
    app = App("app")
    both = texts(app, "left").merge(texts(app, "right"))
    both.map_values(lambda value: 1 // (int(value) - 3)).to("out", value=kstash.int_text)
    with pytest.raises(OperatorError) as caught:
        Task(app).feed([0, 0, 1, 1, 0], [b"k"] * 5)
    assert caught.value.record_index == 3

"""Operators on one task, bytes in and bytes out: results, columns, and who is to blame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import kstash
from kstash import App, Record, Serde
from kstash.errors import OperatorError, SerdeError
from kstash.operators.batch import Batch, concatenate
from kstash.operators.program import StageProgram
from kstash.ports.kafka import Headers
from kstash.testing.state import MemoryBackend

Program = Callable[[App], Any]


class Task:
    """A stage of a program on one partition, with a real store in memory."""

    def __init__(self, program: Program, stage: int = 0) -> None:
        app = App("app")
        program(app)
        self.stage = app.topology().stages[stage]
        state = MemoryBackend().task(self.stage.name, 0).open(self.stage.stores, base=None)
        self.stores = {spec.name: state.store(spec.name) for spec in self.stage.stores}
        self.operators = StageProgram(self.stage, state)

    def feed(self, *values: bytes | None, keys: list[bytes | None] | None = None) -> Task:
        """Process one batch of the first input; timestamps are 100, 101 and so on."""
        keys = keys or [b"k"] * len(values)
        timestamps = list(range(100, 100 + len(values)))
        self.operators.process(0, Batch(keys, list(values), timestamps))
        return self

    def out(self) -> list[tuple[bytes | None, bytes | None, int]]:
        """(key, value, timestamp) of what the only output got."""
        taken = self.operators.take_outputs()
        assert len(taken) <= 1
        return [
            record
            for _, batch, _ in taken
            for record in zip(batch.keys, batch.values, batch.timestamps, strict=True)
        ]

    def values(self) -> list[bytes | None]:
        """Values of what the only output got."""
        return [value for _, value, _ in self.out()]


def texts(app: App) -> kstash.KeyedStream[str, str]:
    """A source of text with a text key."""
    return app.stream("in", key=kstash.text, value=kstash.text)


def test_map_makes_one_value_of_each() -> None:
    """Key and timestamp stay those of the record."""
    task = Task(lambda app: texts(app).map(len).to("out", value=kstash.int_text))
    assert task.feed(b"a", b"bb").out() == [(b"k", b"1", 100), (b"k", b"2", 101)]


def test_flat_map_makes_any_number() -> None:
    """Each made value has the key and the timestamp of the record it was made of."""
    task = Task(lambda app: texts(app).flat_map(str.split).to("out", value=kstash.text))
    assert task.feed(b"a b", b"", b"c", keys=[b"1", b"2", b"3"]).out() == [
        (b"1", b"a", 100),
        (b"1", b"b", 100),
        (b"3", b"c", 102),
    ]


@pytest.mark.parametrize(
    "function",
    [
        lambda text: (word for word in text.split()),
        lambda text: iter(text.split()),
        lambda text: dict.fromkeys(text.split()).keys(),
        lambda text: tuple(text.split()),
    ],
)
def test_flat_map_takes_any_iterable(function: Callable[[str], Any]) -> None:
    """Generators, iterators, views and sequences alike."""
    task = Task(lambda app: texts(app).flat_map(function).to("out", value=kstash.text))
    assert task.feed(b"a b", b"c").values() == [b"a", b"b", b"c"]


def test_filters_keep_what_is_true_or_false() -> None:
    """Any truth value counts, as in Python."""
    assert Task(lambda app: texts(app).filter(str.strip).to("out")).feed(b"a", b" ").values() == [
        b"a"
    ]
    assert Task(lambda app: texts(app).filter_not(str.strip).to("out")).feed(
        b"a", b" "
    ).values() == [b" "]


def test_peek_calls_and_passes_on() -> None:
    """The records go on as they are."""
    seen: list[str] = []
    task = Task(lambda app: texts(app).peek(seen.append).to("out"))
    assert task.feed(b"a", b"b").values() == [b"a", b"b"]
    assert seen == ["a", "b"]


def test_records_gives_access_to_everything() -> None:
    """Key, value, timestamp and user headers of each record."""
    seen: list[Record] = []
    task = Task(lambda app: texts(app).records().peek(seen.append))
    headers: Headers = [("trace", b"1")]
    task.operators.process(0, Batch([b"x", None], [b"a", None], [5, 6], [headers, None]))
    assert seen == [Record("x", "a", 5, headers), Record(None, None, 6, None)]


def test_split_sends_each_record_to_the_first_that_takes_it() -> None:
    """Later predicates are asked only about what is left; the last stream gets the rest."""
    asked: list[str] = []

    def long(text: str) -> bool:
        asked.append(text)
        return len(text) > 1

    def program(app: App) -> None:
        upper, longer, rest = texts(app).split(str.isupper, long)
        upper.to("upper")
        longer.to("long")
        rest.to("rest")

    task = Task(program).feed(b"A", b"bb", b"c", b"DD")
    taken = {
        task.stage.outputs[number].topic: batch.values
        for number, batch, _ in task.operators.take_outputs()
    }
    assert taken == {"upper": [b"A", b"DD"], "long": [b"bb"], "rest": [b"c"]}
    assert asked == ["bb", "c"]


def test_merge_of_branches_keeps_the_order_of_the_input() -> None:
    """What two branches make of one record stays together, the first named branch first."""

    def program(app: App) -> None:
        upper = texts(app).map_values(str.upper)
        twice = texts(app).flat_map_values(lambda text: [text, text]).filter(str.isalpha)
        twice.merge(upper).to("out", value=kstash.text)

    values = Task(program).feed(b"a", b"1", b"b").values()
    assert values == [b"a", b"a", b"A", b"1", b"b", b"b", b"B"]


def test_merge_of_a_stream_with_itself_doubles_it() -> None:
    """A union keeps duplicates."""

    def program(app: App) -> None:
        stream = texts(app)
        stream.merge(stream).to("out")

    assert Task(program).feed(b"a", b"b").values() == [b"a", b"a", b"b", b"b"]


def test_merge_of_topics_takes_them_as_they_come() -> None:
    """Each input of the stage goes through the same operators and the same state."""

    def program(app: App) -> None:
        app.stream("a", "b", key=kstash.text).count("n").to("out")

    task = Task(program)
    task.operators.process(1, Batch([b"x"], [b""], [1]))
    task.operators.process(0, Batch([b"x"], [b""], [2]))
    assert task.out() == [(b"x", b"1", 1), (b"x", b"2", 2)]


def test_key_by_makes_the_key_and_drops_unread_values() -> None:
    """On a wide edge before count, keys travel and values do not."""

    def program(app: App) -> None:
        texts(app).key_by(len, key=kstash.int_text).count("n")

    assert Task(program).feed(b"a", b"bb").out() == [(b"1", None, 100), (b"2", None, 101)]


def test_key_by_with_none_makes_a_null_key() -> None:
    """A key of None leaves as Kafka's null key."""

    def program(app: App) -> None:
        texts(app).key_by(lambda _: None, key=kstash.text).to("out")

    assert Task(program).feed(b"a").out() == [(None, b"a", 100)]


def test_count_counts_each_key() -> None:
    """Each record sends its key's new count on; the store holds the last."""
    task = Task(lambda app: texts(app).count("n").to("out"))
    task.feed(b"", b"", b"", keys=[b"x", b"y", b"x"])
    assert task.out() == [(b"x", b"1", 100), (b"y", b"1", 101), (b"x", b"2", 102)]
    assert task.stores["n"].items() == [(b"x", 2), (b"y", 1)]


def test_state_finds_equal_keys_under_equal_bytes() -> None:
    """Keys that others wrote in another form of the same serde are the same key."""
    task = Task(lambda app: app.stream("in", key=kstash.json).count("n").to("out"))
    task.feed(b"", b"", keys=[b'{"a": 1}', b'{"a":1}'])
    assert [value for _, value, _ in task.out()] == [b"1", b"2"]


def test_sum_adds_integers_and_floats() -> None:
    """An integer stays one until a float comes."""

    def program(app: App) -> None:
        app.stream("in", key=kstash.text, value=kstash.json).sum("s").to("out")

    assert Task(program).feed(b"1", b"2", b"0.5").values() == [b"1", b"3", b"3.5"]


def test_reduce_starts_with_the_first_value() -> None:
    """The function is first called at the second record of a key."""
    task = Task(lambda app: texts(app).reduce("r", lambda old, new: old + new).to("out"))
    assert task.feed(b"a", b"b", b"c").values() == [b"a", b"ab", b"abc"]


@pytest.mark.parametrize(
    ("initial", "serde", "message"),
    [
        (set, kstash.json, "serde 'json' makes [] of set(), which initial() returned"),
        (lambda: {"seen": set()}, kstash.json, "makes {'seen': []} of {'seen': set()}"),
        (list, kstash.json, None),
        (lambda: [math.nan], kstash.msgpack, None),
    ],
)
def test_a_state_that_its_serde_makes_another_one(
    initial: Callable[[], Any], serde: kstash.Serde[Any], message: str | None
) -> None:
    """An error of the function says what it was given in place of what was made at first."""

    def add(state: Any, value: str) -> Any:
        if value == "b":
            state.add(value)
        return state

    task = Task(lambda app: texts(app).aggregate("a", initial, add, value=serde).to("out"))
    with pytest.raises(OperatorError, match="has no attribute 'add'") as caught:
        task.feed(b"a", b"b")
    if message is None:
        assert "initial()" not in str(caught.value)
    else:
        assert message in str(caught.value)


def test_aggregate_starts_with_a_state_of_its_own() -> None:
    """The state may be of another type than the values."""

    def program(app: App) -> None:
        lengths = texts(app).aggregate("a", list, lambda s, v: [*s, len(v)], value=kstash.json)
        lengths.to("out")

    assert Task(program).feed(b"a", b"bb").values() == [b"[1]", b"[1,2]"]


def test_a_state_changed_in_place_does_not_change_what_was_sent() -> None:
    """Each output shows the state as it was after its record."""

    def add(state: dict[str, int], value: str) -> dict[str, int]:
        state[value] = state.get(value, 0) + 1
        return state

    task = Task(lambda app: texts(app).aggregate("a", dict, add, value=kstash.json).to("out"))
    assert task.feed(b"x", b"y", b"x").values() == [b'{"x":1}', b'{"x":1,"y":1}', b'{"x":2,"y":1}']


def test_a_state_is_what_its_serde_makes_of_it_at_once() -> None:
    """A function sees the same state as after a restart: under json, a list for a tuple."""
    seen: list[Any] = []

    def follow(state: Any, value: str) -> Any:
        seen.append(state)
        return (value, len(value))

    task = Task(lambda app: texts(app).aggregate("a", tuple, follow, value=kstash.json))
    task.feed(b"x", b"y")
    assert seen == [(), ["x", 1]]


def test_delete_deletes_the_state() -> None:
    """The key starts over, and None is sent on as a tombstone."""

    def append(old: str, new: str) -> str | kstash.Deletion:
        return kstash.DELETE if new == "stop" else old + new

    task = Task(lambda app: texts(app).reduce("r", append).to("out"))
    assert task.feed(b"a", b"stop", b"b").values() == [b"a", None, b"b"]
    assert task.stores["r"].items() == [(b"k", "b")]
    task = Task(lambda app: texts(app).aggregate("a", str, append, value=kstash.text).to("out"))
    assert task.feed(b"a", b"stop").values() == [b"a", None]
    assert task.stores["a"].items() == []


def forgets(_state: Any, value: Any) -> Any:
    """A function without its `return` for b."""
    return None if value == "b" else value


def none(value: str) -> Any:
    """No value."""
    return dict[str, str]().get(value)


@pytest.mark.parametrize(
    "program",
    [
        lambda s: s.reduce("r", forgets),
        lambda s: s.reduce("r", partial(forgets)),
        lambda s: s.reduce("r", forgets, value=kstash.json),
        lambda s: s.aggregate("a", str, forgets, value=kstash.text),
    ],
)
def test_none_is_no_state(program: Callable[[kstash.KeyedStream[str, str]], Any]) -> None:
    """A forgotten return deletes nothing: the error names the function and its line."""
    task = Task(lambda app: program(texts(app)))
    line = forgets.__code__.co_firstlineno
    with pytest.raises(OperatorError, match=f"forgets at .*:{line} returned None") as caught:
        task.feed(b"x", b"y", b"b")
    assert caught.value.record_index == 2


def test_none_of_other_functions() -> None:
    """A value of None is a tombstone, counts as one record, and cannot be spread."""
    task = Task(lambda app: texts(app).map_values(none).to("out", value=kstash.json))
    assert task.feed(b"a").values() == [None]
    task = Task(lambda app: texts(app).map_values(none).count("n").to("out"))
    assert task.feed(b"a", b"b").values() == [b"1", b"2"]
    assert Task(lambda app: texts(app).filter(none).to("out")).feed(b"a").values() == []
    with pytest.raises(OperatorError, match=r"none at .* returned None as results: return a list"):
        Task(lambda app: texts(app).flat_map(none).to("out", value=kstash.text)).feed(b"a")


def test_tombstones_pass_without_a_serde() -> None:
    """None keys and values stay None at both ends, also under serdes that could write None."""
    task = Task(lambda app: app.stream("in", key=kstash.json, value=kstash.json).to("out"))
    assert task.feed(None, b"1", keys=[b'"k"', None]).out() == [
        (b'"k"', None, 100),
        (None, b"1", 101),
    ]


def test_user_headers_go_with_their_records() -> None:
    """Through filters and flat_maps; a batch without headers stays without."""
    task = Task(lambda app: texts(app).filter(len).flat_map(str.split).to("o", value=kstash.text))
    first: Headers = [("h", b"1")]
    third: Headers = [("h", b"3")]
    values: list[bytes] = [b"a b", b"", b"c"]
    task.operators.process(0, Batch([None] * 3, values, [1, 2, 3], [first, None, third]))
    task.feed(b"d")
    ((_, batch, _),) = task.operators.take_outputs()
    assert batch.headers == [first, first, third, None]
    ((_, batch, _),) = task.feed(b"e").operators.take_outputs()
    assert batch.headers is None


def test_a_batch_given_is_never_changed() -> None:
    """Columns may be shared, so no operator writes into them."""
    batch = Batch([b"k", b"k"], [b"a b", b"c"], [1, 2], [None, [("h", b"")]])
    before = Batch(list(batch.keys), list(batch.values), [1, 2], [None, [("h", b"")]])
    task = Task(lambda app: texts(app).flat_map_values(str.split).count("n").to("out"))
    task.operators.process(0, batch)
    task.operators.take_outputs()
    assert batch == before


def test_nothing_is_left_after_take_outputs() -> None:
    """Outputs are handed over once; an empty batch makes none."""
    task = Task(lambda app: texts(app).to("out")).feed(b"a")
    assert len(task.out()) == 1
    assert task.out() == []
    assert task.feed().out() == []


# --- errors -------------------------------------------------------------------------------------


def fail_on_b(value: Any) -> Any:
    """Raise for what starts with b."""
    if str(value).startswith("b"):
        raise LookupError(value)
    return value


def stop_on_b(value: Any) -> Any:
    """Raise the one exception that `map` would swallow."""
    if str(value).startswith("b"):
        raise StopIteration
    return value


def late(value: str) -> Iterator[str]:
    """A generator that fails while it is read."""
    yield from value
    fail_on_b(value)


class NoTruth:
    """An object whose truth raises."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __bool__(self) -> bool:
        fail_on_b(self.value)
        return True


@pytest.mark.parametrize(
    "program",
    [
        lambda s: s.map(fail_on_b).to("out", value=kstash.text),
        lambda s: s.map(stop_on_b).to("out", value=kstash.text),
        lambda s: s.filter(fail_on_b).to("out"),
        lambda s: s.filter(NoTruth).to("out"),
        lambda s: s.flat_map(late).to("out", value=kstash.text),
        lambda s: s.flat_map(lambda v: fail_on_b(v) and []).peek(print),
        lambda s: s.flat_map(lambda v: 1 if v == "b" else []).peek(print),
        lambda s: s.peek(fail_on_b),
        lambda s: s.key_by(fail_on_b, key=kstash.text).count("n"),
        lambda s: s.reduce("r", lambda _, v: fail_on_b(v)),
        lambda s: s.aggregate("a", str, lambda _, v: fail_on_b(v), value=kstash.text),
        lambda s: s.split(fail_on_b)[0].to("out"),
        lambda s: s.split(lambda v: v == "a", fail_on_b)[2].to("out"),
        # after operators that change the number of records
        lambda s: s.filter(lambda v: v != "a").map(fail_on_b).peek(print),
        lambda s: s.flat_map(lambda v: [v, v]).filter(fail_on_b).peek(print),
        lambda s: s.flat_map(lambda v: [] if v == "a" else [v]).map(fail_on_b).peek(print),
        lambda s: s.split(lambda v: v == "a")[1].map(fail_on_b).peek(print),
        lambda s: s.filter(len).merge(s.filter(lambda v: v == "b")).peek(fail_on_b),
        lambda s: s.merge(s).flat_map(lambda v: [v, v]).map(fail_on_b).peek(print),
        lambda s: (
            s.map_values(str.strip)
            .count("n")
            .records()
            .filter(lambda record: fail_on_b("b" if record.value == 3 else "a"))
            .to("out", value=kstash.text)
        ),
    ],
)
def test_an_error_names_the_record_of_the_input(
    program: Callable[[kstash.KeyedStream[str, str]], Any],
) -> None:
    """Wherever it fails, the index is that of the record that the stage was given."""
    task = Task(lambda app: program(texts(app)))
    with pytest.raises(OperatorError) as caught:
        task.feed(b"a", b"a", b"b", b"c")
    assert caught.value.record_index == 2
    assert __file__ in caught.value.operator
    assert caught.value.__cause__ is caught.value.cause


def test_an_error_carries_the_users_traceback() -> None:
    """The cause is the user's exception, raised in the user's function."""
    task = Task(lambda app: texts(app).map(fail_on_b).to("out", value=kstash.text))
    with pytest.raises(OperatorError, match="LookupError: b") as caught:
        task.feed(b"b")
    traceback = caught.value.cause.__traceback__
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code.co_name == "fail_on_b"


def test_an_error_is_located_by_the_runtime() -> None:
    """The runtime adds the place, and the message has it all."""
    task = Task(lambda app: texts(app).map(fail_on_b).to("out", value=kstash.text))
    with pytest.raises(OperatorError) as caught:
        task.feed(b"b")
    assert str(caught.value.at("in", 3, 77)).endswith("(topic 'in', partition 3, offset 77)")


def test_a_value_that_does_not_decode_names_serde_and_record() -> None:
    """Foreign bytes in a topic."""
    task = Task(lambda app: texts(app).map(len).to("out", value=kstash.int_text))
    with pytest.raises(SerdeError, match="serde 'text' of 'input in' cannot deserialize") as caught:
        task.feed(b"a", b"\xff")
    assert (caught.value.record_index, caught.value.field) == (1, "value")
    with pytest.raises(SerdeError) as caught:
        task.feed(b"a", b"b", keys=[b"k", b"\xff"])
    assert (caught.value.record_index, caught.value.field) == (1, "key")


@pytest.mark.parametrize(
    "program",
    [
        lambda s: s.map(lambda v: 1 if v == "b" else v).to("out", value=kstash.text),
        lambda s: s.map(lambda v: 1.5 if v == "b" else 1).to("out", value=kstash.int_text),
        lambda s: s.map(lambda v: v if v == "b" else b"").to("out", value=kstash.raw),
        lambda s: s.filter(lambda v: v != "a").key_by(lambda _: 1, key=kstash.text).count("n"),
        lambda s: s.aggregate(
            "a", str, lambda _, v: object() if v == "b" else v, value=kstash.json
        ),
        lambda s: s.map_values(lambda v: 1j if v == "b" else 1).sum("s"),
        # what would fail later only, at a checkpoint, or come back as something else
        lambda s: s.reduce("r", lambda _, v: "\ud800" if v == "b" else v),
        lambda s: s.map_values(lambda v: 10**5000 if v == "b" else 1).sum("s"),
        lambda s: s.map_values(lambda v: float("nan") if v == "b" else 1).to(
            "o", value=kstash.json
        ),
        lambda s: s.aggregate("a", list, lambda _, v: [v == "b" and 1e999], value=kstash.json),
        lambda s: s.aggregate(
            "a", dict, lambda _, v: {"x": -1e999 if v == "b" else None}, value=kstash.json
        ),
    ],
)
def test_a_value_that_does_not_encode_names_the_record(
    program: Callable[[kstash.KeyedStream[str, str]], Any],
) -> None:
    """A result of another type than the serde's fails at its record, also as state."""
    task = Task(lambda app: program(texts(app)))
    with pytest.raises(SerdeError, match="cannot serialize") as caught:
        task.feed(b"a", b"a", b"b")
    assert caught.value.record_index == 2


EMPTY: Serde[Any] = Serde("empty", str.encode, lambda data: data.decode() or None)
SHORT: Serde[Any] = Serde("short", lambda v: v[:3].encode(), lambda data: data.decode() + ".")


@pytest.mark.parametrize(
    ("serde", "message"), [(EMPTY, "stands for no state"), (SHORT, "would change")]
)
def test_a_serde_that_loses_a_state_names_the_record(serde: Serde[Any], message: str) -> None:
    """What would be gone, or another state, after a restart is an error at once (H55)."""
    task = Task(lambda app: texts(app).aggregate("a", str, lambda _, v: v, value=serde))
    with pytest.raises(SerdeError, match=message) as caught:
        task.feed(b"abc", b"")
    assert caught.value.record_index == 1
    assert caught.value.action == "deserialize"


def test_a_serializer_must_return_bytes() -> None:
    """A custom serde that returns text is found at the first record."""
    wrong: Serde[Any] = Serde("wrong", str, bytes.decode)  # type: ignore[arg-type] # what is tested
    task = Task(lambda app: texts(app).to("out", value=wrong))
    with pytest.raises(SerdeError, match="the serializer returned str, not bytes"):
        task.feed(b"a")


def test_batches_are_put_end_to_end() -> None:
    """Headers of some batches stand beside none of the others."""
    joined = concatenate([Batch([1], [2], [3]), Batch([4], [5], [6], [[("h", b"")]])])
    assert joined == Batch([1, 4], [2, 5], [3, 6], [None, [("h", b"")]])
    single = Batch([1], [2], [3])
    assert concatenate([single]) is single

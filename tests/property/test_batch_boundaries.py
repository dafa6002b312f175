"""No result depends on where a batch ends: not the outputs, not their order, not the state.

Programs of random operators are run on the same input twice: cut at random places, and record by
record. Where branches meet again this is what puts their records into an order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kstash
from kstash import App, KeyedStream, folds
from kstash.operators.batch import Batch
from kstash.operators.interleaved import Share
from kstash.operators.process import logic as process_logic
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision
from kstash.operators.windows import aligned, queue
from kstash.testing.state import MemoryBackend
from kstash.topology import aligned_nodes
from tests.bursts import Text, burst, known
from tests.everything import everything

TOPICS = ("left", "right")

Grow = Callable[[Text], Text]

STATELESS: list[Grow] = [
    lambda s: s.map_values(str.upper),
    lambda s: s.filter(lambda value: "a" in value),
    lambda s: s.filter_not(str.isupper),
    lambda s: s.flat_map_values(lambda value: list(value)),
    lambda s: s.flat_map_values(lambda value: (part for part in (value, value[::-1]))),
    lambda s: s.records().map_values(lambda r: f"{r.key}{r.value}{r.timestamp_ms}"),
    lambda s: s.map_records(lambda r: r.with_(value=fail_on("b", f"{r.headers}{r.value}"))),
    lambda s: s.map_records(lambda r: r.with_(timestamp_ms=r.timestamp_ms + len(r.value) - 2)),
    lambda s: s.flat_map_records(
        lambda r: (r.with_(value=fail_on("1", part), headers=None) for part in r.value)
    ),
    lambda s: s.flat_map_records(lambda r: [r.with_(timestamp_ms=r.timestamp_ms - 9), r]),
    lambda s: s.merge(s.map_values(str.swapcase)),
    lambda s: s.filter(len).merge(s, s.flat_map_values(str.split)),
    lambda s: s.split(str.isalpha, lambda value: len(value) > 2)[1],
    lambda s: KeyedStream.merge(*s.split(str.isalpha)),
    lambda s: KeyedStream.merge(*reversed(s.split(lambda v: "a" in v, lambda v: "b" in v))),
    lambda s: s.key_by(lambda value: value[:1], key=kstash.text, value=kstash.text),
    lambda s: s.merge(s.split(str.isalpha)[1].map_values(str.title), s.filter(str.isdigit)),
    lambda s: s.map_values(lambda value: fail_on("a", value)),
    lambda s: s.filter(lambda value: fail_on("b", value)),
    lambda s: s.flat_map_values(lambda value: (fail_on("A", part) for part in value.split("b"))),
    lambda s: KeyedStream.merge(*s.split(str.isalpha, lambda value: fail_on("1", value))),
    lambda s: s.key_by(lambda value: fail_on(" ", value), key=kstash.text, value=kstash.text),
    lambda s: s.peek(lambda value: fail_on("b", value)).merge(s),
]

PARTS: dict[str, Any] = {
    "all": folds.collect(lambda value: fail_on("1", value)),
    "last": folds.last(lambda value: fail_on("b", value)),
    "spread": folds.statistics(len),
    "most": folds.max(),
}
"""Of which the second one fails after the first has made its state."""

STATEFUL: list[Callable[[Text, str], Text]] = [
    lambda s, name: s.count(name).map_values(str),
    lambda s, name: s.map_values(len).sum(name).map_values(str),
    lambda s, name: s.reduce(name, lambda old, new: (old + new)[-20:], value=kstash.text),
    lambda s, name: s.aggregate(name, list, append, value=kstash.json).map_values(str),
    lambda s, name: s.distinct(name, value=kstash.text),
    lambda s, name: s.aggregate(name, list, append_and_fail, value=kstash.json).map_values(str),
    lambda s, name: s.reduce(name, lambda old, new: old + fail_on("a", new), value=kstash.text),
    lambda s, name: burst(s, name, 2)[0],
    lambda s, name: s.merge(burst(s.filter(len), name, 1)[0].map_values(str.upper)),
    lambda s, name: everything(s, name)[0],
    lambda s, name: s.dedup(name, id=lambda v: fail_on("1", v), within=timedelta(milliseconds=2)),
    lambda s, name: s.throttle(name, at_most=2, within=timedelta(milliseconds=4)),
    lambda s, name: s.top(name, 2, by=lambda v: fail_on("b", v), id=len).map_values(str),
    lambda s, name: s.with_state(name, list, with_last, state=kstash.json, value=kstash.text),
    lambda s, name: s.map_values(len).statistics(name).map_values(str),
    lambda s, name: s.aggregate_all(name, **PARTS).map_values(str),
    lambda s, name: everything(s, name)[1],
    lambda s, name: s.filter(len).merge(*everything(s, name)),
    lambda s, name: everything(everything(s, f"{name}-first")[1], name)[0],
]

BURSTS: list[Callable[[Text, str], Text]] = [
    lambda s, name: burst(s, name, 1)[1],
    lambda s, name: KeyedStream.merge(*burst(s, name, 2)),
    lambda s, name: s.merge(burst(s.filter(len), name, 1)[0].map_values(str.upper)),
    lambda s, name: burst(burst(s, f"{name}-first", 2)[0], name, 3)[0],
    lambda s, name: twice_met(*burst(s, f"{name}-first", 2), name),
]


def twice_met(first: Text, late: Text, name: str) -> Text:
    """Two operators that leave work, of which the second one's results meet those of the first."""
    second, _ = burst(first.merge(late).map_values(lambda value: value[:3]), name, 2)
    return first.filter(len).merge(second, late)


def stamp(value: str) -> int:
    """A timestamp that is none for some values, and too far ahead of some records for others."""
    return -1 if value.startswith("1") else 1000 + 3 * len(value)


def milliseconds(number: int) -> timedelta:
    """So many."""
    return timedelta(milliseconds=number)


WINDOWED: list[Callable[[Any, str], Any]] = [
    lambda s, name: (
        s.window(kstash.tumbling(milliseconds(20)), grace=milliseconds(9))
        .count(name)
        .map_values(str)
    ),
    lambda s, name: (
        s.window(kstash.tumbling(milliseconds(15)), emit="final")
        .collect(name, value=kstash.text)
        .map_values(str)
    ),
    lambda s, name: s.window(kstash.hopping(milliseconds(20), milliseconds(7))).reduce(
        name, lambda old, new: (old + fail_on("a", new))[-20:], value=kstash.text
    ),
    lambda s, name: (
        s.window(
            kstash.hopping(milliseconds(30), milliseconds(8)), grace=milliseconds(4), emit="final"
        )
        .aggregate(name, list, append_and_fail, value=kstash.json)
        .map_values(str)
    ),
    lambda s, name: (
        s.window(kstash.hopping(milliseconds(12), milliseconds(5), offset=milliseconds(3)))
        .max(name, value=kstash.text)
        .late()
        .map_values(str)
    ),
    lambda s, name: s.window(kstash.hopping_count(3, 2)).reduce(
        name, lambda old, new: (old + fail_on("a", new))[-20:], value=kstash.text
    ),
    lambda s, name: (
        s.window(kstash.tumbling_count(2))
        .aggregate(name, list, append_and_fail, value=kstash.json)
        .map_values(str)
    ),
    lambda s, name: s.window(kstash.daily("Asia/Tokyo")).max(name, value=kstash.text),
    lambda s, name: s.window(
        kstash.hopping(milliseconds(20), milliseconds(7)), every=milliseconds(1)
    ).reduce(name, lambda old, new: (old + fail_on("a", new))[-20:], value=kstash.text),
    lambda s, name: s.window(
        kstash.session(milliseconds(9)), grace=milliseconds(2), every=milliseconds(1)
    ).max(name, value=kstash.text),
    lambda s, name: (
        s.window(kstash.hopping(milliseconds(20), milliseconds(7)), idle_timeout=milliseconds(1))
        .count(name)
        .map_values(str)
    ),
    lambda s, name: s.window(
        kstash.sliding(milliseconds(12)), emit="final", idle_timeout=milliseconds(1)
    ).reduce(name, lambda old, new: fail_on("b", old + new)[-9:], value=kstash.text),
    lambda s, name: s.window(
        kstash.session(milliseconds(9)), grace=milliseconds(2), idle_timeout=milliseconds(1)
    ).max(name, value=kstash.text),
    lambda s, name: s.window(
        kstash.tumbling(milliseconds(9)), grace=milliseconds(2), idle_timeout=milliseconds(1)
    ).reduce(name, lambda old, new: fail_on("b", old + new)[-9:], value=kstash.text),
    lambda s, name: (
        s.window(kstash.session(milliseconds(12)), emit="final")
        .aggregate_all(name, **PARTS)
        .map_values(str)
    ),
    lambda s, name: (
        s.map_values(len)
        .window(kstash.hopping(milliseconds(20), milliseconds(7)))
        .statistics(name)
        .map_values(str)
    ),
    lambda s, name: s.window(
        kstash.tumbling(milliseconds(5), offset=milliseconds(2)), emit="final"
    ).reduce(name, lambda old, new: fail_on("b", old + new)[-9:], value=kstash.text),
    lambda s, name: (
        s.window(kstash.session(milliseconds(9)), grace=milliseconds(12))
        .aggregate(name, list, append_and_fail, merge=one_list, value=kstash.json)
        .map_values(str)
    ),
    lambda s, name: s.window(
        kstash.session(milliseconds(7)), grace=milliseconds(3), emit="final"
    ).reduce(name, lambda old, new: fail_on("b", old + new)[-9:], value=kstash.text),
    lambda s, name: s.window(kstash.session(milliseconds(6))).count(name).late().map_values(str),
    lambda s, name: (
        s.window(kstash.sliding(milliseconds(12)), grace=milliseconds(9))
        .aggregate(name, list, append_and_fail, value=kstash.json, values=kstash.text)
        .map_values(str)
    ),
    lambda s, name: s.window(
        kstash.sliding(milliseconds(15)), grace=milliseconds(20), emit="final"
    ).reduce(name, lambda old, new: fail_on("b", old + new)[-9:], value=kstash.text),
    lambda s, name: s.window(kstash.sliding(milliseconds(10))).count(name).late().map_values(str),
]


def fail_on(part: str, value: str) -> str:
    """Raise for values that have a part."""
    if part in value:
        raise LookupError(value)
    return value


def append_and_fail(state: list[str], value: str) -> list[str]:
    """Change the state in place, and only then raise."""
    append(state, value)
    fail_on("1", value)
    return state


def one_list(one: list[str], other: list[str]) -> list[str]:
    """The state of two sessions."""
    return (one + other)[-4:]


def append(state: list[str], value: str) -> list[str]:
    """Change the state in place, which must not change what was sent before."""
    state.append(value)
    return state[-3:] if len(state) > 5 else state


STATEFUL += WINDOWED


def with_last(state: list[str], value: str) -> tuple[Any, list[str]]:
    """All values until one that ends them; changes the state in place, and fails now and then."""
    append(state, value)
    fail_on("1", value)
    return (kstash.DELETE if value.startswith("b") else state), state


STEPS = st.lists(
    st.one_of(
        st.sampled_from(range(len(STATELESS))).map(lambda number: (False, number)),
        st.sampled_from(range(len(STATEFUL))).map(lambda number: (True, number)),
    ),
    min_size=1,
    max_size=5,
)

RECORDS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["", "k", "l"]),
        st.text("aAb1 ", max_size=4),
        st.booleans(),
        st.integers(-30, 15),
    ),
    max_size=12,
)


def build(steps: list[tuple[bool, int]]) -> App:
    """A program over two topics, with a sink after each stateful operator and at the end."""
    app = App("app")
    first = app.stream(
        TOPICS[0],
        key=kstash.text,
        value=kstash.text,
        timestamp=stamp,
        out_of_order=timedelta(milliseconds=1),
        max_ahead=timedelta(milliseconds=2),
    )
    second = app.stream(TOPICS[1], key=kstash.text, value=kstash.text)
    stream = first.merge(second.filter_not(lambda value: value == "A"))
    for number, (is_stateful, choice) in enumerate(steps):
        if is_stateful:
            stream = STATEFUL[choice](stream, f"state-{number}")
            stream.to(f"out-{number}", value=kstash.text)
        else:
            stream = STATELESS[choice](stream)
    stream.to("out", value=kstash.text)
    return app


Whole = list[tuple[str, Batch, list[int] | None]]
"""A batch: of each topic the records, and their places; None: there are no others."""


def run(app: App, batches: list[Whole]) -> tuple[dict[str, list[Any]], ...]:
    """Records of each topic written, all entries of all stores, how many were left out where."""
    topics: dict[str, list[Any]] = {}
    entries: dict[str, list[Any]] = {}
    skipped: dict[str, list[Any]] = {}
    for stage in app.topology().stages:
        state = MemoryBackend().task(stage.name, 0).open(stage.stores, base=None)
        program = StageProgram(stage, state, decide=lambda _: Decision.SKIP)
        inputs = {source.topic: index for index, source in enumerate(stage.inputs)}
        made_batches: list[Whole] = []
        for whole in batches:
            shares = [Share(inputs[t], batch, places) for t, batch, places in whole if t in inputs]
            for index, made in parts(program, shares):
                made_batches.append([(stage.outputs[index].topic, made, None)])
                headers = made.headers or [None] * len(made)
                columns = zip(made.keys, made.values, made.timestamps, headers, strict=True)
                topics.setdefault(stage.outputs[index].topic, []).extend(columns)
        batches = made_batches
        for counts in (program.skipped, program.dropped):
            skipped |= {f"{stage.name} {what}": [n] for what, n in counts.items()}
        entries |= {spec.name: state.store(spec.name).items() for spec in stage.stores}
    return topics, entries, skipped


def parts(program: StageProgram, shares: list[Share]) -> Iterator[tuple[int, Batch]]:
    """(Output index, records) of all that becomes of a batch, part by part."""
    if shares:
        program.process_merged(shares)
    while True:
        for index, made, _ in program.take_outputs():
            yield index, made
        if not program.has_work:
            return
        program.go_on()


def batches_of(
    records: list[tuple[int, str, str, bool, int]], cuts: list[bool], *, together: bool = False
) -> list[Whole]:
    """The records as batches.

    Args:
        records: of both topics, in their order.
        cuts: before which of them a batch ends.
        together: whether a batch goes on where the topic changes.
    """
    batches: list[dict[str, tuple[Batch, list[int]]]] = []
    for position, (input_index, key, value, has_headers, ahead_ms) in enumerate(records):
        topic = TOPICS[input_index]
        if not batches or cuts[position] or not (together or topic in batches[-1]):
            batches.append({})
        batch, places = batches[-1].setdefault(topic, (Batch(), []))
        if has_headers and batch.headers is None:
            batch.headers = [None] * len(batch)
        batch.keys.append(key.encode())
        batch.values.append(value.encode())
        batch.timestamps.append(1000 + 10 * position + ahead_ms)
        if batch.headers is not None:
            batch.headers.append([("n", str(position).encode())] if has_headers else None)
        places.append(sum(len(found) for found, _ in batches[-1].values()) - 1)
    return [
        [(topic, batch, places if len(whole) > 1 else None) for topic, (batch, places) in pairs]
        for whole in batches
        for pairs in [sorted(whole.items())]
    ]


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    """Windows that close together, and timers, leave in parts of two, so that there are several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned, "PART_RECORDS", 2)
        patch.setattr(aligned_nodes, "PART_RECORDS", 2)
        patch.setattr(queue, "PART_RECORDS", 2)
        patch.setattr(process_logic, "PART_RECORDS", 2)
        yield


CUTS = st.lists(st.booleans(), min_size=12, max_size=12)


@given(steps=STEPS, records=RECORDS, cuts=CUTS)
def test_any_cut_gives_the_results_of_single_records(
    steps: list[tuple[bool, int]],
    records: list[tuple[int, str, str, bool, int]],
    cuts: list[bool],
) -> None:
    """Outputs, their order, times and headers, the state, and what failed, whatever the batches."""
    check(build(steps), records, cuts)


def check(app: App, records: list[tuple[int, str, str, bool, int]], cuts: list[bool]) -> None:
    """The records give the same, cut or one by one."""
    with known():
        one_by_one = run(app, batches_of(records, [True] * len(records)))
        assert run(app, batches_of(records, cuts)) == one_by_one
        assert run(app, batches_of(records, cuts, together=True)) == one_by_one


@settings(max_examples=60)
@given(apart=st.tuples(STEPS, STEPS), steps=STEPS, records=RECORDS, cuts=CUTS)
def test_topics_meet_record_by_record(
    apart: tuple[list[tuple[bool, int]], list[tuple[bool, int]]],
    steps: list[tuple[bool, int]],
    records: list[tuple[int, str, str, bool, int]],
    cuts: list[bool],
) -> None:
    """Also after operators of their own, which leave some out, and send several for others."""
    app = App("app")
    streams: list[Any] = []
    for topic, own in zip(TOPICS, apart, strict=True):
        stream: Any = app.stream(topic, key=kstash.text, value=kstash.text)
        for number, (is_stateful, choice) in enumerate(own[:2]):
            if not is_stateful:
                stream = STATELESS[choice](stream)
            elif STATEFUL[choice] not in WINDOWED:  # whose keys are others
                stream = STATEFUL[choice](stream, f"{topic}-{number}")
        streams.append(stream)
    stream = streams[0].merge(streams[1])
    for number, (is_stateful, choice) in enumerate(steps[:2]):
        grow: Any = STATEFUL[choice] if is_stateful else STATELESS[choice]
        stream = grow(stream, f"state-{number}") if is_stateful else grow(stream)
    stream.to("out", value=kstash.text)
    check(app, records, cuts)


@pytest.mark.parametrize("number", range(len(BURSTS)))
@settings(max_examples=30)
@given(records=RECORDS, cuts=CUTS)
def test_a_topic_whose_records_leave_work_meets_another(
    number: int, records: list[tuple[int, str, str, bool, int]], cuts: list[bool]
) -> None:
    """All parts of a record come before what the next record of the other topic makes."""
    app = App("app")
    first, second = (app.stream(t, key=kstash.text, value=kstash.text) for t in TOPICS)
    stream = BURSTS[number](first, "bursts").merge(second)
    stream.reduce("last", lambda old, new: (old + new)[-20:], value=kstash.text).to("out")
    check(app, records, cuts)


@pytest.mark.parametrize("number", range(len(BURSTS)))
@settings(max_examples=30)
@given(records=RECORDS, cuts=CUTS)
def test_no_cut_shows_where_work_is_left(
    number: int, records: list[tuple[int, str, str, bool, int]], cuts: list[bool]
) -> None:
    """Results in parts, alone, in a chain, and where branches meet again after them."""
    app = App("app")
    first, second = (app.stream(t, key=kstash.text, value=kstash.text) for t in TOPICS)
    stream = BURSTS[number](first.merge(second), "bursts")
    stream.to("results", value=kstash.text)
    stream.reduce("last", lambda old, new: (old + new)[-20:], value=kstash.text).to("out")
    check(app, records, cuts)

"""`map_records` and `flat_map_records`: whole records in, whole records out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

import kstash
from kstash import App, KeyedStream, Record, Stream
from kstash.errors import OperatorError, TopologyError
from kstash.testing import TestDriver

TEXT = kstash.text


def made(
    build: Callable[[KeyedStream[str, str]], Stream[Any, Any]],
    *sent: tuple[str | None, str | None, int],
    **times: Any,
) -> list[tuple[Any, ...]]:
    """(Key, value, timestamp, headers) of what leaves; each record has a header `n`."""
    app = App("app")
    build(app.stream("in", key=TEXT, value=TEXT, **times)).to("out", value=TEXT)
    with TestDriver(app) as driver:
        for number, (key, value, at) in enumerate(sent):
            headers: Any = [("n", str(number).encode())]
            driver.send("in", value, key=key, timestamp_ms=at, headers=headers)
            driver.crash()
            driver.recover()
        return [(r.key, r.value, r.timestamp_ms, r.headers) for r in driver.read("out")]


def test_a_record_is_changed_in_part() -> None:
    """What is not said stays; nulls are there as anything else."""
    results = made(
        lambda s: s.map_records(
            lambda r: r.with_(value=f"{r.key}{r.value}", timestamp_ms=r.timestamp_ms + 5)
        ),
        ("k", "v", 10),
        (None, None, 20),
    )
    assert results == [
        ("k", "kv", 15, [("n", b"0")]),
        (None, "NoneNone", 25, [("n", b"1")]),
    ]


def more(headers: Any) -> Any:
    """One more header."""
    return [*headers, ("m", None)]


def test_headers_may_be_others() -> None:
    """More of them, or none."""
    results = made(
        lambda s: s.map_records(
            lambda r: r.with_(
                headers=[*(r.headers or ()), ("m", None)] if r.value == "more" else None
            )
        ),
        ("k", "more", 1),
        ("k", "none", 2),
    )
    assert [headers for *_, headers in results] == [[("n", b"0"), ("m", None)], []]


def test_another_key_needs_its_serde() -> None:
    """With it the results are a `Stream`, after which state needs `key_by`; without, an error."""
    app = App("app")
    stream = app.stream("in", key=TEXT, value=TEXT)
    swapped = stream.map_records(lambda r: r.with_(key=len(r.value)), key=kstash.int_text)
    assert type(swapped) is Stream
    assert not hasattr(swapped, "count")
    assert type(stream.map_records(lambda r: r)) is KeyedStream
    swapped.to("out", value=TEXT)
    with TestDriver(app) as driver:
        driver.send("in", "four", key="k")
        assert [record.key for record in driver.read("out")] == [4]
    with pytest.raises(OperatorError, match="another key, 'K', than its record: give the serde"):
        made(lambda s: s.map_records(lambda r: r.with_(key="K")), ("k", "v", 1))


def test_state_follows_without_a_topic_between() -> None:
    """The key stands, whatever else of the record is another one."""
    app = App("app")
    stream = app.stream("in", key=TEXT, value=TEXT)
    stream.map_records(lambda r: r.with_(value=str(r.timestamp_ms))).count("n").to("out")
    assert [stage.name for stage in app.topology().stages] == ["n"]


def test_any_number_of_records() -> None:
    """None, one or several, each with times and headers of its own."""
    results = made(
        lambda s: s.flat_map_records(
            lambda r: (r.with_(value=part, timestamp_ms=at) for at, part in enumerate(r.value, 1))
        ),
        ("k", "ab", 10),
        ("k", "", 20),
        ("l", "c", 30),
    )
    assert results == [
        ("k", "a", 1, [("n", b"0")]),
        ("k", "b", 2, [("n", b"0")]),
        ("l", "c", 1, [("n", b"2")]),
    ]


def test_stream_time_moves_with_the_timestamp() -> None:
    """What a source holds back stays held back; a record that was made older may be late."""

    def windowed(stream: KeyedStream[str, str]) -> Stream[Any, Any]:
        moved = stream.map_records(lambda r: r.with_(timestamp_ms=r.timestamp_ms - 100))
        counts = moved.window(kstash.tumbling(timedelta(milliseconds=10)), emit="final").count("n")
        return counts.map_records(
            lambda r: r.with_(key=r.key.key, value=f"{r.key.start_ms} {r.value}"), key=TEXT
        )

    held = timedelta(milliseconds=5)
    rows = (
        ("k", "a", 1001),
        ("k", "b", 1014),
        ("k", "c", 1002),
        ("k", "d", 1015),
        ("k", "e", 1003),
    )
    late = made(windowed, *rows)
    in_time = made(windowed, *rows, out_of_order=held)
    assert [value for _, value, *_ in late] == ["900 1"]
    assert [value for _, value, *_ in in_time] == ["900 2"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda r: r.value, "give a Record back, such as record.with_"),
        (lambda _: None, "give a Record back"),
        (lambda r: r.with_(timestamp_ms=-1), "a timestamp is an integer of Unix milliseconds"),
        (lambda r: r.with_(timestamp_ms=1.5), "a timestamp is an integer"),
        (lambda r: r.with_(timestamp_ms=10**15), "end of the year 9999"),
        (lambda r: r.with_(headers=[("n", "text")]), "a Record has as headers a list of pairs"),
        (lambda r: r.with_(headers=[(b"n", b"")]), "a Record has as headers a list of pairs"),
    ],
)
def test_what_is_no_record(function: Any, message: str) -> None:
    """Found at its record, with its place; by both verbs."""
    for build in (
        lambda s: s.map_records(function),
        lambda s: s.flat_map_records(lambda r: [function(r)]),
    ):
        with pytest.raises(OperatorError, match=message) as caught:
            made(build, ("k", "v", 1))
        assert (caught.value.topic, caught.value.offset) == ("in", 0)


def test_one_record_is_no_list_of_records() -> None:
    """Although it is a tuple."""
    with pytest.raises(OperatorError, match="give a list of such, or use map_records"):
        made(lambda s: s.flat_map_records(cast("Any", lambda r: r)), ("k", "v", 1))


def test_a_timestamp_of_0_becomes_1() -> None:
    """To a producer 0 means now, which a replay could not repeat; so it is for processors."""

    class AtZero(kstash.Processor[str, str, str]):
        """Sends at 0."""

        def on_record(self, record: Record, context: kstash.Context[str, str]) -> None:
            """Send."""
            context.send(record.value, timestamp_ms=0)

    for build in (
        lambda s: s.map_records(lambda r: r.with_(timestamp_ms=0)),
        lambda s: s.process("p", AtZero, value=TEXT),
    ):
        ((_, _, at, _),) = made(build, ("k", "v", 5))
        assert at == 1


def max_of_two(one: Record, other: Record) -> Record:
    """Takes two."""
    return max(one, other)


def test_what_it_is_declared_with() -> None:
    """A function of one record, and a serde."""
    stream = App("app").stream("in", key=TEXT, value=TEXT)
    with pytest.raises(TopologyError, match=r"map_records calls its function as f\(record\)"):
        stream.map_records(cast("Any", max_of_two))
    with pytest.raises(TopologyError, match="key= takes a serde"):
        stream.map_records(lambda r: r, key=5)  # type: ignore[call-overload]

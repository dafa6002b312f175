"""What a processor must not do is an error at its record, which says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import kstash
from kstash import App, Context, Processor, Record
from kstash.errors import OperatorError, SerdeError, TopologyError
from kstash.testing import TestDriver

AnyContext = Context[Any, Any]
HOUR = timedelta(hours=1)


class Does(Processor[str, str, Any]):
    """What a function does with the processor, its record and its context."""

    sides = ("odd",)
    value = kstash.Value("v", kstash.json)
    map = kstash.Map("m", key=kstash.text, value=kstash.json)
    list = kstash.List("l", kstash.json)

    def __init__(self, function: Callable[[Any, Record, AnyContext], Any]) -> None:
        self.function = function

    def on_record(self, record: Record, context: AnyContext) -> None:
        """Do it."""
        return self.function(self, record, context)  # type: ignore[no-any-return] # for a test


def made(function: Callable[[Any, Record, AnyContext], Any], *, is_wide: bool = False) -> list[Any]:
    """What comes of one record."""
    app = App("app")
    results = app.stream("in", key=kstash.text, value=kstash.text).process(
        "p", Does(function), value=kstash.json
    )
    if is_wide:
        results.repartition("again").to("out")
    else:
        results.to("out")
    with TestDriver(app) as driver:
        driver.send("in", "a", key="k")
        return [(record.value, record.headers) for record in driver.read("out")]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_side_output_that_is_asked_for_again_is_the_same_one(count: int) -> None:
    """Every stream of it gets all of its records."""
    app = App("app")
    lines = app.stream("in", key=kstash.text, value=kstash.text)
    processed = lines.process(
        "p",
        Does(lambda _, record, context: context.send(record.value, to="odd")),
        value=kstash.text,
    )
    repeats = lines.dedup("d", id=len, within=HOUR)
    rate = lines.throttle("t", at_most=1, within=HOUR)
    counts = lines.window(kstash.tumbling(timedelta(seconds=1))).count("w")
    for number in range(count):
        processed.side("odd", value=kstash.text).to(f"odd{number}")
        repeats.side("repeated").to(f"repeated{number}")
        rate.side("over").map_values(str.upper).to(f"over{number}", value=kstash.text)
        counts.late().map_values(lambda late: late.value).to(f"late{number}", value=kstash.text)
    with TestDriver(app) as driver:
        driver.send("in", "a", key="k", timestamp_ms=5000)
        driver.send("in", "b", key="k", timestamp_ms=100)
        for number in range(count):
            got = [
                [record.value for record in driver.read(f"{topic}{number}")]
                for topic in ("odd", "repeated", "over", "late")
            ]
            assert got == [["a", "b"], ["b"], ["B"], ["b"]]


@pytest.mark.parametrize(
    ("attribute", "hint"),
    [
        ("value", r"Does\.value is a state, which is set by self\.value\.set\(value\)"),
        ("map", r"self\.map\.set\(key, value\)"),
        ("list", r"self\.list\.append\(item\)"),
    ],
)
def test_a_state_is_not_replaced_by_an_assignment(attribute: str, hint: str) -> None:
    """It would be the same of all keys, and no state."""
    with pytest.raises(OperatorError, match=hint) as raised:
        made(lambda processor, record, _: setattr(processor, attribute, record.value))
    assert isinstance(raised.value.cause, TopologyError)
    with pytest.raises(OperatorError, match=rf"{attribute} is a state, which is deleted by"):
        made(lambda processor, *_: delattr(processor, attribute))


def test_a_state_has_no_brackets_but_a_list_is_read_by_them() -> None:
    """The error says which methods there are."""

    def set_entry(processor: Any, *_: object) -> None:
        processor.map["a"] = 1

    def set_item(processor: Any, *_: object) -> None:
        processor.list[0] = 1

    with pytest.raises(OperatorError, match=r"kept by set\(key, value\)"):
        made(set_entry)
    with pytest.raises(OperatorError, match=r"read by get\(key\)"):
        made(lambda processor, *_: processor.map["a"])
    with pytest.raises(OperatorError, match="append and extend"):
        made(set_item)


@pytest.mark.parametrize(
    ("use", "hint"),
    [
        (lambda processor: processor.value + 1, r"self\.value\.set\(self\.value\.get\(0\) \+ 1\)"),
        (lambda processor: 1 - processor.value, r"self\.value\.get\(0\) reads it"),
        (lambda processor: processor.value > 5, r"self\.value\.get\(0\) reads it"),
        (lambda processor: processor.list.remove("a"), r"call clear\(\), and extend it"),
        (lambda processor: processor.list.sort(key=len), r"call clear\(\), and extend it"),
        (lambda processor: processor.list.pop(), r"call clear\(\), and extend it"),
    ],
)
def test_what_a_state_has_not_says_what_it_has(use: Callable[[Any], object], hint: str) -> None:
    """A value is no number, and a list is no list of Python."""
    with pytest.raises(OperatorError, match=hint):
        made(lambda processor, *_: use(processor))


@pytest.mark.parametrize(
    ("at", "hint"),
    [
        (datetime(2020, 1, 1), r"int\(at\.timestamp\(\) \* 1000\), and with a tzinfo"),
        (datetime(2020, 1, 1, tzinfo=UTC), r"datetime it is int\(at\.timestamp\(\) \* 1000\)"),
        (HOUR, r"(time_ms|now\(\)) \+ delta // timedelta\(milliseconds=1\)"),
        (5.5, r"round it by int\(at\)"),
    ],
)
@pytest.mark.parametrize("clock", ["timer", "wall_timer"])
def test_a_time_of_another_type_says_how_to_get_it(at: Any, hint: str, clock: str) -> None:
    """Before it says that the processor has no `on_timer`."""
    with pytest.raises(OperatorError, match=rf"{clock}\(at=\) takes Unix milliseconds.*{hint}"):
        made(lambda _p, _r, context: getattr(context, clock)("t", at=at))


@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize(
    "headers",
    [{"a": b"b"}, [("a", "b")], [("a", 5)], "ab", [(1, b"x")], [("a",)], [("a", b"b", b"c")], 5],
)
def test_wrong_headers_are_an_error_at_the_record(headers: Any, *, is_wide: bool) -> None:
    """And not one of a later step, which knows no record."""
    with pytest.raises(
        OperatorError, match=r"process\(p\).*send\(headers=\) takes a list of pairs"
    ):
        made(lambda _p, _r, context: context.send("x", headers=headers), is_wide=is_wide)


@pytest.mark.parametrize(
    ("name", "error"), [("__kstash.s", "kstash's own"), ("\ud800", "surrogates not allowed")]
)
def test_names_of_headers_that_cannot_be_written(name: str, error: str) -> None:
    """Those of kstash, and what is no UTF-8."""
    with pytest.raises(OperatorError, match=error):
        made(lambda _p, _r, context: context.send("x", headers=[(name, b"")]))


@pytest.mark.parametrize("headers", [[("a", b"b"), ("c", None)], (("a", b"b"), ("c", None))])
def test_headers_are_those_of_the_time_when_they_were_sent(headers: Any) -> None:
    """Changes of the list after that are none of them."""

    def send(_p: Any, _r: Record, context: AnyContext) -> None:
        given = headers if isinstance(headers, tuple) else list(headers)
        context.send("x", headers=given)  # type: ignore[arg-type]
        if isinstance(given, list):
            given.clear()

    assert made(send) == [("x", [("a", b"b"), ("c", None)])]


@pytest.mark.parametrize("returned", [["a"], "a", 0, False])
def test_what_a_processor_returns_is_not_sent_silently(returned: object) -> None:
    """It would be lost."""
    with pytest.raises(OperatorError, match=r"sent by context\.send"):
        made(lambda *_: returned)


def test_a_generator_is_told_to_send() -> None:
    """It would run nothing."""

    class Yields(Processor[str, str, str]):
        """Believes that what it yields is sent."""

        def on_record(self, record: Record, context: AnyContext) -> Iterator[str]:  # type: ignore[override]  # noqa: ARG002
            """Yield a result."""
            yield record.value

    stream = App("app").stream("in", key=kstash.text, value=kstash.text)
    with pytest.raises(TopologyError, match=r"sent by context\.send"):
        stream.process("p", Yields, value=kstash.text)


@pytest.mark.parametrize("serde", [kstash.json, kstash.msgpack, kstash.text, "anything"])
@pytest.mark.parametrize("where", ["value", "key", "sent", "result", "state", "item"])
def test_delete_is_no_value(serde: Any, where: str) -> None:
    """Whatever serde would write it, it is an error."""
    if serde == "anything":
        serde = kstash.Serde("anything", lambda value: str(value).encode(), bytes.decode)
        if where == "item":
            pytest.skip("what such a serde makes of a list is its own affair")
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    delete: Callable[[Any], Any] = lambda _: kstash.DELETE  # noqa: E731
    processor = Does(lambda _p, _r, context: context.send(kstash.DELETE))
    if where == "value":
        stream.map_values(delete).to("out", value=serde)
    elif where == "item":
        stream.map_values(lambda _: [kstash.DELETE]).to("out", value=serde)
    elif where == "key":
        stream.key_by(delete, key=serde).count("c").to("out")
    elif where == "sent":
        stream.process("p", processor, value=serde).to("out")
    elif where == "state":
        keeps = Does(lambda processor, *_: processor.value.set(kstash.DELETE))
        stream.process("p", keeps, value=serde).to("out")
    else:
        stream.with_state(
            "p", list, lambda state, _: (state, [kstash.DELETE]), state=kstash.json, value=serde
        ).to("out")
    with (
        pytest.raises((SerdeError, OperatorError), match=r"DELETE is|takes str, not list"),
        TestDriver(app) as driver,
    ):
        driver.send("in", "a", key="k")


def test_maps_are_counted_and_looped_over_and_lists_have_items() -> None:
    """As those of Python."""

    def look(processor: Any, _: Record, context: AnyContext) -> None:
        context.send([bool(processor.map), len(processor.map), list(processor.map)])
        for name in "bca":
            processor.map.set(name, 1)
            processor.list.append(name)
        processor.map.delete("b")
        context.send([bool(processor.map), len(processor.map), list(processor.map)])
        items = processor.list
        context.send([items[0], items[-1], items[1:], items[::-1]])

    assert [value for value, _ in made(look)] == [
        [False, 0, []],
        [True, 2, ["a", "c"]],
        ["b", "a", ["c", "a"], ["a", "c", "b"]],
    ]
    with pytest.raises(OperatorError, match="IndexError"):
        made(lambda processor, *_: processor.list[-1])

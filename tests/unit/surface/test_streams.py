"""The fluent surface: what it declares, and what it refuses, with the line of the user's code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash import App, KeyedStream
from kstash.errors import TopologyError
from kstash.surface.words import STATE_VERBS
from kstash.topology.nodes import Sink


def refused(program: Callable[[App], Any]) -> str:
    """The message of the refusal, after checking that it names a line of the program."""
    app = App("app")

    def build() -> None:
        program(app)
        app.topology()

    with pytest.raises(TopologyError) as caught:
        build()
    lines, first = inspect.getsourcelines(program)
    location = re.match(r"(.*?):(\d+): ", str(caught.value))
    assert location is not None, str(caught.value)
    assert location[1] == __file__
    assert first <= int(location[2]) < first + len(lines)
    assert caught.value.location == f"{location[1]}:{location[2]}"
    return caught.value.detail


def sink_of(app: App) -> kstash.topology.model.StageOutput:
    """The only user topic written."""
    outputs = [o for stage in app.topology().stages for o in stage.outputs if not o.internal]
    assert len(outputs) == 1
    return outputs[0]


def test_declaring_runs_nothing() -> None:
    """No function of the user is called while a program is built and compiled."""

    def never(*_: Any) -> Any:
        raise AssertionError

    app = App("app")
    (
        app.stream("in", key=kstash.text, value=kstash.json)
        .filter(never)
        .map(never)
        .key_by(never, key=kstash.text, value=kstash.json)
        .aggregate("state", never, never, value=kstash.json)
        .to("out")
    )
    assert app.topology().input_topics == ("in",)


def test_count_without_a_key_is_refused() -> None:
    """State needs a key: the topic's, when its serde is given, or that of key_by."""

    def program(app: App) -> None:
        app.stream("in", value=kstash.text).count("n")  # type: ignore[attr-defined] # so does mypy

    message = refused(program)
    assert "count keeps state per key" in message
    assert "no key= was given for topic 'in'" in message


@pytest.mark.parametrize("verb", ["map", "flat_map"])
def test_map_gives_up_the_key_for_state(verb: str) -> None:
    """What map makes may not belong to the key: state after it is refused with the way out."""

    def program(app: App) -> None:
        stream = app.stream("in", key=kstash.text, value=kstash.text)
        getattr(stream, verb)(str.split).count("n")

    assert f"use {verb}_values" in refused(program)


KEEPS: dict[str, Callable[[kstash.Stream[Any, Any]], kstash.Stream[Any, Any]]] = {
    "map_values": lambda s: s.map_values(str),
    "flat_map_values": lambda s: s.flat_map_values(list),
    "filter": lambda s: s.filter(len),
    "filter_not": lambda s: s.filter_not(len),
    "peek": lambda s: s.peek(len),
    "records": lambda s: s.records(),
    "map_records": lambda s: s.map_records(lambda record: record),
    "flat_map_records": lambda s: s.flat_map_records(lambda record: [record]),
    "split": lambda s: s.split(len)[-1],
    "repartition": lambda s: s.repartition("again", value=kstash.text),
    "merge": lambda s: s.merge(s),
}
"""Verbs after which the stream is keyed if it was before."""


@pytest.mark.parametrize("verb", KEEPS)
def test_what_keeps_the_key_keeps_the_class(verb: str) -> None:
    """State follows a keyed stream; one that has lost its key gains none by going on."""
    app = App("app")
    keyed = app.stream("in", key=kstash.text, value=kstash.text)
    assert type(KEEPS[verb](keyed)) is KeyedStream
    unkeyed = KEEPS[verb](keyed.map(str))
    assert type(unkeyed) is kstash.Stream
    with pytest.raises(TopologyError, match="use map_values if the key still holds"):
        getattr(unkeyed, "count")("n")  # noqa: B009 - mypy sees that it is not there
    assert type(unkeyed.key_by(len, key=kstash.int_text)) is KeyedStream


def test_one_stream_without_a_key_makes_the_union_one() -> None:
    """In whatever order they are merged; the reason is that of the stream."""
    app = App("app")
    keyed = app.stream("in", key=kstash.text, value=kstash.text)
    for union in (keyed.merge(keyed.map(str)), keyed.map(str).merge(keyed)):
        assert type(union) is kstash.Stream
        assert not hasattr(union, "count")


def test_the_verbs_of_state_are_those_of_a_keyed_stream() -> None:
    """Each says without a key why it is not there."""
    verbs = {name for name in dir(KeyedStream) if not name.startswith("_")}
    assert verbs - set(dir(kstash.Stream)) == STATE_VERBS
    unkeyed = App("app").stream("in", key=kstash.text, value=kstash.text).map(str)
    for verb in STATE_VERBS:
        with pytest.raises(TopologyError, match=f"{verb} keeps state per key"):
            getattr(unkeyed, verb)


def test_map_values_keeps_the_key() -> None:
    """State may follow the functions that say that the key stands."""
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.map_values(str.upper).flat_map_values(str.split).filter(bool).peek(print).count("n")
    assert [stage.name for stage in app.topology().stages] == ["n"]


def test_map_passes_the_key_on_to_a_sink() -> None:
    """Only state asks for more: `to` writes the key of the record that a value was made of."""
    app = App("app")
    app.stream("in", key=kstash.text, value=kstash.text).map(len).to("out", value=kstash.int_text)
    assert sink_of(app).key is kstash.text


def test_two_stores_of_one_name_are_refused() -> None:
    """A name belongs to one operator; the message says where the first is."""

    def program(app: App) -> None:
        stream = app.stream("in", key=kstash.text, value=kstash.json)
        stream.count("n")
        stream.sum("n")

    assert re.search(
        r"count\(n\) at .*:\d+ and sum\(n\) would both keep a store 'n': rename", refused(program)
    )


def test_a_missing_serde_of_a_sink_is_refused() -> None:
    """What map makes has no known serde."""
    message = refused(lambda app: app.stream("in", value=kstash.text).map(len).to("out"))
    assert "to('out') does not know the serde of the value" in message


def test_a_missing_serde_of_a_wide_edge_is_refused() -> None:
    """A value that must leave through a repartition topic needs a serde too."""

    def program(app: App) -> None:
        words = app.stream("in", value=kstash.text).flat_map(str.split)
        words.key_by(len, key=kstash.int_text).reduce("r", max, value=kstash.text)

    assert "sends values through a topic" in refused(program)


def test_a_missing_serde_of_reduce_is_refused() -> None:
    """Reduce keeps values, so their serde must be known."""

    def program(app: App) -> None:
        words = app.stream("in", value=kstash.text).flat_map(str.split)
        words.key_by(len, key=kstash.int_text).reduce("r", max)

    assert "reduce('r') keeps values" in refused(program)


def test_merged_topics_with_different_keys_are_refused_before_state() -> None:
    """Equal keys must have equal bytes, or they would not meet in one task."""

    def program(app: App) -> None:
        texts = app.stream("a", key=kstash.text)
        numbers = app.stream("b", key=kstash.int_text)
        texts.merge(numbers).count("n")  # type: ignore[arg-type] # mypy sees it as well

    assert "different keys (int_text, text)" in refused(program)


def test_merged_topics_with_different_keys_need_a_serde_to_leave() -> None:
    """Without state, only the sink asks for a serde of the key."""

    def program(app: App) -> None:
        texts = app.stream("a", key=kstash.text)
        texts.merge(app.stream("b")).to("out")  # type: ignore[arg-type] # mypy sees it as well

    assert "give its serde as key=" in refused(program)


def test_merge_inherits_what_its_streams_agree_about() -> None:
    """Equal serdes are known after a merge, others are not."""
    app = App("app")
    app.stream("a", "b", key=kstash.text, value=kstash.text).to("out")
    assert (sink_of(app).key, sink_of(app).value) == (kstash.text, kstash.text)

    def mixed(app: App) -> None:
        streams = app.stream("c", value=kstash.json), app.stream("d", value=kstash.msgpack)
        streams[0].merge(streams[1]).to("out")

    assert "does not know the serde of the value" in refused(mixed)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda app: app.stream(), "stream needs a topic"),
        (lambda app: app.stream("a b"), "topic 'a b' is not allowed"),
        (lambda app: app.stream(".."), "topic '..' is not allowed"),
        (lambda app: app.stream(["a", "b"]), "give topics one by one, as stream('a', 'b')"),
        (lambda app: app.stream("in").to(("a", "b")), "call to() once for each topic"),
        (lambda app: app.stream("in").to(5), "topic is a text such as 'orders', not 5, which is"),
        (
            lambda app: app.stream("in", key=kstash.text).count(name=kstash.text),
            "not Serde('text'), which is of type Serde; a serde is given as key= or value=",
        ),
        (
            lambda app: app.stream("in").merge([app.stream("b")]),
            "not [<Stream of source(b)>]: give streams one by one, as merge(a, b)",
        ),
        (
            lambda app: app.stream("in").map(app.stream("b", key=kstash.text)),
            "map needs a function, not <KeyedStream of source(b)>",
        ),
        (
            lambda app: app.stream("in", value=app.stream("b").filter(len)),
            "not <Stream of filter(len)>",
        ),
        (lambda app: app.stream("in").merge(), "merge needs another stream"),
        (lambda app: app.stream("in").merge(App("b").stream("in")), "two applications"),
        (lambda app: app.stream("in").split(), "split needs a predicate"),
        (lambda app: app.stream("in").map("no function"), "map needs a function"),
        (lambda app: app.stream("in").key_by(1, key=kstash.text), "key_by needs a function"),
        (lambda app: app.stream("in", key="text"), "key= takes a serde such as kstash.text"),
        (lambda app: app.stream("in").to("out", value=str), "value= takes a serde"),
        (lambda app: app.stream("in", key=kstash.text).count("a/b"), "name 'a/b' is not allowed"),
        (lambda app: app.stream("in", key=kstash.text).reduce("r", None), "needs a function"),
        (lambda app: app.stream("in").to("out", delivery="later"), "delivery is 'immediate'"),
        (lambda app: (app.stream("in"), app.stream("in", value=kstash.text)), "declared otherwise"),
        (lambda app: app.stream("in").to("in"), "both read and written"),
    ],
)
def test_other_refusals(program: Callable[[App], Any], message: str) -> None:
    """Each says what is wrong and where."""
    assert message in refused(program)


def test_a_program_without_an_effect_is_refused() -> None:
    """An application in which no record goes anywhere is a mistake."""
    app = App("app")
    app.stream("in").filter(len)
    with pytest.raises(TopologyError, match="does nothing"):
        app.topology()


def test_one_topic_is_one_source() -> None:
    """A topic declared twice alike is the same source: it is read once."""
    app = App("app")
    app.stream("in", value=kstash.text).filter(len).to("a")
    app.stream("in", value=kstash.text).filter_not(len).to("b")
    (stage,) = app.topology().stages
    assert [entry.topic for entry in stage.inputs] == ["in"]
    assert [output.topic for output in stage.outputs] == ["a", "b"]


def test_a_sink_inherits_serdes() -> None:
    """The key's serde comes from key_by or the topic, the value's from the last operator."""
    app = App("app")
    app.stream("in", key=kstash.msgpack).count("n").to("out")
    assert (sink_of(app).key, sink_of(app).value) == (kstash.msgpack, kstash.int_text)
    app = App("app")
    app.stream("in").filter(len).to("out")
    assert (sink_of(app).key, sink_of(app).value) == (kstash.raw, kstash.raw)


def test_nodes_are_frozen_and_know_their_line() -> None:
    """A declared node cannot be changed, and says where it was declared."""
    app = App("app")
    app.stream("in").to("out")
    (node,) = app.topology().stages[0].nodes
    assert isinstance(node, Sink)
    assert re.fullmatch(rf"{re.escape(__file__)}:\d+", node.location)
    with pytest.raises(AttributeError):
        node.topic = "other"  # type: ignore[misc] # what is tested

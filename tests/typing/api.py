# The public surface as a user writes it. Never run: mypy checks that each line has these types.
from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, TypedDict, assert_type

import kstash
from kstash import App, KeyedStream, Record, Serde, Stream


class Query(TypedDict):
    user_id: str
    keyword: str


def keyword(query: Query) -> str:
    return query["keyword"]


queries: Serde[Query] = Serde("query", kstash.json.serialize, kstash.json.deserialize)

app = App("typed", guarantee="exactly_once", checkpoint_interval_ms=1000)

opaque = app.stream("plain")
assert_type(opaque, Stream[bytes | None, bytes])
sentences = app.stream("sentences", value=kstash.text)
assert_type(sentences, Stream[bytes | None, str])
keyed = app.stream("a", "b", key=kstash.int_text, value=queries)
assert_type(keyed, KeyedStream[int, Query])

words = sentences.flat_map(str.split)
assert_type(words, Stream[bytes | None, str])
by_word = words.key_by(lambda word: word, key=kstash.text)
assert_type(by_word, KeyedStream[str, str])
counts = by_word.count("words")
assert_type(counts, KeyedStream[str, int])
counts.to("word-counts", key=kstash.text, value=kstash.int_text)

assert_type(keyed.map(keyword), Stream[int, str])
assert_type(
    keyed.map_values(keyword).filter(str.isalpha).filter_not(str.isupper), KeyedStream[int, str]
)
assert_type(keyed.flat_map_values(list), KeyedStream[int, str])
assert_type(keyed.peek(print), KeyedStream[int, Query])
assert_type(keyed.records(), KeyedStream[int, Record])
assert_type(keyed.merge(keyed), KeyedStream[int, Query])
assert_type(keyed.split(keyword), tuple[KeyedStream[int, Query], ...])
assert_type(keyed.repartition("again"), KeyedStream[int, Query])
assert_type(keyed.map_values(keyword).map_values(len).sum("lengths"), KeyedStream[int, int])
assert_type(
    keyed.map_values(keyword).reduce("longest", lambda a, b: max(a, b), value=kstash.text),
    KeyedStream[int, str],
)


def collect(state: list[str], query: Query) -> list[str]:
    return [*state, query["keyword"]]


def shorter(state: str, value: str) -> str | kstash.Deletion:
    return kstash.DELETE if value == "" else min(state, value)


assert_type(
    keyed.map_values(keyword).reduce("shorter", shorter, value=kstash.text), KeyedStream[int, str]
)
assert_type(kstash.DELETE, Literal[kstash.Deletion.DELETE])


def forgets(state: list[str], query: Query) -> None:
    state.append(query["keyword"])


lists: Serde[list[str]] = Serde("list", kstash.json.serialize, kstash.json.deserialize)
assert_type(keyed.aggregate("all", list, collect, value=lists), KeyedStream[int, list[str]])

# Who may keep state: the key stands, or it does not.
assert_type(app.stream("plain", key=kstash.text), KeyedStream[str, bytes])
assert_type(keyed.flat_map(list), Stream[int, str])
assert_type(keyed.map(keyword).map_values(len).peek(print), Stream[int, int])
assert_type(keyed.map(keyword).repartition("spread"), Stream[int, str])
assert_type(keyed.map(keyword).key_by(len, key=kstash.int_text), KeyedStream[int, str])
assert_type(keyed.merge(keyed.map(lambda query: query)), Stream[int, Query])
assert_type(keyed.map(lambda query: query).merge(keyed), Stream[int, Query])
assert_type(sentences.split(len), tuple[Stream[bytes | None, str], ...])
assert_type(sentences.filter(len).records(), Stream[bytes | None, Record])


def total(stream: KeyedStream[int, Query]) -> KeyedStream[int, int]:
    return stream.map_values(len).sum("total")


def passed_on(stream: Stream[int, Query]) -> None:
    stream.to("passed-on", value=queries)


assert_type(total(keyed), KeyedStream[int, int])
passed_on(keyed)

# State without a key.
sentences.count("n")  # type: ignore[attr-defined]
sentences.map_values(len).sum("n")  # type: ignore[attr-defined]
keyed.map(keyword).reduce("n", max)  # type: ignore[attr-defined]
keyed.flat_map(list).aggregate("n", list, collect, value=lists)  # type: ignore[attr-defined]
keyed.merge(keyed.map(lambda query: query)).count("n")  # type: ignore[attr-defined]
keyed.map(keyword).split(str.isalpha)[0].count("n")  # type: ignore[attr-defined]
keyed.map(keyword).repartition("again").count("n")  # type: ignore[attr-defined]
total(keyed.map(lambda query: query))  # type: ignore[arg-type]

# Words that are none, and what nobody outside should touch.
counts.to("word-counts", delivery="later")  # type: ignore[arg-type]
delivery: kstash.Delivery = "soon"  # type: ignore[assignment]
_ = counts.node  # type: ignore[attr-defined]
_ = app.add  # type: ignore[attr-defined]
_ = app.claim  # type: ignore[attr-defined]

# What must not type-check: `warn_unused_ignores` of strict mode fails when one does.
words.key_by(len, key=kstash.text)  # type: ignore[arg-type]
counts.to("word-counts", value=kstash.text)  # type: ignore[arg-type]
counts.to("word-counts", key=kstash.int_text)  # type: ignore[arg-type]
keyed.merge(sentences)  # type: ignore[arg-type]
keyed.aggregate("forgets", list, forgets, value=lists)  # type: ignore[arg-type]
app.run(until="tomorrow")  # type: ignore[arg-type]

app.run()
app.run(until="end")
description: str = app.topology().describe("mermaid")
configuration: kstash.Config = app.config


def handle(error: kstash.KstashError) -> Any:
    if isinstance(error, kstash.errors.OperatorError):
        return error.operator, error.record_index, error.cause, error.topic, error.offset
    if isinstance(error, kstash.errors.TopicMismatchError):
        return error.topic, error.setting, error.found, error.needed, error.fix
    return None


class Longest(kstash.Processor[int, Query, str]):
    kept = kstash.Value("kept", kstash.text)
    counts = kstash.Map("counts", key=kstash.text, value=kstash.int_text)
    items = kstash.List("items", queries)
    sides = ("odd",)

    def on_record(self, record: Record, context: kstash.Context[int, str]) -> None:
        assert_type(self.kept.get(), str | None)
        assert_type(self.kept.get(""), str)
        self.kept.set(record.value["keyword"])
        assert_type(self.counts.get("a"), int | None)
        for word, number in self.counts.items("a", "b"):
            assert_type(word, str)
            assert_type(number, int)
        for item in self.items:
            assert_type(item, Query)
        assert_type(context.key, int)
        context.send("result")
        context.send(None, timestamp_ms=5, headers=[])
        context.send(5, to="odd")
        context.send(5)  # type: ignore[call-overload]
        self.kept.set(5)  # type: ignore[arg-type]

    def on_timer(self, timer: kstash.FiredTimer, context: kstash.Context[int, str]) -> None:
        context.timer(timer.name, at=timer.at_ms + 1)


longest = keyed.process("longest", Longest, value=kstash.text)
assert_type(longest, KeyedStream[int, str])
assert_type(longest.side("odd", value=kstash.int_text), KeyedStream[int, int])
assert_type(
    keyed.process("own-keys", Longest(), value=kstash.text, key=kstash.text), Stream[str, str]
)
by_word.process("other-key", Longest, value=kstash.text)  # type: ignore[arg-type]


def paired(state: list[str], query: Query) -> tuple[list[str], list[int]]:
    return state, [len(query["keyword"])]


assert_type(
    keyed.with_state("paired", list, paired, state=lists, value=kstash.int_text),
    KeyedStream[int, int],
)
minute = timedelta(minutes=1)
assert_type(keyed.dedup("once", id=keyword, within=minute), KeyedStream[int, Query])
assert_type(keyed.throttle("few", at_most=5, within=minute), KeyedStream[int, Query])
assert_type(keyed.top("best", 3, by=keyword, id=keyword), KeyedStream[int, list[Query]])

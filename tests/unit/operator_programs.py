"""A small program for each kind of operator, under the name by which golden hashes know it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from operator import add
from typing import Any

import kstash
from kstash import App, KeyedStream, Stream
from kstash.topology.count_nodes import ByNumber
from tests.everything import Everything

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
TOTAL, LAST = kstash.folds.sum(), kstash.folds.last()

Texts = KeyedStream[Any, Any]

WINDOWS: dict[str, kstash.Windows] = {
    "tumbling": kstash.tumbling(MINUTE),
    "tumbling, offset": kstash.tumbling(MINUTE, offset=SECOND),
    "hopping": kstash.hopping(MINUTE, SECOND),
    # A place whose clocks have not changed since 1970: its days are those of every database.
    "daily": kstash.daily("Asia/Tokyo"),
    "session": kstash.session(SECOND),
    "sliding": kstash.sliding(SECOND),
    "tumbling_count": kstash.tumbling_count(2),
    "hopping_count": kstash.hopping_count(3, 2),
}


def counted(windows: kstash.Windows, **arguments: Any) -> Callable[[Texts], Stream[Any, Any]]:
    """The operator that counts the records of windows."""
    return lambda stream: stream.window(windows, **arguments).count("kept")


OPERATORS: dict[str, Callable[[Texts], Stream[Any, Any]]] = {
    "source, sink": lambda s: s,
    "map": lambda s: s.map(str.upper),
    "map_values": lambda s: s.map_values(str.upper),
    "flat_map": lambda s: s.flat_map(str.split),
    "flat_map_values": lambda s: s.flat_map_values(str.split),
    "filter": lambda s: s.filter(len),
    "filter_not": lambda s: s.filter_not(len),
    "peek": lambda s: s.peek(len),
    "records": lambda s: s.records(),
    "map_records": lambda s: s.map_records(lambda record: record),
    "map_records, key": lambda s: s.map_records(lambda record: record, key=kstash.int_text),
    "flat_map_records": lambda s: s.flat_map_records(lambda record: [record]),
    "merge": lambda s: s.merge(s.filter(len)),
    "split": lambda s: s.split(str.isupper, str.isdigit)[1],
    "key_by, narrow": lambda s: s.key_by(len, key=kstash.int_text),
    "key_by, wide": lambda s: s.key_by(len, key=kstash.int_text).count("kept"),
    "key_by, named": lambda s: s.key_by(len, key=kstash.int_text, name="edge").count("kept"),
    "repartition": lambda s: s.repartition("edge"),
    "inner_key": lambda s: s.window(kstash.tumbling(MINUTE)).count("kept").inner_key(),
    "count": lambda s: s.count("kept"),
    "sum": lambda s: s.sum("kept"),
    "sum, exact": lambda s: s.sum("kept", value=kstash.int_text),
    "reduce": lambda s: s.reduce("kept", add),
    "aggregate": lambda s: s.aggregate("kept", str, add, value=kstash.text),
    "aggregate_all": lambda s: s.aggregate_all("kept", total=TOTAL, last=LAST),
    "statistics": lambda s: s.statistics("kept"),
    "min": lambda s: s.min("kept"),
    "max": lambda s: s.max("kept"),
    "mean": lambda s: s.mean("kept"),
    "collect": lambda s: s.collect("kept"),
    "distinct": lambda s: s.distinct("kept"),
    "process": lambda s: s.process("kept", Everything, value=kstash.text),
    "process, key": lambda s: s.process("kept", Everything, value=kstash.text, key=kstash.int_text),
    "side": lambda s: s.process("kept", Everything, value=kstash.text).side("late"),
    "with_state": lambda s: s.with_state(
        "kept", list, lambda state, value: (state, [value]), state=kstash.json, value=kstash.text
    ),
    "dedup": lambda s: s.dedup("kept", id=len, within=SECOND),
    "throttle": lambda s: s.throttle("kept", at_most=2, within=SECOND),
    "top": lambda s: s.top("kept", 3, by=len),
    **{f"windows: {name}": counted(windows) for name, windows in WINDOWS.items()},
    **{
        f"windows: {name}, final": counted(windows, emit="final")
        for name, windows in WINDOWS.items()
        if not isinstance(windows, ByNumber)
    },
    "windows: grace": counted(kstash.tumbling(MINUTE), grace=SECOND),
    "windows: idle_timeout": counted(kstash.tumbling(MINUTE), emit="final", idle_timeout=SECOND),
    "windows: late": lambda s: s.window(kstash.tumbling(MINUTE)).count("kept").late(),
    "windows: sum": lambda s: s.window(kstash.tumbling(MINUTE)).sum("kept"),
    "windows: reduce": lambda s: s.window(kstash.tumbling(MINUTE)).reduce("kept", add),
    "windows: aggregate": lambda s: s.window(kstash.tumbling(MINUTE)).aggregate(
        "kept", str, add, value=kstash.text
    ),
    "windows: aggregate_all": lambda s: s.window(kstash.tumbling(MINUTE)).aggregate_all(
        "kept", total=TOTAL, last=LAST
    ),
    "windows: statistics": lambda s: s.window(kstash.tumbling(MINUTE)).statistics("kept"),
    "windows: min": lambda s: s.window(kstash.tumbling(MINUTE)).min("kept"),
    "windows: max": lambda s: s.window(kstash.tumbling(MINUTE)).max("kept"),
    "windows: mean": lambda s: s.window(kstash.tumbling(MINUTE)).mean("kept"),
    "windows: collect": lambda s: s.window(kstash.tumbling(MINUTE)).collect("kept"),
    "windows: tumbling, idle_timeout": lambda s: s.window(
        kstash.tumbling(SECOND), emit="final", idle_timeout=SECOND
    ).count("n"),
    "windows: session, every": lambda s: s.window(kstash.session(SECOND), every=SECOND).count("n"),
    "windows: sliding, both by the clock": lambda s: s.window(
        kstash.sliding(SECOND), idle_timeout=SECOND, every=SECOND
    ).count("n"),
    "windows: session, merge": lambda s: s.window(kstash.session(SECOND)).aggregate(
        "kept", str, add, value=kstash.text, merge=add
    ),
    "windows: sliding, values": lambda s: s.window(kstash.sliding(SECOND)).aggregate(
        "kept", str, add, value=kstash.text, values=kstash.text
    ),
}
"""What becomes of the records of a topic, all of which go to another one."""


def of_operator(name: str) -> App:
    """The program of one operator."""
    app = App("golden")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    OPERATORS[name](stream).to("out", key=kstash.text, value=kstash.json)
    return app


def of_source(event_time: Any = "records", **arguments: Any) -> Callable[[], App]:
    """A program that reads a topic in some way, and no more."""

    def build() -> App:
        app = App("golden", event_time=event_time)
        app.stream("in", key=kstash.text, value=kstash.text, **arguments).to("out")
        return app

    return build


def of_sink() -> App:
    """A program with a transactional sink."""
    app = App("golden")
    app.stream("in", key=kstash.text, value=kstash.text).to("out", delivery="transactional")
    return app


PROGRAMS: dict[str, Callable[[], App]] = {
    **{name: partial(of_operator, name) for name in OPERATORS},
    "source, immediate_of": of_source(immediate_of="upstream"),
    "source, timestamp": of_source(timestamp=len),
    "source, out_of_order": of_source(out_of_order=SECOND),
    "source, max_ahead": of_source(timestamp=len, max_ahead=SECOND),
    "source, watermark": of_source(event_time="watermark"),
    "sink, transactional": of_sink,
}
"""All programs, which are compiled anew at each call."""

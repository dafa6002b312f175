"""Golden values of what programs compile to: a lineage topic compares them between releases.

A release that changes one of them refuses to go on where the release before it stopped. Add to
them with a new operator; never change one.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

import kstash
from kstash import App
from kstash.apps.keyword_count import build as keyword_count
from kstash.apps.log_count import build as log_count
from kstash.apps.word_count import build as word_count
from kstash.topology.model import program_of
from kstash.topology.traits import ColumnSet


def every_operator(application_id: str = "golden") -> App:
    """A program with each operator in each of its forms."""
    app = App(application_id)
    texts = app.stream("texts", key=kstash.text, value=kstash.text)
    more = app.stream("more", "others", key=kstash.text, value=kstash.text)
    effects = app.stream("effects", value=kstash.json, immediate_of="upstream")
    effects.peek(print).records().peek(print)
    effects.flat_map(list).map(str).to("unkeyed", value=kstash.text, delivery="transactional")
    upper, digits, rest = texts.split(str.isupper, str.isdigit)
    kept = upper.map_values(str.lower).filter(len).filter_not(str.isspace).merge(rest)
    kept.flat_map_values(str.split).repartition("spread", value=kstash.text).to("spread-out")
    digits.key_by(len, key=kstash.int_text).to("lengths")
    words = texts.flat_map(str.split).key_by(lambda word: word, key=kstash.text)
    words.count("words").to("counts")
    named = texts.map_values(len).key_by(abs, key=kstash.int_text, value=kstash.json, name="sized")
    named.filter(bool).sum("total").to("totals")
    named.sum("exact", value=kstash.int_text)
    more.reduce("longest", max).to("longest")
    more.aggregate("seen", list, lambda seen, word: [*seen, word], value=kstash.json)
    return app


def distinct() -> App:
    """What came after the releases that know all others."""
    app = App("golden")
    pages = app.stream("visits", key=kstash.text, value=kstash.text).distinct("pages")
    pages.to("new-pages")
    return app


def event_times() -> App:
    """Sources that say what time their records have."""
    app = App("golden")
    second = timedelta(seconds=1)
    visits = app.stream("visits", timestamp=len, out_of_order=second, max_ahead=second)
    visits.merge(app.stream("more", out_of_order=second)).to("timed")
    return app


def shared_folds() -> App:
    """Several folds in one state, windows by number, and functions of records."""
    app = App("golden")
    numbers = app.stream("numbers", key=kstash.text, value=kstash.json)
    numbers.statistics("spread").to("spreads")
    numbers.aggregate_all("all", total=kstash.folds.sum(), last=kstash.folds.last()).to("totals")
    moved = numbers.map_records(lambda record: record.with_(timestamp_ms=1))
    moved.window(kstash.tumbling_count(2)).sum("pairs").to("pairs")
    moved.window(kstash.hopping_count(3, 2)).max("triples", value=kstash.json).to("triples")
    parts = numbers.flat_map_records(lambda record: [record], key=kstash.int_text)
    parts.to("parts", value=kstash.json)
    return app


PROGRAMS = {
    "word count": word_count,
    "log count": log_count,
    "keyword count": keyword_count,
    "every operator": every_operator,
    "distinct": distinct,
    "event times": event_times,
    "shared folds": shared_folds,
}


HASHES = {
    "word count": "093f1459400598e682d42ffff4b6fa6e325cbdf38bdfb11ac9549527c7438a49",
    "log count": "176a918cf16def892e6d7704b7f4e97c10ab94fa386d0238182320e5178a5ffb",
    "keyword count": "75fc8844675442e0cd22f705fba3ba6af7d135fff3a16eea364fb26b5c44c39c",
    "every operator": "59a907835ead0e0de7dac0f8e70ee8f6ef8aa0864348a35f0953e56ea9f7336a",
    "distinct": "df1156019c162d2f94e313424cccfe4086afd73401b0a77a027b0209e0413a0e",
    "event times": "adb1ee215ba0356cc5581991a8bdac4d1ff7f833f9a4f692a512ee38b4edebd9",
    "shared folds": "3bbab6a420fec584ce1b2f7bd6f746d399eeae657665fef51518497f75964d75",
}

STARTS = {
    "word count": "258950bd2a16f61a",
    "log count": "55ad64eb452a7cf7",
    "keyword count": "23ca88f12210fad6",
    "every operator": "9c8fa7291a8898e4",
    "distinct": "4b3771704d19d434",
    "event times": "46adac29042479a9",
    "shared folds": "da5c4b1ff21ac9d7",
}
"""Digests of what START says of the program."""

DRAWINGS = {
    "text": "ec41100be999b7d0",
    "mermaid": "8258f3a1df33f756",
    "dot": "df1c411e74de9ee9",
    "json": "671cd89d3f1f6fcf",
}
"""Digests of the drawings of `every_operator`."""

OPERATORS = [
    [
        "split(isupper, isdigit)",
        "branch(0)",
        "branch(1)",
        "branch(2)",
        "map_values(lower)",
        "filter(len)",
        "filter_not(isspace)",
        "merge",
        "flat_map_values(split)",
        "repartition(spread)",
        "key_by(len)",
        "flat_map(split)",
        "key_by(lambda)",
        "map_values(len)",
        "key_by(abs)",
    ],
    ["merge", "reduce(longest)", "aggregate(seen)"],
    ["peek(print)", "records", "peek(print)", "flat_map(list)", "map(str)"],
    [],
    ["count(words)"],
    ["filter(bool)", "sum(total)", "sum(exact)"],
]

STORES = [
    ("longest", "reduce text -> text"),
    ("seen", "aggregate text -> json"),
    ("words", "count text -> int_text"),
    ("total", "sum int_text -> number_text"),
    ("exact", "sum int_text -> int_text"),
]

KEY_READERS = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    9,
    11,
    12,
    14,
    15,
    16,
    17,
    18,
    19,
    20,
    22,
    25,
    26,
    29,
    30,
    31,
    34,
]

VALUE_READERS = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    9,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
    20,
    22,
    24,
    26,
    28,
    29,
    30,
    31,
    34,
]


def digest(text: str) -> str:
    """Its start."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_hash_of_a_program_stays(name: str) -> None:
    """A worker of another release takes the topology for the same one."""
    assert PROGRAMS[name]().topology().hash == HASHES[name]


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_start_says_of_a_program_stays(name: str) -> None:
    """Byte by byte, so that a comparison with the last generation finds no change."""
    topology = PROGRAMS[name]().topology()
    start = program_of(topology, "exactly_once", {"texts": 3}, {"texts": "id"})
    assert digest(start.encode()) == STARTS[name], start


def test_labels_and_kinds_of_stores_stay() -> None:
    """What START says of each operator and each store, in words."""
    stages = program_of(every_operator().topology()).stages
    assert [list(stage.operators) for stage in stages] == OPERATORS
    assert [store for stage in stages for store in stage.stores] == STORES


def test_columns_that_are_read_stay() -> None:
    """A wide edge ships no others, and a state that a new one needs would be missing in the log."""
    read = every_operator().topology().stages[0].read_after
    assert sorted(index for index in read if ColumnSet.KEY in read[index]) == KEY_READERS
    assert sorted(index for index in read if ColumnSet.VALUE in read[index]) == VALUE_READERS


@pytest.mark.parametrize("form", DRAWINGS)
def test_drawings_stay(form: str) -> None:
    """Of every operator, in each format."""
    drawing = every_operator().topology().describe(form)
    assert digest(drawing) == DRAWINGS[form], drawing

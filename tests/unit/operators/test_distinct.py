"""Each value of a key once."""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash import App
from kstash.errors import SerdeError, TopologyError
from kstash.testing import TestDriver
from kstash.topology.keyed_nodes import set_of


def visits() -> App:
    """Pages that a visitor sees for the first time."""
    app = App("visits")
    app.stream("visits", key=kstash.text, value=kstash.text).distinct("pages").to("new-pages")
    return app


def feed(driver: TestDriver, *values: str | None, key: str = "ann") -> list[tuple[Any, Any]]:
    """(Key, value) of what comes of values of a key."""
    for value in values:
        driver.send("visits", value, key=key)
    return [(record.key, record.value) for record in driver.read("new-pages")]


def test_a_value_passes_once_for_each_key() -> None:
    """Whatever came between; another key has values of its own."""
    with TestDriver(visits()) as driver:
        assert feed(driver, "a", "b", "a", "b", "c") == [("ann", v) for v in "abc"]
        assert feed(driver, "c", "a") == []
        assert feed(driver, "a", key="bob") == [("bob", "a")]
        assert driver.state("pages") == {"ann": {b"a", b"b", b"c"}, "bob": {b"a"}}


def test_what_was_seen_is_known_after_a_crash() -> None:
    """The state is that of before, and no value passes again."""
    with TestDriver(visits()) as driver:
        assert feed(driver, "a", None) == [("ann", "a"), ("ann", None)]
        driver.crash()
        driver.recover()
        assert feed(driver, None, "a", "b") == [("ann", "b")]


def test_values_are_equal_when_their_bytes_are() -> None:
    """So 1 and 1.0 are two under json, and the order of a mapping is none."""
    app = App("visits")
    app.stream("visits", key=kstash.text, value=kstash.json).distinct("pages").to("new-pages")
    with TestDriver(app) as driver:
        values: list[Any] = [1, 1.0, {"a": 1, "b": 2}, {"b": 2, "a": 1}, 1]
        for value in values:
            driver.send("visits", value, key="ann")
        made = [record.value for record in driver.read("new-pages")]
    assert made == [1, 1.0, {"a": 1, "b": 2}]


def test_records_pass_as_they_are() -> None:
    """With their time and headers."""
    with TestDriver(visits()) as driver:
        driver.send("visits", "a", key="ann", timestamp_ms=7, headers=[("h", b"1")])
        (record,) = driver.read("new-pages")
    assert (record.timestamp_ms, record.headers) == (7, [("h", b"1")])


def test_the_serde_of_values_must_be_known() -> None:
    """It is what they are compared by; a value that it refuses is an error at its record."""
    app = App("visits")
    stream = app.stream("visits", key=kstash.text, value=kstash.text).map_values(len)
    with pytest.raises(TopologyError, match=r"distinct.*their serde is not known here"):
        stream.distinct("lengths")
    wrong: Any = kstash.text
    stream.distinct("lengths", value=wrong).to("out")
    with TestDriver(app) as driver, pytest.raises(SerdeError, match="cannot serialize a value"):
        driver.send("visits", "a", key="ann")


def test_a_set_has_one_encoding() -> None:
    """Whatever order its values came in; None is one of them."""
    serde = set_of(kstash.text)
    assert serde.name == "set of text"
    letters: list[bytes | None] = [bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz"]
    assert kstash.msgpack.deserialize(serde.serialize({*letters, None})) == [None, *letters]
    assert serde.deserialize(serde.serialize({b"b", None})) == {b"b", None}

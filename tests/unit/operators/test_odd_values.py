"""Values that Python itself chokes on: each gives a typed error at its record, or passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash.errors import OperatorError, SerdeError
from kstash.escape import error_text, short_repr
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.serdes import Serde
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend

SERDES = [
    kstash.text,
    kstash.raw,
    kstash.int_text,
    kstash.float_text,
    kstash.number_text,
    kstash.json,
    kstash.msgpack,
]
"""All that kstash ships."""


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class Mute:
    """Neither its text nor its representation can be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class MuteError(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


VALUES: dict[str, Any] = {
    "4,301 digits": 10**4300,
    "-4,301 digits": -(10**4300),
    "65 bits": 1 << 64,
    "nested": nested(100_000),
    "surrogate": "\ud800",
    "nan": float("nan"),
    "infinity": float("inf"),
    "mute": Mute(),
    "digits within": [{"a": 10**4300}],
    "surrogate within": {"\udfff": ["\udfff"]},
    "long": "x" * 3_000_000,
}

BYTES: dict[str, bytes] = {
    "digits": b"9" * 4301,
    "digits within": b"[" + b"9" * 4301 + b"]",
    "nested": b"[" * 100_000,
    "nested msgpack": b"\x91" * 100_000,
    "length of msgpack": b"\xdd\xff\xff\xff\xff",
    "no utf-8": b"\xff",
    "surrogate": b"\xed\xa0\x80",
    "escaped surrogate": b'"\\ud800"',
    "nan": b"NaN",
    "1e999": b"1e999",
    "exponent": b"1e" + b"9" * 5000,
    "empty": b"",
    "nul": b"\x00",
}


Build = Callable[[kstash.KeyedStream[Any, Any], Serde[Any], Any], kstash.Stream[Any, Any]]

PLACES: dict[str, Build] = {
    "value": lambda stream, _, odd: stream.map_values(lambda __: odd),
    "key": lambda stream, serde, odd: stream.key_by(lambda _: odd, key=serde),
    "edge": lambda stream, serde, odd: (
        stream.map_values(lambda _: odd)
        .key_by(lambda _: "k", key=kstash.text, value=serde)
        .repartition("edge")
    ),
    "reduce": lambda stream, serde, odd: stream.map_values(lambda _: odd).reduce(
        "state", lambda _, new: new, value=serde
    ),
    "aggregate": lambda stream, serde, odd: stream.aggregate(
        "state", lambda: odd, lambda state, _: state, value=serde
    ),
    "sum": lambda stream, serde, odd: stream.map_values(lambda _: odd).sum("state", value=serde),
}


def check(app: kstash.App, *, value: bytes = b"x", key: bytes = b"k") -> None:
    """Let a stage process a good record and an odd one: they pass, or the error says which."""
    stage = app.topology().stages[0]
    state = MemoryBackend().task(stage.name, 0).open(stage.stores, base=None)
    error: OperatorError | SerdeError | None = None
    try:
        StageProgram(stage, state).process(0, Batch([key], [value], [1]))
    except (OperatorError, SerdeError) as caught:
        error = caught
    if error is not None:
        assert error.record_index == 0
        assert len(str(error).encode()) < 3_000


@pytest.mark.parametrize("serde", SERDES, ids=lambda serde: serde.name)
@pytest.mark.parametrize("place", PLACES)
def test_what_a_function_makes(place: str, serde: Serde[Any]) -> None:
    """As value, key, state, and on the way to a state: an error at its record, or a result."""
    for odd in VALUES.values():
        app = kstash.App("odd")
        stream = app.stream("in", key=kstash.text, value=kstash.raw)
        made = PLACES[place](stream, serde, odd)
        made.to("out", value=kstash.raw if place == "key" else serde)
        check(app)


@pytest.mark.parametrize("serde", SERDES, ids=lambda serde: serde.name)
def test_what_a_topic_holds(serde: Serde[Any]) -> None:
    """As key and value of an input: an error at its record, or a result."""
    for odd in BYTES.values():
        app = kstash.App("odd")
        stream = app.stream("in", key=kstash.text, value=serde)
        stream.map_values(lambda v: v).to("out", value=serde)
        check(app, value=odd)
        app = kstash.App("odd")
        app.stream("in", key=serde, value=kstash.raw).count("n").to("out", value=kstash.int_text)
        check(app, key=odd)


@pytest.mark.parametrize(
    "error",
    [MuteError(), KeyError(10**4300), ValueError("\ud800"), ValueError("x" * 10**7)],
    ids=["mute", "digits", "surrogate", "long"],
)
def test_errors_of_a_users_function(error: Exception) -> None:
    """They are reported with the place, whatever their text does."""
    app = kstash.App("odd")

    def fail(_: bytes) -> bytes:
        raise error

    app.stream("in").map_values(fail).to("out", value=kstash.raw)
    with TestDriver(app) as driver, pytest.raises(OperatorError) as caught:
        driver.send_raw("in", b"x")
    assert caught.value.skip == "in/0/0"
    assert len(str(caught.value).encode()) < 3_000


def test_what_errors_show() -> None:
    """Texts are cut, and what has none says so."""
    assert error_text(MuteError()) == "MuteError: (its text cannot be had: RuntimeError)"
    assert error_text(ValueError("x" * 3_000)) == f"ValueError: {'x' * 2_000}..."
    assert short_repr(Mute()) == "a value of type Mute"
    assert short_repr(10**4300) == "a value of type int"
    assert short_repr(b"k" * 100) == f"b'{'k' * 78}..."
    assert short_repr("\ud800") == "'\\ud800'"


def test_many_integers_of_which_one_is_too_long() -> None:
    """They are written all at once: the one that fails is found."""
    app = kstash.App("odd")
    app.stream("in").map_values(lambda v: 10 ** int(v)).to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        driver.crash()
        for digits in (1, 2, 3, 4, 5, 4300, 6):
            driver.send_raw("in", b"%d" % digits)
        with pytest.raises(SerdeError, match="4300 digits") as caught:
            driver.recover()
    assert (caught.value.topic, caught.value.offset) == ("in", 5)

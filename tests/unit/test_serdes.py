"""Serdes: exact bytes, round trips, and refusal of what is not theirs."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import Serde
from kstash.errors import SerdeError
from kstash.operators.columns import serialize_column

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("serde", "value", "data"),
    [
        (kstash.text, "häuser", b"h\xc3\xa4user"),
        (kstash.raw, b"\x00\xff", b"\x00\xff"),
        (kstash.int_text, -42, b"-42"),
        (kstash.int_text, 2**80, b"1208925819614629174706176"),
        (kstash.float_text, 0.1, b"0.1"),
        (kstash.float_text, 3, b"3.0"),
        (kstash.float_text, -0.0, b"-0.0"),
        (kstash.number_text, 3, b"3"),
        (kstash.number_text, 3.0, b"3.0"),
        (kstash.json, {"b": 1, "a": [True, None]}, b'{"a":[true,null],"b":1}'),
        (kstash.msgpack, {"b": 1, "a": 2}, b"\x82\xa1a\x02\xa1b\x01"),
    ],
)
def test_the_bytes_are_these(serde: Serde[Any], value: Any, data: bytes) -> None:
    """Each serde writes exactly these bytes, in an order that does not depend on insertion."""
    assert serde.serialize(value) == data
    assert serde.deserialize(data) == value


@given(st.text())
def test_text_comes_back(value: str) -> None:
    """Any text without lone surrogates comes back."""
    assert kstash.text.deserialize(kstash.text.serialize(value)) == value


@given(st.integers())
def test_integers_of_any_size_come_back(value: int) -> None:
    """Integers come back through all serdes for numbers as integers."""
    for serde in (kstash.int_text, kstash.number_text):
        back = serde.deserialize(serde.serialize(value))
        assert (back, type(back)) == (value, int)


@given(st.floats())
def test_floats_come_back_as_they_were(value: float) -> None:
    """Floats come back bit for bit, infinities and the sign of zero included."""
    for serde in (kstash.float_text, kstash.number_text):
        back = serde.deserialize(serde.serialize(value))
        assert isinstance(back, float)
        assert math.isnan(back) if math.isnan(value) else str(back) == str(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_it_has_no_word_for(value: float) -> None:
    """Not a number and infinities, however deep, beside None and integers of any size."""
    for inside in (value, [None, value], {"a": {"b": (1, value)}}, [2**70, value], {value}):
        with pytest.raises(ValueError, match="use msgpack"):
            kstash.json.serialize(inside)
    look_alike = {"text": "\xcb\x7f\xf0", "bytes": b"\xcb\x7f\xf0", "none": None}
    assert b"null" in kstash.json.serialize(look_alike)
    assert kstash.json.serialize([2**70, None]) == b"[1180591620717411303424,null]"
    back = kstash.msgpack.deserialize(kstash.msgpack.serialize([value]))
    assert str(back) == str([value])


@pytest.mark.parametrize("serde", [kstash.int_text, kstash.number_text, kstash.json])
def test_an_integer_of_too_many_digits_is_no_infinity(serde: Serde[Any]) -> None:
    """Python's limit of 4,300 digits is an error in both directions."""
    with pytest.raises(ValueError, match="4300 digits"):
        serde.serialize(10**5000)
    with pytest.raises((ValueError, msgspec.DecodeError)):
        serde.deserialize(b"-" + b"1" * 5000)


@given(JSON_VALUES)
def test_json_and_msgpack_come_back_and_are_deterministic(value: Any) -> None:
    """Equal values give equal bytes, and come back."""
    for serde in (kstash.json, kstash.msgpack):
        data = serde.serialize(value)
        assert serde.deserialize(data) == value
        assert serde.serialize(serde.deserialize(data)) == data


@pytest.mark.parametrize(
    ("serde", "value"),
    [
        (kstash.text, 1),
        (kstash.text, b"bytes"),
        (kstash.raw, "text"),
        (kstash.raw, bytearray(b"x")),
        (kstash.int_text, 1.5),
        (kstash.int_text, "1"),
        (kstash.float_text, "1.5"),
        (kstash.number_text, "1"),
        (kstash.json, object()),
        (kstash.msgpack, object()),
    ],
)
def test_a_value_of_another_type_is_refused(serde: Serde[Any], value: Any) -> None:
    """Nothing is converted silently: a serde takes values of its own type only."""
    with pytest.raises(TypeError):
        serde.serialize(value)


@pytest.mark.parametrize(
    ("serde", "good", "value", "message"),
    [
        (kstash.text, "a", 5, "text takes str, not int"),
        (kstash.raw, b"a", "5", "raw takes bytes, not str"),
        (kstash.int_text, 1, "5", "int_text takes int, not str"),
        (kstash.int_text, 1, 5.0, "int_text takes int, not float"),
        (kstash.float_text, 1.0, "5", "float_text takes float or int, not str"),
        (kstash.number_text, 1, "5", "number_text takes int and float, not str"),
    ],
)
def test_a_refusal_names_both_types(serde: Serde[Any], good: Any, value: Any, message: str) -> None:
    """Alone, and in a column where it stands beside others."""
    with pytest.raises(TypeError, match=message):
        serde.serialize(value)

    def refuse(error: SerdeError) -> NoReturn:
        raise error

    with pytest.raises(SerdeError, match=message) as caught:
        serialize_column(serde, [good, value], operator="to", field="value", refuse=refuse)
    assert caught.value.record_index == 1


def test_what_json_changes() -> None:
    """Bytes come back as text, sets and tuples as lists; the guide says so."""
    for serde, text in ((kstash.json, "e30="), (kstash.msgpack, b"{}")):
        given: list[Any] = [b"{}", (1, 2), {1}]
        assert [serde.deserialize(serde.serialize(value)) for value in given] == [text, [1, 2], [1]]


@pytest.mark.parametrize(
    ("serde", "data"),
    [
        (kstash.text, b"\xff"),
        (kstash.int_text, b"1.5"),
        (kstash.float_text, b"one"),
        (kstash.number_text, b""),
        (kstash.json, b"{"),
        (kstash.msgpack, b""),
    ],
)
def test_foreign_bytes_are_refused(serde: Serde[Any], data: bytes) -> None:
    """Bytes of another format raise instead of giving a value."""
    with pytest.raises((ValueError, msgspec.DecodeError)):
        serde.deserialize(data)


def test_a_custom_serde_is_a_name_and_two_functions() -> None:
    """A user's serde is made of its functions and shown by its name."""
    upper = Serde("upper", lambda value: value.upper().encode(), lambda data: data.decode().lower())
    assert upper.deserialize(upper.serialize("kafka")) == "kafka"
    assert repr(upper) == "Serde('upper')"


def test_a_sum_of_what_is_no_number() -> None:
    """What the serde of `sum` does not take is named, and what takes it; no arithmetic of ours."""
    with pytest.raises(TypeError, match="int and float, not Decimal: use aggregate"):
        kstash.number_text.serialize(Decimal("1.5"))


def test_windowed_keys_have_the_bytes_of_kafka_streams() -> None:
    """Key and start, 8 bytes big-endian; the size says the end, and another one is refused."""
    serde = kstash.windowed(kstash.text, timedelta(seconds=10))
    window = kstash.Windowed("ab", 258, 10_258)
    assert serde.serialize(window) == b"ab\0\0\0\0\0\0\x01\x02"
    assert serde.deserialize(b"ab\0\0\0\0\0\0\x01\x02") == window
    assert serde.partitioned_by is not None
    assert serde.partitioned_by(serde.serialize(window)) == b"ab"
    assert serde == kstash.windowed(kstash.text, timedelta(seconds=10))
    twice = kstash.windowed(serde, timedelta(seconds=60))
    both = kstash.Windowed(window, 0, 60_000)
    assert twice.deserialize(twice.serialize(both)) == both
    assert twice.partitioned_by is not None
    assert twice.partitioned_by(twice.serialize(both)) == b"ab"
    with pytest.raises(ValueError, match="10000 ms"):
        serde.serialize(kstash.Windowed("ab", 0, 5))
    with pytest.raises(TypeError, match="takes Windowed, not str"):
        serde.serialize("ab")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no room for the start"):
        serde.deserialize(b"abc")

"""What makes a serde fast: any serde may say it, and no result depends on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import kstash
from kstash import App, Serde
from kstash.errors import SerdeError
from kstash.operators.batch import Batch
from kstash.operators.columns import deserialize_column, serialize_column
from kstash.operators.program import StageProgram
from kstash.testing.state import MemoryBackend


def refuse(error: Exception) -> None:
    """No record is skipped."""
    raise error


def encoded(serde: Serde[Any], column: list[Any]) -> list[Any]:
    """A column as bytes."""
    return serialize_column(serde, column, operator="o", field="value", refuse=refuse)[0]


def decoded(serde: Serde[Any], column: list[Any]) -> list[Any]:
    """Bytes as a column."""
    return deserialize_column(serde, column, operator="o", field="value", refuse=refuse)[0]


class Calls:
    """A serde of capital letters that notes how it was called."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.serde: Serde[str] = Serde(
            "capitals",
            self.one,
            self.back,
            exact_types=frozenset({str}),
            encode_column=self.many,
            decode_column=self.many_back,
        )

    def one(self, value: str) -> bytes:
        """Serialize."""
        self.notes.append("one")
        return value.upper().encode()

    def back(self, data: bytes) -> str:
        """Deserialize."""
        self.notes.append("back")
        return data.decode()

    def many(self, values: list[str]) -> list[bytes]:
        """Serialize many."""
        self.notes.append("many")
        return [value.upper().encode() for value in values if value != "lost"]

    def many_back(self, column: list[bytes]) -> list[str]:
        """Deserialize many."""
        self.notes.append("many back")
        return [data.decode() for data in column if data != b"LOST"]


def test_columns_are_converted_at_once_where_a_serde_can() -> None:
    """None stays None and is not given to it."""
    calls = Calls()
    assert encoded(calls.serde, ["a", None, "b"]) == [b"A", None, b"B"]
    assert encoded(calls.serde, ["a"]) == [b"A"]
    assert decoded(calls.serde, [b"A", None]) == ["A", None]
    assert decoded(calls.serde, [b"A", b"B"]) == ["A", "B"]
    assert calls.notes == ["many", "many", "many back", "many back"]


@pytest.mark.parametrize("others", [[], [None]])
def test_a_column_of_another_length_is_converted_one_by_one(others: list[Any]) -> None:
    """What counts is what the serde makes of each."""
    calls = Calls()
    assert encoded(calls.serde, ["a", "lost", *others]) == [b"A", b"LOST", *others]
    assert decoded(calls.serde, [b"A", b"LOST", *others]) == ["A", "LOST", *others]
    assert calls.notes == ["many", "one", "one", "many back", "back", "back"]


def test_a_column_that_fails_names_its_record() -> None:
    """Values of other types than the exact ones do not even reach it."""
    calls = Calls()
    with pytest.raises(SerdeError) as caught:
        encoded(calls.serde, ["a", "b", 1])
    assert caught.value.record_index == 2
    assert calls.notes == ["one", "one", "one"]
    with pytest.raises(SerdeError) as caught:
        decoded(calls.serde, [b"A", b"\xff"])
    assert caught.value.record_index == 1


def test_exact_types_are_not_read_back() -> None:
    """A state of such a type is serialized once a batch, to find what cannot be kept."""

    def fold(serde: Serde[Any]) -> list[str]:
        app = App("app")
        stream = app.stream("in", key=kstash.text, value=kstash.text)
        stream.reduce("r", lambda old, new: old + new, value=serde)
        (stage,) = app.topology().stages
        state = MemoryBackend().task(stage.name, 0).open(stage.stores, base=None)
        calls.notes.clear()
        StageProgram(stage, state).process(0, Batch([b"k", b"k"], [b"a", b"b"], [1, 2]))
        return calls.notes

    calls = Calls()
    assert fold(calls.serde) == ["many"]
    assert fold(replace(calls.serde, check_column=str)) == []
    plain = replace(calls.serde, exact_types=frozenset(), encode_column=None)
    assert fold(plain) == ["one", "back", "one"] * 2
    assert fold(replace(plain, is_steady=True)) == ["one", "back"] * 2


def test_bytes_that_pass_are_given_to_nobody() -> None:
    """As `raw` does; a value of another type is still an error of the serde."""
    calls = Calls()
    passing = replace(calls.serde, passes_bytes=True)
    column = [b"a", None]
    assert decoded(passing, column) is column
    assert encoded(passing, column) is column
    assert calls.notes == []
    with pytest.raises(SerdeError, match="raw takes bytes, not str"):
        encoded(kstash.raw, ["a"])


def test_what_makes_it_fast_is_no_part_of_a_serde() -> None:
    """Streams of equal names and functions have the same keys."""
    assert Serde("text", kstash.text.serialize, bytes.decode) == kstash.text

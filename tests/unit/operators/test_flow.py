"""Flows: columns that are carried together, and of which input record each record was made."""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash.errors import SerdeError
from kstash.operators.flow import Flow, merge_flows


def flow(*values: str, keys: list[bytes | None] | None = None) -> Flow:
    """A stage's input batch under encoded text keys, timestamps from 100."""
    encoded: list[bytes | None] = keys or [value.encode() for value in values]
    times = list(range(100, 100 + len(values)))
    return Flow(len(values), None, encoded, kstash.text, list(values), times, None)


def some(made: Flow | None) -> Flow:
    """A flow that has records."""
    assert made is not None
    return made


def test_a_record_of_an_input_is_its_own_origin() -> None:
    """The stage's batch itself, with other values too."""
    batch = flow("a", "b", "c").with_values([1, 2, 3])
    assert [batch.origin_of(index) for index in range(3)] == [0, 1, 2]
    assert list(batch.origins()) == [0, 1, 2]


def test_origins_are_walked_back_through_any_steps() -> None:
    """Records that were dropped count, and those that were made of one have one origin."""
    batch = some(flow("a", "b", "c", "d").select([0, 1, "", 1]))
    assert list(batch.origins()) == [1, 3]
    batch = some(batch.expand([1, 2, 3, 4, 5], [2, 3], with_keys=True))
    assert list(batch.origins()) == [1, 1, 3, 3, 3]
    batch = some(batch.with_values(list("vwxyz")).select([0, 1, 1, 0, 1]))
    assert list(batch.origins()) == [1, 3, 3]
    assert [batch.origin_of(index) for index in range(3)] == [1, 3, 3]
    assert (batch.values, batch.timestamps) == (["w", "x", "z"], [101, 103, 103])


def test_a_selection_of_everything_is_the_same_flow() -> None:
    """Nothing is copied, and there is one step less to walk back."""
    batch = flow("a", "b")
    assert batch.select([True, 1]) is batch
    assert batch.select([0, None]) is None
    assert batch.expand([], [0, 0], with_keys=True) is None


def test_merged_flows_are_in_the_order_of_their_origins() -> None:
    """What came of one record stays together, the part of an earlier flow first."""
    batch = flow("a", "b", "c")
    left = some(some(batch.select([1, 0, 1])).expand(["a1", "a2", "c1"], [2, 1], with_keys=True))
    merged = merge_flows([left, batch], "merge", with_keys=True, with_values=True)
    assert merged.values == ["a1", "a2", "a", "b", "c1", "c"]
    assert merged.encoded == [b"a", b"a", b"a", b"b", b"c", b"c"]
    assert list(merged.origins()) == [0, 0, 0, 1, 2, 2]
    again = some(merged.select([0, 0, 0, 1, 0, 1]))
    assert [again.origin_of(index) for index in range(2)] == [1, 2]


def test_a_key_that_does_not_decode_in_a_merge_names_its_origin() -> None:
    """Each of the merged flows counts its own records; the error counts those of the input."""
    batch = flow("a", "b", "c", keys=[b"a", b"b", b"\xff"])
    keyed: Any = Flow(3, [1, 2, 3], None, kstash.int_text, batch.values, batch.timestamps, None)
    with pytest.raises(SerdeError) as caught:
        merge_flows([keyed, some(batch.select([0, 1, 1]))], "m", with_keys=True, with_values=True)
    assert caught.value.record_index == 2

"""Flows: columns that are carried together, and of which input record each record was made."""

from __future__ import annotations

import kstash
from kstash.operators.flow import Flow, merge_flows
from kstash.topology.traits import ColumnSet


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
    batch = batch.expand([1, 2, 3, 4, 5], [2, 3], with_keys=True)
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


def test_merged_flows_are_in_the_order_of_their_origins() -> None:
    """What came of one record stays together, the part of an earlier flow first."""
    batch = flow("a", "b", "c")
    left = some(batch.select([1, 0, 1])).expand(["a1", "a2", "c1"], [2, 1], with_keys=True)
    merged = merge_flows([left, batch], ColumnSet.ALL)
    assert merged.values == ["a1", "a2", "a", "b", "c1", "c"]
    assert merged.encoded == [b"a", b"a", b"a", b"b", b"c", b"c"]
    assert list(merged.origins()) == [0, 0, 0, 1, 2, 2]
    again = some(merged.select([0, 0, 0, 1, 0, 1]))
    assert [again.origin_of(index) for index in range(2)] == [1, 2]


def test_parts_know_where_they_begin() -> None:
    """A part of a flow has its columns and its origins from there on; the whole is itself."""
    batch = some(flow("a", "b", "c", "d").select([0, 1, 1, 1]))
    part = batch.part(1, 3)
    assert (part.values, part.encoded, part.timestamps) == (["c", "d"], [b"c", b"d"], [102, 103])
    assert list(part.origins()) == [2, 3]
    assert batch.part(0, 3) is batch


def test_a_merge_makes_no_column_that_nobody_looks_at() -> None:
    """Nor one that only some of the flows have."""
    batch = flow("a", "b")
    merged = merge_flows([batch, batch], ColumnSet.TIME)
    assert (merged.encoded, merged.values, merged.timestamps) == (None, None, [100, 100, 101, 101])


def test_times_are_the_timestamps_unless_said_otherwise() -> None:
    """Every way to make a flow of another one carries the times of its records along."""
    batch = flow("a", "b", "c")
    assert batch.times == [100, 101, 102]
    late = batch.with_times([5, 6, 7], [1, 2, 3])
    assert (late.timestamps, late.times, late.values) == ([5, 6, 7], [1, 2, 3], ["a", "b", "c"])
    assert late.with_times([8, 9, 9]).times == [8, 9, 9]
    assert late.with_values([1, 2, 3]).times == late.with_keys([1, 2, 3], kstash.text).times
    assert late.with_values([1, 2, 3]).times == [1, 2, 3]
    assert some(late.select([1, 0, 1])).times == [1, 3]
    assert late.part(1, 3).times == [2, 3]
    assert late.expand(["x"] * 3, [2, 0, 1], with_keys=True).times == [1, 1, 3]


def test_merged_flows_have_the_times_of_both() -> None:
    """Also where only one of them has times beside its timestamps."""
    batch = flow("a", "b")
    merged = merge_flows([batch, batch.with_times([1, 2], [0, 1])], ColumnSet.TIME)
    assert (merged.timestamps, merged.times) == ([100, 1, 101, 2], [100, 0, 101, 1])
    assert merge_flows([batch, batch], ColumnSet.TIME).event_times is None
    late = batch.with_times([1, 2], [0, 1])
    assert merge_flows([batch, late], ColumnSet.VALUE).event_times is None

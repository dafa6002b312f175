"""Hashes of what a task makes. Source: protocol, section 6 step 7 (H44)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstash.core.hashes import HashMarks, OutputHasher, OutputHashes

NOTHING = OutputHashes(0, 0, {})

Row = tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]] | None]

ROW: st.SearchStrategy[Row] = st.tuples(
    st.none() | st.binary(max_size=3),
    st.none() | st.binary(max_size=3),
    st.integers(-1, 2**62),
    st.none() | st.lists(st.tuples(st.text(max_size=2), st.none() | st.binary(max_size=2))),
)


def add(hasher: OutputHasher, rows: list[Row], output: int = 0) -> None:
    """Add rows as one batch, without a headers column when none has any."""
    headers = [row[3] for row in rows]
    hasher.add(
        output,
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        headers if any(headers) else None,
    )


def hashes(*batches: list[Row]) -> OutputHashes:
    """The hashes of batches of one output."""
    hasher = OutputHasher(NOTHING)
    for batch in batches:
        add(hasher, batch)
    return hasher.at(5)


@given(st.lists(ROW, min_size=1, max_size=8), st.data())
def test_h44_hashes_do_not_depend_on_batches(rows: list[Row], data: st.DataObject) -> None:
    """H44: a replay's batches end elsewhere."""
    cut = data.draw(st.integers(0, len(rows)))
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    assert hashes(*parts) == hashes(rows)


@given(st.lists(ROW, min_size=1, max_size=4), st.lists(ROW, min_size=1, max_size=4))
def test_h44_a_hasher_goes_on_from_a_base(first: list[Row], second: list[Row]) -> None:
    """H44: a CKPT holds the hashes at its position."""
    later = OutputHasher(hashes(first))
    add(later, second)
    assert later.at(7).outputs == hashes(first, second).outputs


BASE: Row = (b"k", b"v", 7, [("h", b"x")])


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ((b"l", b"v", 7, [("h", b"x")]), "keys"),
        ((None, b"v", 7, [("h", b"x")]), "keys"),
        ((b"k", b"w", 7, [("h", b"x")]), "values"),
        ((b"k", None, 7, [("h", b"x")]), "values"),
        ((b"k", b"v", 8, [("h", b"x")]), "timestamps"),
        ((b"k", b"v", 7, [("h", None)]), "headers"),
        ((b"k", b"v", 7, [("i", b"x")]), "headers"),
        ((b"k", b"v", 7, None), "headers"),
    ],
)
def test_h44_each_column_counts(row: Row, column: str) -> None:
    """H44: key, value, timestamp and user headers; the column that differs is told."""
    assert hashes([row]).differences(hashes([BASE])) == {0: [column]}


def test_h44_order_and_number_count() -> None:
    """H44: of one output; that of several outputs among each other is not fixed."""
    one: Row = (b"a", b"1", 1, None)
    two: Row = (b"b", b"2", 2, None)
    columns = ["keys", "values", "timestamps"]
    assert hashes([one, two]).differences(hashes([two, one])) == {0: columns}
    assert hashes([one, one]).differences(hashes([one])) == {0: [*columns, "number"]}
    hasher = OutputHasher(NOTHING)
    add(hasher, [one], output=1)
    add(hasher, [one], output=0)
    assert hasher.at(5).differences(hashes([one])) == {1: [*columns, "number"]}


def row(key: bytes | None, timestamp: int, *names: str) -> Row:
    """A record with a key and empty headers."""
    return key, b"v", timestamp, [(name, b"") for name in names]


@pytest.mark.parametrize(
    ("one", "other", "column"),
    [
        ([row(b"k", 1), row(b"k", 2)], [row(b"k", 2), row(b"k", 1)], "timestamps"),
        ([row(b"k", 1, "h"), row(b"k", 1)], [row(b"k", 1), row(b"k", 1, "h")], "headers"),
        ([row(b"k", 1, "h", "i")], [row(b"k", 1, "hi")], "headers"),
        ([row(b"a", 1), row(b"bc", 1)], [row(b"ab", 1), row(b"c", 1)], "keys"),
        ([row(b"", 1), row(b"a", 1)], [row(b"a", 1), row(b"", 1)], "keys"),
        ([row(b"", 1)], [row(None, 1)], "keys"),
        ([row(b"a\x00b", 1), row(b"c", 1)], [row(b"a", 1), row(b"b\x00c", 1)], "keys"),
    ],
)
def test_h44_nothing_moves_between_records(one: list[Row], other: list[Row], column: str) -> None:
    """H44: two timestamps that are exchanged, a header or a byte that is on the next record."""
    assert hashes(one).differences(hashes(other)) == {0: [column]}


def test_h44_values_that_a_topic_does_not_keep_do_not_count() -> None:
    """H44: some internal topics carry keys only."""
    hasher = OutputHasher(NOTHING)
    hasher.add(0, [b"k"], None, [7], None)
    assert hasher.at(1).outputs[0][1] == 0


def test_marks_that_are_stable_say_what_those_before_say() -> None:
    """The newest stable mark is kept, and all that are not stable; positions rise."""
    marks = HashMarks(OutputHashes(2, 2, {}))
    for position in (3, 5, 8):
        marks.note(0, [b"k"], [b"v"], [1], None)
        marks.mark(position, stable=0)
    assert marks.newest(2) is None
    at = marks.newest(7)
    assert at is not None
    assert (at.since, at.position, at.outputs[0][4]) == (2, 5, 2)
    assert marks.newest(4) is None, "the mark at 3 says nothing that the one at 5 does not"
    assert marks.newest(8) == marks.at(8)
    with pytest.raises(AssertionError, match="out of order"):
        marks.mark(8, stable=8)

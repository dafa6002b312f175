"""Golden vectors of frames, and frames that are not whole.

Source: docs/internals/wire-format.md, section 2.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kstash.core.frames import Columns, RecordHeaders, decode_frame, encode_frame
from kstash.errors import WireCorruptError

DOCUMENT = Path(__file__).parents[3] / "docs/internals/wire-format.md"

WITHOUT_VALUES = "0104020000000200000002000000746f62650500000000000000"
FULL = (
    "01030200000001000000ffffffff61000000000300000078797a01000000000000000200000000000000ffffffff"
    "1300000001000000680100000076010000006effffffff"
)
TIMED = (
    "0118030000000100000001000000ffffffff616209000000000000000900000000000000b004000000000000"
    "0500000000000000020000ab0404"
)


def test_a_frame_without_values() -> None:
    """Two keys, no value column, one timestamp for all: what a count after a key_by ships."""
    assert encode_frame([b"to", b"be"], None, [5, 5], None).hex() == WITHOUT_VALUES
    columns = decode_frame(bytes.fromhex(WITHOUT_VALUES), 2)
    assert columns == Columns([b"to", b"be"], [None, None], [5, 5], None)


def test_a_full_frame() -> None:
    """A null key, an empty value, two timestamps, user headers with a null value."""
    keys: list[bytes | None] = [b"a", None]
    values: list[bytes | None] = [b"", b"xyz"]
    headers: list[RecordHeaders | None] = [None, [("h", b"v"), ("n", None)]]
    assert encode_frame(keys, values, [1, 2], headers).hex() == FULL
    assert decode_frame(bytes.fromhex(FULL), 2) == Columns(keys, values, [1, 2], headers)
    assert FULL in "".join(DOCUMENT.read_text().split())


def test_null_and_empty_are_two_things() -> None:
    """A null value is a deletion, an empty one is not."""
    data = encode_frame([None, b""], [b"", None], [0, 0], None)
    assert decode_frame(data, 2) == Columns([None, b""], [b"", None], [0, 0], None)


def test_headers_of_nobody_cost_nothing() -> None:
    """Empty header lists are no headers: the column is left out."""
    assert encode_frame([b"k"], [b"v"], [0], [[]]) == encode_frame([b"k"], [b"v"], [0], None)


def test_headers_repeat_and_keep_their_order() -> None:
    """Kafka allows a name twice."""
    headers: list[RecordHeaders | None] = [
        [("x", b"1"), ("x", b"2"), ("ü", b"")],
        None,
    ]
    data = encode_frame([b"k", b"l"], None, [0, 0], headers)
    assert decode_frame(data, 2).headers == headers


def test_negative_timestamps() -> None:
    """Kafka's -1 (no timestamp) and times before 1970 pass."""
    data = encode_frame([b"k", b"l"], None, [-1, -(2**63)], None)
    assert decode_frame(data, 2).timestamps == [-1, -(2**63)]


def test_a_frame_with_event_times() -> None:
    """Watermark mode: the writer's time at each record, and a record that says nothing else."""
    keys: list[bytes | None] = [b"a", b"b", None]
    data = encode_frame(keys, None, [9, 9, 1200], None, [5, 5, 1200], [2])
    assert data.hex() == TIMED
    columns = Columns(keys, [None] * 3, [9, 9, 1200], None, [5, 5, 1200], (2,))
    assert decode_frame(data, 3) == columns
    assert TIMED in "".join(DOCUMENT.read_text().split())


@pytest.mark.parametrize("step", [0, 1, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**62])
def test_event_times_take_as_many_bytes_as_their_steps_need(step: int) -> None:
    """None where all are equal; and what was never heard of has a time too."""
    times = [-(2**62), -(2**62) + step, -(2**62) + step]
    data = encode_frame([b"k"] * 3, None, [0] * 3, None, times)
    assert decode_frame(data, 3).times == times
    width = next((w for w in (1, 2, 4, 8) if step < 1 << 8 * w), 8) if step else 0
    assert len(data) == len(encode_frame([b"k"] * 3, None, [0] * 3, None)) + 9 + 2 * width


def test_times_that_fall_are_no_frame() -> None:
    """Times of a writer rise: who gives others has not asked `SaidTimes`."""
    with pytest.raises(OverflowError):
        encode_frame([b"k"] * 3, None, [0] * 3, None, [5, 4, 6])


def test_a_large_frame() -> None:
    """Ten thousand records come back as they were."""
    keys: list[bytes | None] = [b"%d" % i for i in range(10_000)]
    times = list(range(10_000))
    assert decode_frame(encode_frame(keys, keys, times, None), 10_000) == Columns(
        keys, keys, times, None
    )


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (None, 1),
        (b"", 1),
        (bytes.fromhex(FULL), 1),
        (bytes.fromhex(FULL), 3),
        (b"\x02" + bytes.fromhex(FULL)[1:], 2),
        (b"\x01\x23" + bytes.fromhex(FULL)[2:], 2),
        (bytes.fromhex(FULL) + b"\0", 2),
        (b"\x01\x00\xff\xff\xff\xff", 2**32 - 1),
        (bytes.fromhex(FULL).replace(b"\x13", b"\x12"), 2),
        (bytes.fromhex(TIMED).replace(b"\x02\x00\x00", b"\x03\x00\x00"), 3),
        (bytes.fromhex(TIMED)[:-1] + b"\x08", 3),
        (bytes.fromhex(TIMED)[:-1] + b"\x00", 3),
        (b"\x01\x10" + bytes.fromhex(TIMED)[2:44] + b"\x04", 3),
        (encode_frame([b"k"] * 2, None, [0] * 2, None, [2**62, 2**62 + 2**61])[:-1] + b"\xff", 2),
    ],
    ids=[
        "null value",
        "empty",
        "count below",
        "count above",
        "version",
        "unknown flag",
        "bytes left over",
        "count beyond the bytes",
        "header column cut",
        "unknown steps",
        "control bit of no record",
        "no control record",
        "control records without times",
        "times above 64 bits",
    ],
)
def test_corrupt_frame(data: bytes | None, count: int) -> None:
    """What is not whole, or not what its identity says, is refused before memory is taken."""
    with pytest.raises(WireCorruptError):
        decode_frame(data, count)


def test_every_truncation_is_seen() -> None:
    """No prefix of a frame is a frame."""
    whole = bytes.fromhex(FULL)
    for length in range(len(whole)):
        with pytest.raises(WireCorruptError):
            decode_frame(whole[:length], 2)

"""Golden vectors of headers and markers.

A vector that changes is a change of the wire format: data that is in Kafka could not be read.

Source: docs/internals/wire-format.md, sections 1 and 5; protocol, section 4.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from kstash.core.ids import Incarnation, TaskId
from kstash.core.sink import CommittedPositions
from kstash.core.wire import (
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    SEQUENCE,
    WRITER_BYTES,
    End,
    Fence,
    Identity,
    Marker,
    application_tag,
    decode_identity,
    decode_marker,
    encode_marker,
    with_checksum,
    without_checksum,
    writer_bytes,
)
from kstash.errors import WireCorruptError
from tests.unit.core_cases import APP, TASK, inc

DOCUMENT = Path(__file__).parents[3] / "docs/internals/wire-format.md"

IDENTITY = Identity(APP, TASK, inc(7), position=1000, count=2, first_seq=41)
IDENTITY_HEX = (
    "015bb8ce0e8a933c4200010000000300000174876e8000000000000000000700000000000003e80000000200000000"
    "00000029"
)

MARKERS: list[tuple[Marker, str]] = [
    (
        Fence(APP, ((3, inc(7)),)),
        "01015bb8ce0e8a933c420000000300000174876e8000000000000000000717440437",
    ),
    (
        Fence(APP, ((3, inc(7)), (4, inc(9)))),
        "01015bb8ce0e8a933c420000000300000174876e800000000000000000070000000400000174876e8000000000"
        "0000000009664bd3dd",
    ),
    (
        End(APP, 5, TASK, inc(7), 42, 1000),
        "01025bb8ce0e8a933c42000000000000000500010000000300000174876e800000000000000000070000000000"
        "00002a00000000000003e87c84249c",
    ),
]


def test_header_names() -> None:
    """The names are part of the format."""
    assert (IDENTITY_HEADER, LINEAGE_HEADER, MARKER_HEADER) == (
        "__kstash.s",
        "__kstash.l",
        "__kstash.m",
    )


def test_application_tag() -> None:
    """The tag is BLAKE2b-64 of the id, so that a foreign client can compute it."""
    assert application_tag("word-count") == APP
    assert application_tag("word-count2") != APP


def test_identity() -> None:
    """Identity, section 1: 51 fixed bytes."""
    assert IDENTITY.encode().hex() == IDENTITY_HEX
    assert decode_identity(bytes.fromhex(IDENTITY_HEX)) == IDENTITY
    assert len(IDENTITY.encode()) == 51


def test_identity_prefix_and_writer_bytes() -> None:
    """A batch shares all but the sequence; the writer can be seen without decoding."""
    assert IDENTITY.encode_prefix() + SEQUENCE.pack(41) == IDENTITY.encode()
    assert IDENTITY.encode()[WRITER_BYTES] == writer_bytes(APP, TASK)
    assert writer_bytes(APP, TaskId(1, 4)) != writer_bytes(APP, TASK) != writer_bytes(APP + 1, TASK)


def test_identity_takes_the_largest_values() -> None:
    """Every field holds the largest integer of its width."""
    full = Identity(
        2**64 - 1,
        TaskId(2**16 - 1, 2**32 - 1),
        Incarnation(2**64 - 1, 2**64 - 1),
        2**64 - 1,
        2**32 - 1,
        2**64 - 1,
    )
    assert full.encode()[1:] == b"\xff" * 50
    assert decode_identity(full.encode()) == full


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes.fromhex(IDENTITY_HEX)[:-1],
        bytes.fromhex(IDENTITY_HEX) + b"\0",
        b"\x02" + bytes.fromhex(IDENTITY_HEX)[1:],
        Identity(APP, TASK, inc(7), 1000, 0, 41).encode(),
        Identity(APP, TASK, inc(7), 1000, 1, 0).encode(),
    ],
    ids=["empty", "short", "long", "version", "count 0", "sequence 0"],
)
def test_corrupt_identity(data: bytes) -> None:
    """Wrong length, version, count or sequence: refused, since sequences begin at 1."""
    with pytest.raises(WireCorruptError):
        decode_identity(data)


@pytest.mark.parametrize(("marker", "vector"), MARKERS)
def test_marker(marker: Marker, vector: str) -> None:
    """FENCE and END, section 1, with their checksum."""
    assert encode_marker(marker).hex() == vector
    assert decode_marker(bytes.fromhex(vector)) == marker


@pytest.mark.parametrize(
    "body",
    [
        b"\x02\x01" + bytes(8),
        b"\x01\x03" + bytes(8),
        b"\x01\x01" + bytes(7),
        b"\x01\x01" + bytes(8 + 19),
        b"\x01\x02" + bytes(8 + 37),
    ],
    ids=["version", "kind", "too short", "half a group", "short end"],
)
def test_corrupt_marker(body: bytes) -> None:
    """What has a right checksum and is still no marker is refused."""
    with pytest.raises(WireCorruptError):
        decode_marker(with_checksum(body))


def test_every_flipped_bit_of_a_marker_is_seen() -> None:
    """The checksum finds any single flipped bit."""
    for _, vector in MARKERS:
        data = bytes.fromhex(vector)
        for bit in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(WireCorruptError, match="checksum"):
                decode_marker(bytes(flipped))


@pytest.mark.parametrize("data", [None, b"", b"\0\0\0\0"])
def test_checksum_needs_a_body(data: bytes | None) -> None:
    """A null value and one without a body are corrupt, not a crash."""
    with pytest.raises(WireCorruptError):
        without_checksum(data)


def test_committed_positions() -> None:
    """Section 5: the metadata string of the committed position."""
    positions = CommittedPositions(1_600_000_000_000, {1: 20, 0: 7})
    assert positions.encode() == "1;1600000000000;0:7,1:20"
    assert CommittedPositions.decode(positions.encode()) == positions
    assert CommittedPositions.decode("1;5;") == CommittedPositions(5, {})


@pytest.mark.parametrize("metadata", ["", "1;5", "2;5;0:1", "1;x;0:1", "1;5;0:1:2", "1;5;0"])
def test_corrupt_committed_positions(metadata: str) -> None:
    """Anything else than a committed position is refused."""
    with pytest.raises(WireCorruptError):
        CommittedPositions.decode(metadata)


def test_the_document_has_the_vectors() -> None:
    """The examples of docs/internals/wire-format.md are those that are tested here."""
    text = "".join(DOCUMENT.read_text().split())
    for vector in (IDENTITY_HEX, MARKERS[0][1], MARKERS[2][1]):
        assert vector in text
    assert f"`{CommittedPositions(1_600_000_000_000, {1: 20, 0: 7}).encode()}`" in text


def test_a_foreign_client_reads_an_identity() -> None:
    """The struct that the document names is all that a client needs."""
    fields = struct.unpack(">BQHIQQQIQ", bytes.fromhex(IDENTITY_HEX))
    assert fields == (1, APP, 1, 3, 1_600_000_000_000, 7, 1000, 2, 41)

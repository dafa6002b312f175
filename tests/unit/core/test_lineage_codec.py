"""Golden vectors of lineage.

A vector that changes is a change of the wire format: data that is in Kafka could not be read.

Source: docs/internals/wire-format.md, section 1.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kstash.core.determinants import (
    CLOCK_READ,
    UNKNOWN_OFFSET,
    Attachment,
    Consumed,
    Determinant,
    Fired,
)
from kstash.core.lineage_codec import (
    Lineage,
    decode_lineage,
    encode_lineage,
    read_varint,
    write_varint,
)
from kstash.errors import WireCorruptError

DOCUMENT = Path(__file__).parents[3] / "docs/internals/wire-format.md"

LINEAGES: list[tuple[Lineage, str]] = [
    (
        Lineage(
            100, 106, (Consumed(100, 0, 3, 53), Consumed(103, 1, 2, 20), Consumed(105, 0, 1, 54))
        ),
        "01640600036a040228000102",
    ),
    (
        Lineage(
            100,
            104,
            (Attachment(101, 0, 1, CLOCK_READ, b"\x01\x02"), Fired(103, 2, 1_600_000_000_500)),
        ),
        "0164040201000101020102010202f483babbc82e",
    ),
    (Lineage(100, 102, (Consumed(100, 0, 2, UNKNOWN_OFFSET),)), "016402000201"),
    (
        Lineage(100, 305, (Consumed(100, 0, 2, 10), Consumed(105, 1, 200, 300))),
        "0164cd010002140703c801d804",
    ),
    (Lineage(0, 0, ()), "010000"),
]


@pytest.mark.parametrize(("lineage", "vector"), LINEAGES)
def test_lineage(lineage: Lineage, vector: str) -> None:
    """Runs with and without gap, timers, attachments, unknown ends, the empty lineage."""
    assert encode_lineage(*lineage).hex() == vector
    assert decode_lineage(bytes.fromhex(vector)) == lineage


def test_a_run_costs_three_bytes() -> None:
    """Protocol, section 3: a run of a few records costs 2 to 3 bytes."""
    entries: list[Determinant] = [Consumed(3 * i, i % 2, 3, 3 * (i // 2 + 1)) for i in range(100)]
    assert len(encode_lineage(0, 300, entries)) == 4 + 3 * 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\x00\x00",
        b"\x01\x64",
        b"\x01\x00\x05\x00\x03",
        b"\x01\x00\x05\x00\x00\x02",
        b"\x01\x00\x05\x00\x06\x02",
        b"\x01\x00\x05\x05\x00\x00",
        b"\x01\x00\x05\x02\x00\x00\x01\x01\x09ab",
        b"\x01" + b"\xff" * 11,
    ],
    ids=[
        "empty",
        "version",
        "no length",
        "half a run",
        "empty run",
        "beyond its end",
        "unknown kind",
        "half a payload",
        "endless integer",
    ],
)
def test_corrupt_lineage(data: bytes) -> None:
    """Truncated, unknown or out of its own range: refused."""
    with pytest.raises(WireCorruptError):
        decode_lineage(data)


@pytest.mark.parametrize(
    ("value", "vector"), [(0, "00"), (127, "7f"), (128, "8001"), (2**64 - 1, "ff" * 9 + "01")]
)
def test_varint(value: int, vector: str) -> None:
    """Unsigned LEB128."""
    out = bytearray()
    write_varint(out, value)
    assert out.hex() == vector
    assert read_varint(bytes(out), 0) == (value, len(out))


def test_the_document_has_the_vectors() -> None:
    """The example of docs/internals/wire-format.md is one that is tested here."""
    assert LINEAGES[0][1] in "".join(DOCUMENT.read_text().split())

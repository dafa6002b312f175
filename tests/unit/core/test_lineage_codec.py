"""Golden vectors of lineage.

A vector that changes is a change of the wire format: data that is in Kafka could not be read.

Source: docs/internals/wire-format.md, section 1.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kstash.core.determinants import (
    UNKNOWN_OFFSET,
    Attachment,
    Completed,
    Consumed,
    Determinant,
    Flush,
    Idle,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
)
from kstash.core.lineage_codec import (
    Lineage,
    decode_lineage,
    encode_lineage,
    read_varint,
    write_varint,
)
from kstash.errors import WireCorruptError
from tests.unit.core_cases import CLOCK_READ, inc

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
            (Attachment(101, 0, 1, CLOCK_READ, b"\x01\x02"), Consumed(103, 2, 1, 7)),
        ),
        "01640402010001010201020b02010e",
    ),
    (Lineage(100, 102, (Consumed(100, 0, 2, UNKNOWN_OFFSET),)), "016402000201"),
    (
        Lineage(100, 305, (Consumed(100, 0, 2, 10), Consumed(105, 1, 200, 300))),
        "0164cd010002140703c801d804",
    ),
    (Lineage(0, 0, ()), "010000"),
    (
        Lineage(
            100, 103, (Tick(100, 1_600_000_000_500), Tick(101, 1_600_000_000_700), Flush(102, 2))
        ),
        "0264030d00e887f4f6905d0d009003110002",
    ),
    (
        Lineage(
            100,
            107,
            (
                Consumed(100, 1, 2, 20),
                MergedBatch(
                    102,
                    (
                        MergedInput(0, 1, InputPlace(7, 0, 1_000)),
                        MergedInput(1, 3, InputPlace(22, 2, 990)),
                    ),
                ),
                Attachment(103, 0, 0, CLOCK_READ, b"x"),
                Flush(106, 2),
            ),
        ),
        "02640704022805000200010e00d00f01030402bc0f02010000010178110302",
    ),
    (
        Lineage(5, 7, (Idle(5, 1, 1_000), Completed(6, b"\x01\x02\x03", inc(7)))),
        "020502150001d00f19008080babbc82e0703010203",
    ),
]


@pytest.mark.parametrize(("lineage", "vector"), LINEAGES)
def test_lineage(lineage: Lineage, vector: str) -> None:
    """Runs with and without gap, attachments, unknown ends, nothing; and each kind of event."""
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
        b"\x03\x00\x00",
        b"\x01\x64",
        b"\x01\x00\x05\x00\x03",
        b"\x01\x00\x05\x00\x00\x02",
        b"\x01\x00\x05\x00\x06\x02",
        b"\x01\x00\x05\x05\x00\x00",
        b"\x01\x00\x05\x02\x00\x00\x01\x01\x09ab",
        b"\x01" + b"\xff" * 11,
        b"\x01\x00\x05\x01\x00\x00\x00",
        b"\x02\x00\x05\x01\x00\x00\x00",
        b"\x01\x00\x05\x0d\x00\x00",
        b"\x02\x00\x05\x1d\x00\x00",
        b"\x02\x00\x05\x09\x00\x00",
        b"\x02\x00\x05\x09\x00\x06",
        b"\x02\x00\x05\x05\x00\x00",
        b"\x02\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00",
        b"\x02\x00\x05\x05\x00\x02\x01\x01\x00\x00\x00\x01\x01\x00\x00\x00",
        b"\x02\x00\x02\x05\x00\x01\x01\x03\x00\x00\x00",
        b"\x02\x00\x05\x19\x00\x01\x01\x05ab",
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
        "timer of version 1",
        "event of kind 0",
        "tick of version 1",
        "unknown event",
        "no steps",
        "steps beyond its end",
        "merged of no inputs",
        "merged of no records",
        "merged inputs out of order",
        "merged beyond its end",
        "half a call",
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
    """The examples of docs/internals/wire-format.md are those that are tested here."""
    text = "".join(DOCUMENT.read_text().split())
    assert LINEAGES[0][1] in text
    assert LINEAGES[-2][1] in text


def test_records_are_written_as_ever() -> None:
    """Version 1 wherever only records and attachments occur, so that older releases read it."""
    old: list[Determinant] = [Consumed(0, 0, 2, 9), Attachment(2, 0, 0, CLOCK_READ, b"")]
    assert encode_lineage(0, 3, old)[0] == 1
    for new in (Tick(3, 5), Flush(3, 0), Idle(3, 0, 5), Completed(3, b"", inc(1))):
        assert encode_lineage(0, 4, [*old, new])[0] == 2


def test_the_number_of_steps_stays_reserved() -> None:
    """Work that an event leaves is no entry: who finds one has lineage of another kind."""
    with pytest.raises(WireCorruptError, match="unknown event 2"):
        decode_lineage(bytes.fromhex("026402090002"))

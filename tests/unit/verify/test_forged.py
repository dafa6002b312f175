"""`kstash verify` reports what it cannot read, whatever that is, and goes on."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from kstash.core.frames import encode_frame
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import (
    CHECKPOINT,
    CLAIM,
    CONFIG,
    HINT,
    RELEASE,
    RUN,
    SEAL,
    START,
    encode_key,
)
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER, with_checksum
from kstash.verify import formats
from kstash.verify.checks import Report
from kstash.verify.lineage import LineageCheck
from tests.unit.verify.test_verify import (
    BEGINNING,
    CONTENT,
    DIGEST,
    INC,
    TASK,
    Record,
    kinds,
    output,
)

KEY = struct.Struct(">QQB")
DEEP = b"[" * 100_000

GOOD_START: dict[str, Any] = {"parent": None, "tasks": [], "settings": {}, "skips": []}
GOOD_CKPT: dict[str, Any] = {
    "remote": True,
    "position": 5,
    "label": "l",
    "files": [],
    "inputs": [],
    "sequences": [],
    "readers": [],
    "scan_from": [],
    "timers": [],
    "reached": 0,
}


def record(offset: int, kind: int, body: bytes | dict[str, Any]) -> Record:
    """A record with a right key and checksum, and any body."""
    key = KEY.pack(*INC, kind)
    if kind in (HINT, CHECKPOINT):
        key += struct.pack(">HIQ", *TASK, 1)
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    return Record(offset, with_checksum(bytes((1, kind)) + body), key_bytes=key)


def found(*odd: Record) -> list[tuple[str, int]]:
    """What the checker finds in a lineage partition that ends with these, stored files too."""
    report = Report()
    check = LineageCheck(report)
    for offset, entry in enumerate(BEGINNING):
        check.take(Record(offset, encode_value(entry), key_bytes=encode_key(entry)))
    for forged in odd:
        check.take(forged)
    check.finish(lambda _, size: [CONTENT[:size]])
    return [(finding.kind, finding.offset) for finding in report.findings]


START_ODD: list[dict[str, Any]] = [
    {"parent": [1]},
    {"parent": [[1], [2]]},
    {"parent": "no"},
    {"tasks": 5},
    {"tasks": [[{}, 0, 0, []]]},
    {"tasks": [[1, 0, 0]]},
    {"settings": []},
    {"settings": {"program": 5}},
    {"settings": {"program": "[" * 100_000}},
    {"settings": {"program": "[]"}},
    {"settings": {"program": '{"stages": 5}'}},
    {"settings": {"program": '{"stages": [{"number": 1, "inputs": [], "outputs": [["a"]]}]}'}},
    {"skips": [[1, 2]]},
    {"skips": [[1, 2, [3]]]},
    {"skips": [5]},
    {"gaps": [[1, 2, 3]]},
]
CKPT_ODD: list[dict[str, Any]] = [
    {"position": "5"},
    {"position": None},
    {"position": 10**30},
    {"sequences": [[0, 0]]},
    {"sequences": [[0, 0, "1"]]},
    {"sequences": {}},
    {"inputs": [[[], 1]]},
    {"files": 7},
    {"files": [["a", 1, DIGEST]]},
    {"files": [["a", "1", DIGEST, "there"]]},
    {"files": [["a", 1, 5, "there"]]},
    {"files": [["a", 1, DIGEST, None]]},
    {"remote": "yes"},
    {"timers": [[2, 1600]]},
    {"timers": {}},
]


@pytest.mark.parametrize("odd", START_ODD)
def test_a_start_of_odd_types_is_reported(odd: dict[str, Any]) -> None:
    """With its offset; a sound one after it is none of the findings."""
    records = [record(2, START, GOOD_START | odd), record(3, CHECKPOINT, GOOD_CKPT)]
    assert found(*records) == [("unreadable", 2)]


@pytest.mark.parametrize("odd", CKPT_ODD)
def test_a_checkpoint_of_odd_types_is_reported(odd: dict[str, Any]) -> None:
    """Also between others, which are sorted with it at the end."""
    good = [record(n, CHECKPOINT, GOOD_CKPT) for n in (2, 4)]
    assert found(good[0], record(3, CHECKPOINT, GOOD_CKPT | odd), good[1]) == [("unreadable", 3)]


@pytest.mark.parametrize("kind", [CONFIG, CLAIM, SEAL, START, RELEASE, RUN, HINT, CHECKPOINT])
@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"x":' + DEEP,
        b'{"generation":' + DEEP,
        b"5",
        b"",
        b"\xff",
        b'{"generation": 1e999, "worker": NaN}',
        b"9" * 5000,
        b'{"worker": "\\ud800"}',
    ],
    ids=["deep", "deep below", "deep field", "number", "empty", "no text", "odd", "long", "half"],
)
def test_odd_json_is_reported(kind: int, body: bytes) -> None:
    """Whatever the kind: one finding."""
    assert found(record(2, kind, body)) == [("unreadable", 2)]


def test_a_file_longer_than_it_says_is_not_read_to_its_end() -> None:
    """A store that never ends is a finding."""
    report = Report()
    check = LineageCheck(report)
    for offset, entry in enumerate(BEGINNING):
        check.take(Record(offset, encode_value(entry), key_bytes=encode_key(entry)))
    files = [["1.sst", len(CONTENT), DIGEST, "there"]]
    check.take(record(2, CHECKPOINT, GOOD_CKPT | {"files": files}))

    def endless(_: str, size: int) -> Any:
        while True:
            yield b"x" * size

    check.finish(endless)
    assert [(f.kind, f.offset) for f in report.findings] == [("unreadable", 2)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (IDENTITY_HEADER, None),
        (IDENTITY_HEADER, b"\xff" * 51),
        (LINEAGE_HEADER, b"\x01" + b"\xff" * 40),
        (LINEAGE_HEADER, b"\x01\x00\x05\x02\x00\x00\x00\x01" + b"\xff" * 9 + b"\x01"),
    ],
)
def test_odd_headers_are_reported(name: str, value: bytes | None) -> None:
    """On a sink and on an internal topic."""
    sound = output(0, 1)
    odd = Record(0, sound.content, [(name, value), *sound.header_list])
    assert kinds([odd]) == [("unreadable", 0)]
    assert kinds([odd], is_internal=True) == [("unreadable", 0)]


@pytest.mark.parametrize("count", [2, 0xFFFFFFFF])
def test_a_frame_claims_no_more_than_it_has(count: int) -> None:
    """Nothing is made as long as a frame says that it is."""
    sound = output(0, 1)
    frame = encode_frame([b"k"], [b"v"], [1], None)
    frame = frame[:2] + count.to_bytes(4, "little") + frame[6:]
    header = bytearray(sound.header_list[0][1] or b"")
    header[39:43] = count.to_bytes(4, "big")
    odd = Record(0, frame, [(IDENTITY_HEADER, bytes(header))])
    assert kinds([odd], is_internal=True) == [("unreadable", 0)]


def test_event_times_and_control_records_are_of_a_frame() -> None:
    """Watermark mode: a frame is read to its end, and nothing may stand after it."""
    sound = output(0, 1)
    for times in ([7], [-(2**62)]):
        frame = encode_frame([b"k"], [b"v"], [1], None, times, [0])
        assert not kinds([Record(0, frame, sound.header_list)], is_internal=True)
        odd = Record(0, frame + b"\0", sound.header_list)
        assert kinds([odd], is_internal=True) == [("unreadable", 0)]
    steps = encode_frame([b"k"] * 2, None, [1, 1], None, [7, 700])
    formats.check_frame(steps, 2)
    for wrong in (steps[:-3] + b"\x03\0\0", steps[:-1], b"\x01\x14" + steps[2:]):
        with pytest.raises(formats.UnreadableError):
            formats.check_frame(wrong, 2)

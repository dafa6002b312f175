"""Golden vectors of the lineage topic's keys and values.

Source: docs/internals/wire-format.md, sections 3 and 4; protocol, section 4.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kstash.core import determinants, record_keys
from kstash.core.determinants import InputPlace
from kstash.core.hashes import OutputHashes
from kstash.core.ids import TaskId
from kstash.core.reader import ReaderState
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key, key_incarnation
from kstash.core.records import (
    BoundedRun,
    Checkpoint,
    Claim,
    FileEntry,
    Generation,
    Hint,
    LineageRecord,
    Release,
    Seal,
    Segment,
    Start,
    TaskStart,
)
from kstash.core.watermark import EventTimes
from kstash.core.wire import with_checksum
from kstash.errors import WireCorruptError
from tests.unit.core_cases import APP, GENERATION, TASK, inc

DOCUMENT = Path(__file__).parents[3] / "docs/internals/wire-format.md"

INC = "00000174876e80000000000000000007"
NO_INC = "00" * 16
TASK_HEX = "000100000003"

TABLE = ReaderState(True, {(APP, 0): inc(7)}, {(APP, TaskId(0, 0)): 12}, {(APP, TaskId(0, 0)): 5})
TABLE_JSON = (
    '{"internal":true,"inc":[[6609259015015971906,0,1600000000000,7]],'
    '"seq":[[6609259015015971906,0,0,12]],"end":[[6609259015015971906,0,0,5]]}'
)
ENTRIES = (
    determinants.Consumed(100, 0, 3, 53),
    determinants.Consumed(103, 1, 2, 20),
    determinants.Consumed(105, 0, 1, 54),
)

# Record, key in hex, kind, body.
VECTORS: list[tuple[LineageRecord, str, int, bytes]] = [
    (
        Generation(b"\1" * 4, GENERATION),
        NO_INC + "01" + "01" * 4,
        1,
        b'{"generation":1600000000000}',
    ),
    (Claim(b"\2" * 4, "w1"), NO_INC + "02" + "02" * 4, 2, b'{"worker":"w1"}'),
    (Seal(inc(7)), INC + "03", 3, b"{}"),
    (
        Start(
            inc(7),
            inc(2),
            {1: TaskStart(10, 20, {0: 4, 1: 5})},
            {"topology": "abc"},
            ((1, 0, 17),),
        ),
        INC + "04",
        4,
        b'{"parent":[1600000000000,2],"tasks":[[1,10,20,[[0,4],[1,5]]]],'
        b'"settings":{"topology":"abc"},"skips":[[1,0,17]]}',
    ),
    (
        Start(inc(7), None, {}, {}),
        INC + "04",
        4,
        b'{"parent":null,"tasks":[],"settings":{},"skips":[]}',
    ),
    (Release(inc(7), {0: 5, 1: 6}, 9), INC + "05", 5, b'{"positions":[[0,5],[1,6]],"run":9}'),
    (Release(inc(7), {}), INC + "05", 5, b'{"positions":[],"run":null}'),
    (
        BoundedRun(inc(7), 9, (("in", 0, 100),)),
        INC + "06" + "0000000000000009",
        6,
        b'{"run":9,"ends":[["in",0,100]]}',
    ),
    (
        Segment(inc(7), TASK, 1, 100, 106, ENTRIES),
        INC + "07" + TASK_HEX + "0000000000000001",
        7,
        bytes.fromhex("01640600036a040228000102"),
    ),
    (
        Hint(inc(7), TASK, 2, {(0, 1): 33}, 12),
        INC + "08" + TASK_HEX + "0000000000000000",
        8,
        b'{"number":2,"offsets":[[0,1,33]],"reached":12}',
    ),
    (
        Hint(inc(7), TASK, 2, {}, 12, OutputHashes(0, 11, {1: (5, 6, 7, 8, 9)})),
        INC + "08" + TASK_HEX + "0000000000000000",
        8,
        b'{"number":2,"offsets":[],"reached":12,'
        b'"checked":{"since":0,"position":11,"outputs":[[1,5,6,7,8,9]]}}',
    ),
    (
        Checkpoint(
            inc(7),
            TASK,
            4,
            is_remote=False,
            position=1000,
            label="1-7-4",
            files=(FileEntry("a.sst", 10, "0b" * 16, "3:7+1"),),
            input_offsets={0: 50},
            sequences={(0, 0): 40, (0, 1): 41},
            readers={0: TABLE},
            scan_from={(0, 0): 30},
            reached=1003,
        ),
        INC + "09" + TASK_HEX + "0000000000000004",
        9,
        b'{"remote":false,"position":1000,"label":"1-7-4","files":[["a.sst",10,"'
        + b"0b" * 16
        + b'","3:7+1"]],'
        b'"inputs":[[0,50]],"sequences":[[0,0,40],[0,1,41]],"readers":[[0,'
        + TABLE_JSON.encode()
        + b']],"scan_from":[[0,0,30]],"timers":[],"reached":1003}',
    ),
    (
        Checkpoint(
            *(inc(7), TASK, 4),
            is_remote=True,
            position=9,
            label="1",
            files=(),
            input_offsets={},
            sequences={},
            readers={},
            scan_from={},
            made=OutputHashes(3, 9, {0: (1, 2, 3, 4, 5)}),
            checked=OutputHashes(3, 11, {}),
        ),
        INC + "09" + TASK_HEX + "0000000000000004",
        9,
        b'{"remote":true,"position":9,"label":"1","files":[],"inputs":[],"sequences":[],'
        b'"readers":[],"scan_from":[],"timers":[],"reached":0,'
        b'"made":{"since":3,"position":9,"outputs":[[0,1,2,3,4,5]]},'
        b'"checked":{"since":3,"position":11,"outputs":[]}}',
    ),
    (
        Start(inc(7), None, {}, {}, ((1, 0, 17), (1, 1, 4, 3)), ((1, 0, 30, 49),)),
        INC + "04",
        4,
        b'{"parent":null,"tasks":[],"settings":{},"skips":[[1,0,17],[1,1,4,3]],'
        b'"gaps":[[1,0,30,49]]}',
    ),
    (
        Start(inc(7), None, {}, {"hashing": "00c0ffee00c0ffee", "topology": "abc"}),
        INC + "04",
        4,
        b'{"parent":null,"tasks":[],"settings":{"hashing":"00c0ffee00c0ffee","topology":"abc"},'
        b'"skips":[]}',
    ),
]
NAMES = [f"{type(record).__name__}-{number}" for number, (record, *_) in enumerate(VECTORS)]


def value_of(kind: int, body: bytes, version: int = 1) -> bytes:
    """A value with a right checksum."""
    return with_checksum(bytes((version, kind)) + body)


@pytest.mark.parametrize(("record", "key", "kind", "body"), VECTORS, ids=NAMES)
def test_golden_vector(record: LineageRecord, key: str, kind: int, body: bytes) -> None:
    """Each kind's key and value, and the record back from them."""
    assert encode_key(record).hex() == key
    assert encode_value(record) == value_of(kind, body)
    assert decode_record(bytes.fromhex(key), value_of(kind, body)) == record


def test_every_kind_has_a_vector() -> None:
    """A new kind of record needs a vector, and a line in the document."""
    assert {kind for _, _, kind, _ in VECTORS} == set(record_keys.KINDS.values())
    text = DOCUMENT.read_text()
    names = ["CONFIG", "CLAIM", "SEAL", "START", "RELEASE", "RUN", "SEG", "HINT", "CKPT"]
    for kind, name in enumerate(names, 1):
        assert f"| {kind} | {name}" in text


def test_the_document_has_the_vectors() -> None:
    """The examples of docs/internals/wire-format.md are those that are tested here."""
    text = "".join(DOCUMENT.read_text().split())
    for record in (VECTORS[1][0], VECTORS[8][0]):
        assert encode_key(record).hex() + encode_value(record).hex() in text


def test_hints_of_a_task_share_a_key() -> None:
    """Compaction keeps the newest hint only; segments and checkpoints are kept all."""
    assert encode_key(Hint(inc(7), TASK, 1, {}, 0)) == encode_key(Hint(inc(7), TASK, 2, {}, 0))
    one, two = (Segment(inc(7), TASK, n, 0, 1, ()) for n in (1, 2))
    assert encode_key(one) != encode_key(two)


def test_h8_keys_of_two_incarnations_differ() -> None:
    """H8: what an incarnation writes is never overwritten through compaction by another one."""
    for make in (Seal, lambda i: Start(i, None, {}, {}), lambda i: Hint(i, TASK, 1, {}, 0)):
        assert encode_key(make(inc(7))) != encode_key(make(inc(8)))


def test_h34_claims_of_one_worker_differ_by_their_nonce() -> None:
    """H34: two attempts of one worker have two keys, so compaction moves no CLAIM."""
    assert encode_key(Claim(b"a", "w")) != encode_key(Claim(b"b", "w"))
    assert encode_key(Claim(b"a", "w")) != encode_key(Generation(b"a", 1))


def test_key_incarnation() -> None:
    """A tombstone has no value: its key alone tells whose it is."""
    assert key_incarnation(encode_key(Seal(inc(7)))) == (inc(7), record_keys.SEAL)
    with pytest.raises(WireCorruptError):
        key_incarnation(b"short")


def test_a_start_that_logs_is_of_the_second_version() -> None:
    """An older release would take its positions for records, so it must not understand it."""
    tasks = {1: TaskStart(0, 4, {}, logs=True), 2: TaskStart(0, 0, {})}
    start = Start(inc(7), None, tasks, {})
    body = b'{"parent":null,"tasks":[[1,0,4,[]],[2,0,0,[]]],"settings":{},"skips":[],"logs":[%d]}'
    key = bytes.fromhex(INC + "04")
    assert encode_value(start) == value_of(4, body % 1, version=2)
    assert decode_record(key, encode_value(start)) == start
    with pytest.raises(WireCorruptError, match=r"stages \[1, 2\] says that \[3\] log"):
        decode_record(key, value_of(4, body % 3, version=2))


def test_a_run_that_closes_windows_is_of_the_second_version() -> None:
    """A release that does not know it would leave them open, and its ENDs would fix that."""
    run = BoundedRun(inc(7), 9, (("in", 0, 100),), closes_windows=True)
    body = b'{"run":9,"ends":[["in",0,100]],"closes":true}'
    assert encode_value(run) == value_of(6, body, version=2)
    assert decode_record(encode_key(run), encode_value(run)) == run


def test_a_checkpoint_within_a_frame_is_of_the_second_version() -> None:
    """An older release would go on at the frame's beginning, so it must not understand it."""
    place = InputPlace(40, 3, -7)
    found = next(r for r, *_ in VECTORS if isinstance(r, Checkpoint))
    made = replace(found, input_offsets={0: 40, 1: 5}, places={0: place})
    key, value = encode_key(made), encode_value(made)
    assert value[:2] == b"\x02\x09"
    assert b'"places":[[0,3,-7]]' in value
    assert decode_record(key, value) == made
    for wrong in (b"[[2,3,7]]", b"[[0,-3,7]]", b'[[0,3,"7"]]'):
        body = value[2:-4].replace(b"[[0,3,-7]]", wrong)
        with pytest.raises(WireCorruptError):
            decode_record(key, value_of(9, body, version=2))


KEY = bytes.fromhex(INC + "03")
CHECKPOINT_BODY = next(body for *_, kind, body in VECTORS if kind == 9)
TASK_KEY = bytes.fromhex(INC + "09" + TASK_HEX + "0000000000000004")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, value_of(3, b"{}")),
        (KEY, None),
        (KEY, b""),
        (KEY, value_of(3, b"{}")[:-1]),
        (KEY, value_of(3, b"{}", version=2)),
        (KEY, with_checksum(b"\x01")),
        (KEY[:-1], value_of(3, b"{}")),
        (KEY + b"x", value_of(3, b"{}")),
        (KEY, value_of(5, b"{}")),
        (bytes.fromhex(INC + "0a"), value_of(10, b"{}")),
        (bytes.fromhex(NO_INC[:-2] + "0101"), value_of(1, b'{"generation":1}')),
        (bytes.fromhex(INC + "05"), value_of(5, b"{}")),
        (bytes.fromhex(INC + "05"), value_of(5, b"[]")),
        (bytes.fromhex(INC + "05"), value_of(5, b"{")),
        (bytes.fromhex(INC + "05"), value_of(5, b"\xff")),
        (bytes.fromhex(INC + "05"), value_of(5, b'{"positions":[[1]],"run":null}')),
        (bytes.fromhex(INC + "05"), value_of(5, b'{"positions":[],"run":Infinity}')),
        (bytes.fromhex(INC + "05"), value_of(5, b"[" * 100_000)),
        (TASK_KEY[:-1], value_of(9, CHECKPOINT_BODY)),
        (TASK_KEY, value_of(9, CHECKPOINT_BODY.replace(b'"seq":[[6', b'"seq":[[[]'))),
        (TASK_KEY, value_of(9, CHECKPOINT_BODY.replace(b"[0,0,30]", b'["a",0,30]'))),
    ],
    ids=[
        "null key",
        "tombstone",
        "empty",
        "cut",
        "version",
        "no kind",
        "short key",
        "long key",
        "kinds differ",
        "unknown kind",
        "config under an incarnation",
        "field missing",
        "no object",
        "no json",
        "no text",
        "row too short",
        "infinite",
        "nested too deep",
        "short task key",
        "reader state",
        "no number",
    ],
)
def test_corrupt_record(key: bytes | None, value: bytes | None) -> None:
    """Protocol, section 4: garbage gives WireCorruptError, never another exception."""
    with pytest.raises(WireCorruptError):
        decode_record(key, value)


def test_every_flipped_bit_of_a_value_is_seen() -> None:
    """The checksum finds any single flipped bit."""
    for record, *_ in VECTORS:
        value = encode_value(record)
        for bit in range(len(value) * 8):
            flipped = bytearray(value)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(WireCorruptError):
                decode_record(encode_key(record), bytes(flipped))


def test_reader_table() -> None:
    """Section 4 of the document: the table as it is saved with an offset."""
    assert ReaderState.from_json(TABLE.to_json()) == TABLE
    assert ReaderState.from_json({"internal": False, "inc": [], "seq": [], "end": []}) == (
        ReaderState(is_internal=False)
    )


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"internal": True, "inc": [[1, 2, 3]], "seq": [], "end": []},
        {"internal": True, "inc": [], "seq": [["a", 0, 0, 1]], "end": []},
        {"internal": True, "inc": 5, "seq": [], "end": []},
        {"internal": True, "inc": [], "seq": [[0, 0, 0, float("inf")]], "end": []},
        [],
    ],
)
def test_corrupt_reader_table(data: dict[str, object]) -> None:
    """A table that is none is refused when it is read, not when it is used."""
    with pytest.raises(WireCorruptError):
        ReaderState.from_json(data)


def test_event_times_of_a_checkpoint_come_back() -> None:
    """Watermark mode: by input, what was said, and when; older releases refuse such a record."""
    found = next(r for r, *_ in VECTORS if isinstance(r, Checkpoint))
    times = EventTimes({0: -5, 1: 70}, {(0, 3): -(2**62)}, passed_ms=-5, ticked_ms=9)
    made = replace(found, event_time=times)
    value = encode_value(made)
    assert value[0] == 2
    assert decode_record(encode_key(made), value) == made
    assert b'"time":{"inputs":[[0,-5],[1,70]]' in value
    assert encode_value(found)[0] == 1

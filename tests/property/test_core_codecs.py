"""Codecs round-trip, and whatever else stands in Kafka gives WireCorruptError and nothing else.

Source: protocol, section 4; docs/internals/wire-format.md.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstash.core.determinants import (
    Attachment,
    Completed,
    Consumed,
    Determinant,
    EventEntry,
    Flush,
    Idle,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
    contiguous_end,
    end_of,
    lineage_from,
    lineage_until,
    merge_lineage,
)
from kstash.core.frames import Columns, RecordHeaders, decode_frame, encode_frame
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.lineage_codec import Lineage, decode_lineage, encode_lineage
from kstash.core.reader import ReaderState
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key
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
from kstash.core.sink import CommittedPositions
from kstash.core.wire import (
    End,
    Fence,
    Identity,
    Marker,
    decode_identity,
    decode_marker,
    encode_marker,
    with_checksum,
)
from kstash.errors import WireCorruptError
from kstash.verify.formats import check_chunk

U16, U32, U64 = (st.integers(0, 2**n - 1) for n in (16, 32, 64))
OFFSETS = st.integers(0, 2**62)
POSITIONS = st.integers(0, 2**60)
COUNTS = st.integers(1, 2**20)
INCARNATIONS = st.builds(Incarnation, U64, U64)
TASKS = st.builds(TaskId, U16, U32)
OUTS: st.SearchStrategy[dict[OutPartition, int]] = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(0, 999)), OFFSETS, max_size=4
)
INTS = st.dictionaries(st.integers(0, 99), OFFSETS, max_size=4)
WRITERS = st.tuples(U64, TASKS)
TABLES = st.builds(
    ReaderState,
    st.booleans(),
    st.dictionaries(st.tuples(U64, U32), INCARNATIONS, max_size=3),
    st.dictionaries(WRITERS, OFFSETS, max_size=3),
    st.dictionaries(WRITERS, OFFSETS, max_size=3),
)
IDENTITIES = st.builds(
    Identity, U64, TASKS, INCARNATIONS, U64, st.integers(1, 2**32 - 1), st.integers(1, 2**64 - 1)
)
MARKERS: st.SearchStrategy[Marker] = st.one_of(
    st.builds(Fence, U64, st.lists(st.tuples(U32, INCARNATIONS), max_size=4).map(tuple)),
    st.builds(End, U64, U64, TASKS, INCARNATIONS, U64, U64),
)


@st.composite
def events(draw: st.DrawFn, at: int) -> EventEntry:
    """What no run is."""
    inputs = draw(st.lists(st.integers(0, 40), min_size=1, max_size=3, unique=True).map(sorted))
    places = st.builds(InputPlace, OFFSETS, U32, st.integers(-(2**60), 2**60))
    parts = tuple(MergedInput(source, draw(COUNTS), draw(places)) for source in inputs)
    made: EventEntry = draw(
        st.one_of(
            st.just(MergedBatch(at, parts)),
            st.builds(Tick, st.just(at), st.integers(-(2**60), 2**60)),
            st.builds(Flush, st.just(at), U32),
            st.builds(Idle, st.just(at), U32, st.integers(0, 2**60)),
            st.builds(Completed, st.just(at), st.binary(max_size=9), INCARNATIONS),
        )
    )
    return made


@st.composite
def lineages(draw: st.DrawFn, *, has_gaps: bool = True) -> Lineage:
    """Determinants of some positions, in order; attachments stand before their own event."""
    start = at = draw(POSITIONS)
    entries: list[Determinant] = []
    for kind in draw(st.lists(st.sampled_from("rrrea"), max_size=12)):
        if has_gaps:
            at += draw(st.integers(0, 3))
        if kind == "r":
            count = draw(COUNTS)
            entries.append(
                Consumed(at, draw(st.integers(0, 40)), count, draw(st.integers(-1, 2**60)))
            )
        elif kind == "e":
            entries.append(draw(events(at)))
        else:
            index, k = draw(U16), draw(U16)
            entries.append(Attachment(at, index, k, draw(U16), draw(st.binary(max_size=9))))
        at = end_of(entries[-1])
    return Lineage(start, at + draw(st.integers(0, 3)), tuple(entries))


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """A SEG."""
    return Segment(draw(INCARNATIONS), draw(TASKS), draw(U64), *draw(lineages()))


CHECKPOINTS = st.builds(
    Checkpoint,
    INCARNATIONS,
    TASKS,
    U64,
    is_remote=st.booleans(),
    position=POSITIONS,
    label=st.text(max_size=9),
    files=st.lists(
        st.builds(FileEntry, st.text(max_size=9), U64, st.text(max_size=9), st.text(max_size=9)),
        max_size=3,
    ).map(tuple),
    input_offsets=INTS,
    sequences=OUTS,
    readers=st.dictionaries(st.integers(0, 9), TABLES, max_size=2),
    scan_from=OUTS,
    reached=POSITIONS,
)
SKIPS = st.lists(st.tuples(U16, U16, OFFSETS), max_size=3).map(tuple)
RECORDS: st.SearchStrategy[LineageRecord] = st.one_of(
    st.builds(Generation, st.binary(max_size=16), U64),
    st.builds(Claim, st.binary(max_size=16), st.text(max_size=9)),
    st.builds(Seal, INCARNATIONS),
    st.builds(
        Start,
        INCARNATIONS,
        st.none() | INCARNATIONS,
        st.dictionaries(U16, st.builds(TaskStart, POSITIONS, POSITIONS, INTS), max_size=3),
        st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        SKIPS,
    ).filter(lambda start: start.parent is None or start.parent < start.incarnation),
    st.builds(Release, INCARNATIONS, INTS, st.none() | U64),
    st.builds(
        BoundedRun,
        INCARNATIONS,
        U64,
        st.lists(st.tuples(st.text(max_size=9), U32, OFFSETS), max_size=3).map(tuple),
    ),
    segments(),
    st.builds(Hint, INCARNATIONS, TASKS, U64, OUTS, POSITIONS),
    CHECKPOINTS,
)
ITEMS = st.none() | st.binary(max_size=6)
HEADERS: st.SearchStrategy[RecordHeaders] = st.lists(st.tuples(st.text(max_size=4), ITEMS))


@st.composite
def frames(draw: st.DrawFn) -> Columns:
    """Columns of a frame, in the form in which they come back."""
    count = draw(st.integers(1, 8))

    def column(items: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(items, min_size=count, max_size=count))

    headers = column(st.none() | HEADERS) if draw(st.booleans()) else None
    if headers is not None:
        headers = [h or None for h in headers] if any(headers) else None
    times = st.integers(-(2**63), 2**63 - 1)
    timestamps = column(times) if draw(st.booleans()) else [draw(times)] * count
    columns = Columns(column(ITEMS), column(ITEMS), timestamps, headers)
    if draw(st.booleans()):
        return columns
    controls = draw(st.sets(st.integers(0, count - 1)))
    said = sorted(column(st.integers(-(2**62), 2**62)))
    return columns._replace(times=said, controls=tuple(sorted(controls)))


# -- round trips ---------------------------------------------------------------------------------


@given(IDENTITIES)
def test_identity_round_trip(identity: Identity) -> None:
    """Every identity comes back from its bytes."""
    assert decode_identity(identity.encode()) == identity


@given(MARKERS)
def test_marker_round_trip(marker: Marker) -> None:
    """Every marker comes back from its bytes."""
    assert decode_marker(encode_marker(marker)) == marker


@given(lineages())
def test_lineage_round_trip(lineage: Lineage) -> None:
    """Every lineage comes back from its bytes."""
    assert decode_lineage(encode_lineage(*lineage)) == lineage


@given(RECORDS)
def test_record_round_trip(record: LineageRecord) -> None:
    """Every record of the lineage topic comes back from its key and value."""
    assert decode_record(encode_key(record), encode_value(record)) == record


@given(frames())
def test_frame_round_trip(columns: Columns) -> None:
    """Every frame comes back from its bytes."""
    assert decode_frame(encode_frame(*columns), len(columns.keys)) == columns


@given(TABLES)
def test_reader_table_round_trip(table: ReaderState) -> None:
    """Every reader state comes back from its JSON text."""
    assert ReaderState.from_json(json.loads(json.dumps(table.to_json()))) == table


@given(U64, INTS)
def test_committed_positions_round_trip(generation: int, positions: dict[int, int]) -> None:
    """Every committed position comes back from its metadata."""
    committed = CommittedPositions(generation, positions)
    assert CommittedPositions.decode(committed.encode()) == committed


# -- garbage -------------------------------------------------------------------------------------

KEYS = st.one_of(RECORDS.map(encode_key), st.binary(max_size=40), st.none())
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "identity": decode_identity,
    "lineage": decode_lineage,
    "marker": decode_marker,
    "frame": lambda data: decode_frame(data, data[2] if len(data) > 2 else 1),
}
WHOLE: dict[str, st.SearchStrategy[bytes]] = {
    "identity": IDENTITIES.map(Identity.encode),
    "lineage": lineages().map(lambda lineage: encode_lineage(*lineage)),
    "marker": MARKERS.map(encode_marker),
    "frame": frames().map(lambda columns: encode_frame(*columns)),
}


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were right once: cut, with flipped bits, or with bytes put in."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["cut", "flip", "insert"]))
        if kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


def only_corrupt(decode: Callable[[], Any]) -> None:
    """Decode; the one exception allowed is WireCorruptError."""
    with contextlib.suppress(WireCorruptError):
        decode()


@pytest.mark.parametrize("name", sorted(DECODERS))
@given(data=st.data())
def test_garbage_gives_only_wire_corrupt_error(name: str, data: st.DataObject) -> None:
    """Random and damaged bytes decode to something or are WireCorruptError, never another error."""
    garbage = data.draw(st.binary(max_size=80) | damaged(WHOLE[name]), label="bytes")
    only_corrupt(lambda: DECODERS[name](garbage))


@given(data=damaged(MARKERS.map(encode_marker)), marker=MARKERS)
def test_a_damaged_marker_is_refused(data: bytes, marker: Marker) -> None:
    """Markers have a checksum: what decodes is what was written."""
    try:
        found = decode_marker(data)
    except WireCorruptError:
        return
    assert encode_marker(found) == data
    assert decode_marker(encode_marker(marker)) == marker


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["parent", "tasks", "skips", "settings", "run", "ends", "offsets"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    key=KEYS,
    value=st.one_of(
        damaged(RECORDS.map(encode_value)),
        st.binary(max_size=60),
        st.tuples(U16, st.binary(max_size=60)).map(
            lambda t: with_checksum(b"\1" + bytes([t[0] % 11]) + t[1])
        ),
    ),
)
def test_garbage_in_the_lineage_topic(key: bytes | None, value: bytes) -> None:
    """Keys and values that do not fit, also with a right checksum: only WireCorruptError."""
    only_corrupt(lambda: decode_record(key, value))


@given(record=RECORDS, data=st.data())
def test_records_of_any_json(record: LineageRecord, data: st.DataObject) -> None:
    """A right key and checksum over JSON of another shape: only WireCorruptError."""
    value = encode_value(record)
    if isinstance(record, Segment):
        body = data.draw(st.binary(max_size=30))
    else:
        document = json.loads(value[2:-4])
        for name in data.draw(st.sets(st.sampled_from(sorted(document)))) if document else ():
            document[name] = data.draw(JSON)
        body = json.dumps(document).encode()
    only_corrupt(lambda: decode_record(encode_key(record), with_checksum(value[:2] + body)))


@given(JSON)
def test_reader_tables_of_any_json(document: Any) -> None:
    """A reader state may come from a user's database: only WireCorruptError."""
    only_corrupt(lambda: ReaderState.from_json(document))
    only_corrupt(
        lambda: ReaderState.from_json(
            {"internal": True, "inc": document, "seq": document, "end": document}
        )
    )


@given(st.text())
def test_committed_positions_of_any_text(metadata: str) -> None:
    """Metadata of another client's offset: only WireCorruptError."""
    only_corrupt(lambda: CommittedPositions.decode(metadata))


@given(lineages())
def test_the_checker_reads_what_the_core_writes(lineage: Lineage) -> None:
    """`kstash verify` shares no code with it, and finds the same ends of inputs."""
    runs = []
    for entry in lineage.entries:
        if isinstance(entry, Consumed):
            runs.append((entry.input, end_of(entry), entry.end_offset))
        elif isinstance(entry, MergedBatch):
            runs += [(part.input, end_of(entry), part.place.offset) for part in entry.parts]
    assert [tuple(run) for run in check_chunk(encode_lineage(*lineage))] == runs


# -- cutting and joining -------------------------------------------------------------------------


@given(lineages(has_gaps=False), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1))))
def test_copies_join_to_the_whole(lineage: Lineage, cuts: list[tuple[float, float]]) -> None:
    """Any set of overlapping copies of one history joins to it as far as they reach."""
    start, end, entries = lineage
    end = max(start, contiguous_end(entries, start))
    pieces: list[list[Determinant]] = []
    for low, high in cuts:
        first = start + int((end - start) * min(low, high))
        last = start + int((end - start) * max(low, high))
        first = next(
            (
                e.position
                for e in entries
                if isinstance(e, MergedBatch) and e.position < first < end_of(e)
            ),
            first,
        )
        # Copies end where an output or a segment ended: never within a run.
        last = max((end_of(e) for e in entries if end_of(e) <= last), default=start)
        pieces.append(lineage_until(lineage_from(entries, first), last))
    joined = merge_lineage([*pieces, entries], start)
    assert joined == merge_lineage([entries], start)
    assert contiguous_end(joined, start) == end


@given(lineages(has_gaps=False), st.floats(0, 1))
def test_a_cut_loses_nothing(lineage: Lineage, where: float) -> None:
    """Both sides of a cut cover what the whole covers."""
    start, _, entries = lineage
    end = max(start, contiguous_end(entries, start))
    cut = start + int((end - start) * where)
    if any(isinstance(e, MergedBatch) and e.position < cut < end_of(e) for e in entries):
        return  # it is one
    assert contiguous_end(lineage_until(entries, cut), start) == cut
    assert contiguous_end(lineage_from(entries, cut), cut) == end

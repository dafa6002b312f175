"""Whatever others write into a sink, a scan of it finds what the application wrote (H52)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from kstash.core.determinants import Consumed
from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage_codec import encode_lineage
from kstash.core.plan import TaskSpec
from kstash.core.tail_scan import TailScan
from kstash.core.wire import (
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    Fence,
    Identity,
    decode_identity,
    encode_marker,
)
from kstash.errors import WireCorruptError
from kstash.ports.kafka import Headers
from kstash.runtime.recovery.tails import TailReader
from kstash.testing.kafka.log import MemoryRecord

if TYPE_CHECKING:
    from kstash.ports.kafka import Admin
    from kstash.runtime.layout import Layout

APPLICATION, TASK, OUT = 7, TaskId(0, 0), (0, 0)
KNOWN = (Incarnation(1, 3), Incarnation(1, 5))


def own_headers(number: int) -> Headers:
    """Of the application's record `number`, from 1: two incarnations, a chunk on every third."""
    incarnation = KNOWN[number > 6]
    identity = Identity(APPLICATION, TASK, incarnation, number, 1, number)
    headers: Headers = [(IDENTITY_HEADER, identity.encode())]
    if number % 3 == 0:
        runs = tuple(Consumed(at, at % 2, 1, at + 1) for at in range(number - 3, number))
        headers.append((LINEAGE_HEADER, encode_lineage(number - 3, number, runs)))
    return headers


OWN = [own_headers(number) for number in range(1, 11)]


@st.composite
def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some of them changed, or cut off, or more of them."""
    made = bytearray(data)
    for _ in range(draw(st.integers(0, 3))):
        made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    return bytes(made)[: draw(st.integers(0, len(made)))] + draw(st.binary(max_size=3))


_VALUES = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.integers(1, 10).flatmap(lambda n: _changed(own_headers(n)[0][1] or b"")),
    _changed(own_headers(3)[1][1] or b""),
    _changed(encode_marker(Fence(APPLICATION, ((0, Incarnation(1, 99)),)))),
    st.builds(
        lambda inc, position, count, first: Identity(
            APPLICATION, TASK, Incarnation(1, inc), position, count, first
        ).encode(),
        st.integers(0, 9),
        st.integers(0, 1 << 50),
        st.integers(1, 3),
        st.integers(1, 1 << 50),
    ),
)
_NAMES = st.sampled_from([IDENTITY_HEADER, LINEAGE_HEADER, MARKER_HEADER, "__kstash.x", "user"])
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=4)


def is_convincing(headers: Headers) -> bool:
    """Whether a record is a whole one of an incarnation that there was."""
    for name, value in headers:
        if name == IDENTITY_HEADER:
            try:
                identity = decode_identity(value or b"")
            except WireCorruptError:
                continue
            writer = identity.application, identity.task
            if writer == (APPLICATION, TASK) and identity.incarnation in KNOWN:
                return identity.count == 1
    return False


def scanned(log: list[Headers]) -> object:
    """What a scan of a sink finds."""
    spec = TaskSpec(TASK, implicit=False, sink_outputs=(OUT,), scanned_sinks=(OUT,))
    scan = TailScan(spec, starts={OUT: (0, KNOWN[0])}, known=KNOWN)
    layout = SimpleNamespace(
        topology=SimpleNamespace(stages=[SimpleNamespace(index=0)]),
        kafka_partition=lambda *_: ("out", 0),
    )
    tails = TailReader(
        cast("Admin", None),  # it asks for no ends here
        cast("Layout", layout),
        scans=[scan],
        fence_offsets={},
        application=APPLICATION,
        skipped=(),
    )
    for offset, headers in enumerate(log):
        is_own = any(headers is own for own in OWN)
        value = b"own" if is_own else b"foreign"
        record = MemoryRecord(
            "out", 0, offset, key=b"k", value=value, headers=headers, timestamp_ms=5
        )
        tails.take(record, record.headers() or [])
    return scan.position, scan.chunks, tails.stored


EXPECTED = scanned(OWN)


@given(st.lists(st.tuples(st.integers(0, 10), _HEADERS), max_size=8))
def test_records_of_others_change_nothing(foreign: list[tuple[int, Headers]]) -> None:
    """Anywhere between our own, with any headers, they neither stop a scan nor add to it."""
    log = list(OWN)
    for place, headers in sorted(foreign, key=lambda entry: -entry[0]):
        if not is_convincing(headers):
            log.insert(place, headers)
    assert scanned(log) == EXPECTED


@given(st.lists(st.integers(0, 9), max_size=8))
def test_copies_change_nothing(copied: list[int]) -> None:
    """A record whose headers were copied from an earlier one is not taken for it."""
    log = [*OWN, *(list(OWN[number]) for number in copied)]
    assert scanned(log) == EXPECTED

"""Records of others in a sink never decide a recovery (H52); damaged ones in an input are named.

Source: SECURITY.md. Whoever writes into a sink may write any bytes under the names of our headers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import kstash
from kstash import App
from kstash.core.determinants import Consumed
from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage_codec import encode_lineage
from kstash.core.wire import (
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    End,
    Fence,
    Identity,
    application_tag,
    decode_identity,
    encode_marker,
)
from kstash.errors import (
    ForeignRecordError,
    KstashError,
    LineageGapError,
    LocatedError,
    SequenceGapError,
    WireCorruptError,
)
from kstash.ports.kafka import Headers
from kstash.testing import TestDriver

HUGE = 1 << 40


def merged(**settings: Any) -> App:
    """Two topics merged: lineage travels in the headers of the sink's records."""
    app = App("own", **settings)
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    left.merge(right).count("counts").to("out", value=kstash.int_text)
    return app


def single(**settings: Any) -> App:
    """One topic: nothing is logged, and positions in headers say how far the history goes."""
    app = App("own", **settings)
    lines = app.stream("l", key=kstash.text, value=kstash.text)
    lines.count("counts").to("out", value=kstash.int_text)
    return app


def newest(driver: TestDriver) -> Identity:
    """The identity of the newest record of our own in the sink."""
    for record in reversed(driver.kafka.read("out", is_committed=False)):
        for name, value in record.headers() or ():
            if name == IDENTITY_HEADER and value and len(value) == 51:
                return decode_identity(value)
    raise AssertionError("nothing was written")


def forged(
    identity: Identity, *, incarnation: Incarnation | None = None, **parts: int
) -> tuple[str, bytes]:
    """An identity header that is another one's but for these parts."""
    made = Identity(
        identity.application,
        identity.task,
        incarnation or identity.incarnation,
        parts.get("position", identity.position),
        parts.get("count", 1),
        parts.get("first_seq", identity.first_seq),
    )
    return IDENTITY_HEADER, made.encode()


def fence(identity: Identity) -> tuple[str, bytes]:
    """A FENCE that would void all that the application writes."""
    void = ((0, Incarnation(identity.incarnation.generation, HUGE)),)
    return MARKER_HEADER, encode_marker(Fence(identity.application, void))


def end(identity: Identity) -> tuple[str, bytes]:
    """An END that would fix a history that never was."""
    marker = End(
        identity.application, 1, identity.task, identity.incarnation, identity.first_seq, HUGE
    )
    return MARKER_HEADER, encode_marker(marker)


def foreign_headers(identity: Identity) -> dict[str, Headers]:
    """Headers that are not all valid, by what is wrong with them."""
    generation, offset = identity.incarnation
    good = IDENTITY_HEADER, identity.encode()
    unknown = Incarnation(generation, offset + HUGE)
    return {
        "no identity": [(IDENTITY_HEADER, b"\xff\xfe")],
        "null": [(IDENTITY_HEADER, None)],
        "cut": [(IDENTITY_HEADER, identity.encode()[:50])],
        "another version": [(IDENTITY_HEADER, b"\x02" + identity.encode()[1:])],
        "no sequence": [(IDENTITY_HEADER, identity.encode()[:-8] + bytes(8))],
        "no chunk": [good, (LINEAGE_HEADER, b"\xff\xff")],
        "null chunk": [good, (LINEAGE_HEADER, b"")],
        "a chunk without an end": [good, (LINEAGE_HEADER, b"\x01\x00\x05\x00\xff\xff\xff")],
        "unknown incarnation": [forged(identity, incarnation=unknown, position=HUGE)],
        "unknown generation": [
            forged(identity, incarnation=Incarnation(generation + 1, 0), position=HUGE)
        ],
        "two records in one": [forged(identity, count=2, position=HUGE, first_seq=HUGE)],
        "a copy": [good],
        "a copy that claims more": [forged(identity, position=HUGE)],
        "a sequence beyond all": [forged(identity, first_seq=HUGE)],
        "no marker": [(MARKER_HEADER, b"\x01\x01garbage")],
        "a fence": [fence(identity)],
        "an end": [end(identity)],
        "a fence beside an identity": [
            fence(identity),
            forged(identity, position=HUGE, first_seq=HUGE),
        ],
    }


KINDS = list(
    foreign_headers(Identity(application_tag("own"), TaskId(0, 0), Incarnation(1, 1), 1, 1, 1))
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("app", [merged, single], ids=["merged", "single"])
def test_h52_records_of_others_in_a_sink_are_nobodys(app: Callable[..., App], kind: str) -> None:
    """Before, between and after our own: the next starts find what they would have found."""
    with TestDriver(app(), lineage_delay_s=1) as driver:
        for number in range(3):
            driver.send("l", "x", "k")
            driver.kafka.append("out", b"foreign", headers=foreign_headers(newest(driver))[kind])
            if number:
                driver.crash()
                driver.recover()
        driver.send("l", "x", "k")
        driver.advance(12)
        driver.crash()
        driver.recover()
        driver.send("l", "x", "k")
        assert driver.state("counts") == {"k": 5}
        driver.advance(1)
        own = [r.value() for r in driver.kafka.read("out") if r.value() != b"foreign"]
        assert own == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize(
    ("app", "kind", "error"),
    [
        (single, "position", ForeignRecordError),
        (merged, "position", LineageGapError),
        (single, "chunk", ForeignRecordError),
        (merged, "chunk", ForeignRecordError),
    ],
)
def test_h52_what_cannot_be_is_refused_and_not_waited_for(
    app: Callable[..., App], kind: str, error: type[LocatedError]
) -> None:
    """A copied identity may claim a history that no input holds: the place is named, and passed."""
    with TestDriver(app(), lineage_delay_s=1) as driver:
        driver.send("l", "x", "k")
        own = newest(driver)
        headers: Headers = [forged(own, position=HUGE, first_seq=2)]
        if kind == "chunk":
            run = (Consumed(1, 0, HUGE, HUGE),)
            headers = [forged(own, first_seq=2), (LINEAGE_HEADER, encode_lineage(1, 1 + HUGE, run))]
        driver.crash()
        offset = driver.kafka.append("out", b"foreign", headers=headers).offset()
        with pytest.raises(error, match=f"topic 'out', partition 0, offset {offset}") as caught:
            driver.recover()
        assert caught.value.skip == f"out/0/{offset}"
        driver.rig.config = app(skip_records=caught.value.skip).config
        driver.recover()
        driver.send("l", "x", "k")
        assert driver.state("counts") == {"k": 2}


def test_h52_headers_that_do_not_decode_on_an_internal_topic_stop_the_writer_too() -> None:
    """Nobody else writes there; when somebody did all the same, the record can be passed over."""
    app = App("own")
    words = app.stream("l", value=kstash.text)
    words.key_by(str, key=kstash.text).count("words").to("out", value=kstash.int_text)
    topic = "own-words-repartition"
    with TestDriver(app) as driver:
        driver.send("l", "a")
        frames = driver.kafka.read(topic)
        identity = next(
            value
            for frame in frames
            for name, value in frame.headers() or ()
            if name == IDENTITY_HEADER
        )
        assert identity is not None
        driver.crash()
        offset = driver.kafka.append(
            topic, b"", headers=[(IDENTITY_HEADER, identity[:40])]
        ).offset()
        with pytest.raises(WireCorruptError, match=f"offset {offset}") as caught:
            driver.recover()
        assert caught.value.skip == f"{topic}/0/{offset}/all"
        plain = driver.rig.config
        driver.rig.config = plain.override(skip_records=caught.value.skip)
        driver.recover()
        driver.send("l", "a")
        driver.advance(30)
        driver.rig.config = plain
        driver.crash()
        driver.recover()
        driver.send("l", "a")
        assert [record.value for record in driver.read("out")] == [1, 2, 3]


# -- inputs that are another application's immediate sinks ---------------------------------------


def reader(**settings: Any) -> App:
    """Counts the outputs of another application, at once."""
    app = App("reader", **settings)
    outputs = app.stream("out", key=kstash.text, value=kstash.text, immediate_of="own")
    outputs.count("seen").to("sums", value=kstash.int_text)
    return app


def output(first_seq: int, claim: int = 5) -> Headers:
    """Headers of a record of the other application."""
    identity = Identity(
        application_tag("own"), TaskId(0, 0), Incarnation(1, claim), first_seq, 1, first_seq
    )
    return [(IDENTITY_HEADER, identity.encode())]


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([(IDENTITY_HEADER, b"\xff\xfe")], WireCorruptError),
        ([(MARKER_HEADER, b"garbage")], WireCorruptError),
        ([(IDENTITY_HEADER, bytes(50))], WireCorruptError),
        (
            [fence(Identity(application_tag("own"), TaskId(0, 0), Incarnation(1, 5), 1, 1, 1))],
            WireCorruptError,
        ),
        ([], WireCorruptError),
        (output(HUGE), SequenceGapError),
    ],
    ids=["damaged", "no marker", "cut", "a fence", "plain", "a jump"],
)
def test_h52_a_record_of_others_in_an_immediate_input_is_named_and_passed_over(
    headers: Headers, error: type[KstashError]
) -> None:
    """It is no event, in no replay; what the application wrote is counted."""
    with TestDriver(reader()) as driver:
        driver.kafka.append("out", b"1", key=b"k", headers=output(1))
        offset = driver.kafka.append("out", b"foreign", key=b"k", headers=headers).offset()
        driver.kafka.append("out", b"2", key=b"k", headers=output(2))
        with pytest.raises(error, match=f"topic 'out', partition 0, offset {offset}"):
            driver.advance(1)
        driver.rig.config = reader(skip_records=f"out/0/{offset}").config
        driver.recover()
        driver.kafka.append("out", b"3", key=b"k", headers=output(3))
        driver.advance(1)
        driver.rig.config = reader().config
        driver.crash()
        driver.recover()
        assert driver.state("seen") == {"k": 3}


def test_h52_a_marker_beside_an_identity_in_an_immediate_input_is_nobodys() -> None:
    """The record counts as what its identity says."""
    mark = fence(Identity(application_tag("own"), TaskId(0, 0), Incarnation(1, 5), 1, 1, 1))
    with TestDriver(reader()) as driver:
        driver.kafka.append("out", b"1", key=b"k", headers=[mark, *output(1)])
        driver.kafka.append("out", b"2", key=b"k", headers=output(2))
        driver.advance(1)
        assert driver.state("seen") == {"k": 2}

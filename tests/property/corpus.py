"""Bytes of every kind that kstash decodes, made by what encodes them, and damage to them.

A seed is right bytes. `mutants` makes wrong ones of seeds: flipped bits, cuts, pieces of others,
lengths and numbers out of all proportion, nesting. What has a checksum or is compressed is
mutated inside, and gets a checksum that fits: damage there is found by chance, and forgery is not.
"""

from __future__ import annotations

import base64
import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import kstash
from kstash.core.determinants import (
    Attachment,
    Completed,
    Consumed,
    Flush,
    Idle,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
)
from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage_codec import encode_lineage
from kstash.core.reader import ReaderState
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import BoundedRun
from kstash.core.sink import CommittedPositions
from kstash.core.wire import IDENTITY_HEADER, LINEAGE_HEADER, MARKER_HEADER, End, encode_marker
from kstash.kafka.bookmarks import Bookmark
from kstash.testing import TestDriver

INPUT_BYTES_MAX = 1 << 16
"""A mutant is cut there: what is larger shows nothing new."""

DEPTH = 30_000

_NUMBER = re.compile(rb"[0-9]+")


@dataclass(slots=True)
class Seen:
    """What an application has left in Kafka, by what it is.

    Attributes:
        identities, chunks, markers: values of headers.
        frames: (number of records, value) of internal topics.
        lineage: (key, value) of the lineage topic.
    """

    identities: list[bytes] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    markers: list[bytes] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    lineage: list[tuple[bytes, bytes]] = field(default_factory=list)


def _words(app_id: str) -> kstash.App:
    app = kstash.App(app_id, checkpoint_interval_ms=100, frame_bytes_max=1024)
    lines = app.stream("left", "right", value=kstash.text)
    counts = lines.flat_map(str.split).key_by(str, key=kstash.text).count("words")
    counts.to("out", value=kstash.int_text)
    counts.to("plain", value=kstash.int_text, delivery="transactional")
    return app


@cache
def seen() -> Seen:
    """Of a word count over two inputs that crashed, recovered and was checkpointed."""
    found = Seen()
    with TestDriver(_words("corpus"), partitions=2, lineage_delay_s=0.05) as driver:
        for number in range(30):
            topic = ("left", "right")[number % 2]
            driver.send(topic, f"a b{number} ä", headers=[("h", b"1"), ("n", None)])
            if number == 12:
                driver.crash()
                driver.recover()
            driver.advance(0.2)
        kafka = driver.kafka
    for topic in kafka.topics():
        for record in kafka.read(topic, is_committed=False):
            value = record.value()
            headers = dict(record.headers() or [])
            found.identities += _present(headers.get(IDENTITY_HEADER))
            found.chunks += _present(headers.get(LINEAGE_HEADER))
            found.markers += _present(headers.get(MARKER_HEADER))
            if topic.endswith("-repartition"):
                found.frames += _present(value)
            if topic.endswith("-lineage") and value is not None:
                found.lineage.append((record.key() or b"", value))
    task, incarnation = TaskId(1, 3), Incarnation(1_600_000_000_000, 7)
    found.markers.append(encode_marker(End(5, 6, task, incarnation, 42, 1000)))
    place = InputPlace(9, 1, -5)
    entries = (
        Consumed(5, 0, 3, 8),
        Tick(9, 10**12),
        MergedBatch(10, (MergedInput(0, 2, place), MergedInput(1, 1, place))),
        Attachment(11, 0, 1, 2, b"payload"),
        Consumed(13, 1, 4, 30),
        Flush(17, 0),
        Idle(18, 1, 10**12),
        Completed(19, b"call", incarnation),
    )
    found.chunks.append(encode_lineage(5, 20, entries))
    found.frames.append(encode_frame([b"k", None], None, [1, -2], [[("ä", None)], None]))
    found.frames.append(encode_frame([b"k", None], None, [1, 9], None, [-1, 500], [1]))
    run = BoundedRun(incarnation, 9, (("left", 0, 10), ("right", 1, 0)))
    found.lineage.append((encode_key(run), encode_value(run)))
    return found


def _present(value: bytes | None) -> list[bytes]:
    return [] if value is None else [value]


@cache
def bookmarks() -> list[bytes]:
    """JSON of what readers save, not compressed, and committed positions."""
    table = ReaderState(is_internal=False)
    table.max_incarnation[1 << 63, 3] = Incarnation(1_600_000_000_000, 7)
    table.last_seq[5, TaskId(1, 3)] = 42
    table.ends[5, TaskId(1, 3)] = 1 << 63
    texts = [Bookmark(17, table).encode(), Bookmark(-1).encode()]
    return [zlib.decompress(base64.b64decode(text.removeprefix("z1;"))) for text in texts]


def positions() -> list[bytes]:
    """Metadata of commits."""
    return [CommittedPositions(1_600_000_000_000, {0: 7, 1: 20}).encode().encode()]


Mutation = Callable[[random.Random, bytearray, list[bytes]], None]


def _flip(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : rng.choice([len(data), at + rng.randrange(9)])]


def _splice(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    other = rng.choice(seeds)
    start = rng.randrange(len(other) + 1)
    piece = other[start : start + rng.randrange(40)]
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice([0, len(piece)])] = piece


def _repeat(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = data[at : at + 1 + rng.randrange(30)] * rng.choice([1, 2, 100, 1000])


def _inflate(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    """A length, a count or a varint becomes as large as it can be written, or one too many."""
    width = rng.choice([1, 2, 4, 8])
    at = rng.randrange(len(data) + 1)
    value = rng.choice(
        [0, 1, (1 << 8 * width) - 1, 1 << (8 * width - 1), 1 << rng.randrange(8 * width)]
    )
    order = rng.choice(["big", "little"])
    written = value.to_bytes(width, "big" if order == "big" else "little")
    if rng.random() < 0.3:
        written = b"\xff" * rng.randrange(12) + b"\x7f"
    data[at : at + rng.choice([0, len(written)])] = written


def _digits(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    """A number in a text becomes another one, or something else."""
    found = list(_NUMBER.finditer(data))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = rng.choice(
            [
                *(b"-1", b"1e400", b"1.5", b"NaN", b"-0", b"1" * 5000, b"9" * 19, b"1" + b"0" * 20),
                *(b"true", b"null", b'"1"', b"[]", b"{}", b"\xc2\xb2", b"\xd9\xa1"),
            ]
        )


def _nest(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice([b"[", b'{"a":', b"\x91", b"("]) * rng.choice([1, 1000, DEPTH])


def _odd_text(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(
        [b"\xff", b"\x00", b"\\ud800", b"\xed\xa0\x80", b'"', b"/", b"..", b"\x1b[2J"]
    )


MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _cut,
    _splice,
    _repeat,
    _inflate,
    _digits,
    _nest,
    _odd_text,
)


def mutants(seeds: list[bytes], rng: random.Random) -> Iterator[bytes]:
    """Seeds as they are first, then without end what becomes of them."""
    yield from seeds
    while True:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
            rng.choice(MUTATIONS)(rng, data, seeds)
            del data[INPUT_BYTES_MAX:]
        yield bytes(data)

"""A reader of immediate sinks, without a broker."""

from __future__ import annotations

import base64
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from kstash.errors import WireCorruptError
from kstash.kafka import immediate


class Closing:
    """A client whose group gives it a partition while it closes."""

    def __init__(self, _settings: object) -> None:
        self.assigned: list[list[TopicPartition]] = []
        self._on_assign: Callable[..., None] | None = None

    def subscribe(self, _topics: list[str], **callbacks: Callable[..., None]) -> None:
        """Join the group."""
        self._on_assign = callbacks["on_assign"]

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Read these."""
        self.assigned.append(partitions)

    incremental_assign = assign

    def committed(self, *_: object) -> list[TopicPartition]:
        """No answer comes any more."""
        raise AssertionError("asked for committed offsets")

    def close(self) -> None:
        """Another member left just before."""
        assert self._on_assign is not None
        self._on_assign(self, [TopicPartition("out", 0)])


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_reader_that_closes_begins_nothing(
    monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """What it is given then is not looked up: that would wait, and fail, within `close`."""
    clients: list[Closing] = []

    def make(settings: Any, **_: object) -> Closing:
        clients.append(Closing(settings))
        return clients[-1]

    monkeypatch.setattr(immediate, "make_consumer", make)
    reader = immediate.ImmediateReader({"partition.assignment.strategy": strategy}, ["out"])
    reader.close()
    assert clients[0].assigned == [[]]
    assert reader.bookmarks() == {}


def bookmark(data: bytes) -> str:
    """A bookmark of any JSON."""
    return "z1;" + base64.b64encode(zlib.compress(data, 9)).decode()


TABLE = b'{"internal":false,"inc":[],"seq":[[1,2,3,-1]],"end":[]}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "z2;" + bookmark(b"{}")[3:],
        "z1;\u0661",
        bookmark(b"[" * 1_000_000),
        bookmark(b'{"offset":1e999,"table":%b}' % TABLE),
        bookmark(b'{"offset":"5","table":%b}' % TABLE),
        bookmark(b'{"offset":-2,"table":%b}' % TABLE),
        bookmark(b'{"offset":9223372036854775808,"table":%b}' % TABLE),
        bookmark(b'{"offset":' + b"9" * 5000 + b"}"),
        bookmark(b'{"offset":5,"table":{"internal":false,"inc":[[1,2,3]],"seq":[],"end":[]}}'),
        bookmark(b'{"offset":5,"table":7}'),
        bookmark(b" " * (immediate.BOOKMARK_BYTES_MAX + 1)),
        bookmark(b'{"offset":5,"table":%b}' % TABLE)[:-4],
    ],
)
def test_what_is_no_bookmark_is_told(text: str) -> None:
    """Whatever the metadata of a group's offsets holds: one typed error, and bounded memory."""
    with pytest.raises(WireCorruptError):
        immediate.Bookmark.decode(text)


def test_a_zlib_bomb_is_not_inflated() -> None:
    """A megabyte of metadata could stand for a gigabyte."""
    bomb = bookmark(b"0" * (256 << 20))
    tracemalloc.start()
    with pytest.raises(WireCorruptError, match="at most"):
        immediate.Bookmark.decode(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * immediate.BOOKMARK_BYTES_MAX


def test_a_bookmark_comes_back() -> None:
    """Also one of a partition that nothing came from."""
    for offset in (-1, 0, 2**62):
        made = immediate.Bookmark(offset)
        assert immediate.Bookmark.decode(made.encode()) == made
    assert immediate.Bookmark.decode(bookmark(b'{"offset":5,"table":%b}' % TABLE)).offset == 5

"""A reader of immediate sinks, without a broker."""

from __future__ import annotations

import base64
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from structlog.testing import capture_logs

from kstash.errors import ConfigError, KafkaUnavailableError, WireCorruptError
from kstash.kafka import bookmarks, closing, immediate


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


class Group:
    """A client that is given two partitions by its first `poll`, and gives them up in `close`.

    Attributes:
        acts: what was asked of it, in order.
        refusal: what it says when it is asked for committed offsets, or raises.
    """

    def __init__(self) -> None:
        self.acts: list[str] = []
        self.refusal: KafkaError | KafkaException | None = None
        self.is_away = threading.Event()
        self._callbacks: dict[str, Callable[..., None]] = {}
        self._held = [TopicPartition("out", 0), TopicPartition("out", 1)]

    def subscribe(self, _topics: list[str], **callbacks: Callable[..., None]) -> None:
        """Join the group."""
        self._callbacks = callbacks

    def committed(self, partitions: list[TopicPartition], _: float) -> list[TopicPartition]:
        """Nothing, or not to be had: all, or that of partition 1."""
        if isinstance(self.refusal, KafkaException):
            raise self.refusal
        return [Committed(p.partition, self.refusal if p.partition else None) for p in partitions]  # type: ignore[misc]

    def assign(self, _: list[TopicPartition]) -> None:
        """Read these."""
        self.acts.append("assign")

    def unassign(self) -> None:
        """Read nothing."""

    def poll(self, _: float) -> None:
        """Nothing is there."""
        self._callbacks["on_assign"](self, self._held)

    def consume(self, *_: object) -> list[Any]:
        """It cannot."""
        raise KafkaException(KafkaError(KafkaError._FATAL))

    def close(self) -> None:
        """Give up what is held, and wait for the broker."""
        self.acts.append("close")
        if "on_revoke" in self._callbacks:
            self._callbacks["on_revoke"](self, self._held)
        self.is_away.wait(60)


class Committed:
    """What a client says that a group has committed."""

    def __init__(self, partition: int, error: KafkaError | None) -> None:
        self.topic, self.partition, self.error = "out", partition, error
        self.offset, self.metadata = -1001, None


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    """A client whose broker answers until it is said to be away."""
    client = Group()
    client.is_away.set()
    monkeypatch.setattr(immediate, "make_consumer", lambda _, **__: client)
    yield client
    client.is_away.set()


def test_a_reader_does_not_wait_for_a_broker_that_is_away(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client would, for as long as that takes; again is fine."""
    monkeypatch.setattr(closing, "CLOSE_DEADLINE_S", 0.01)
    group.is_away.clear()
    reader = immediate.ImmediateReader({"client.id": "mine"}, ["out"])
    with capture_logs() as logs:
        reader.close()
        reader.close()
    assert [line["client"] for line in logs] == ["mine"]
    assert group.acts == ["close"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_reader_holds_is_saved_before_it_closes(group: Group, fails: bool) -> None:
    """Once, in the caller's thread and however long it takes; what it raises is the caller's."""
    told: list[tuple[list[tuple[str, int]], str]] = []

    def save(partitions: list[tuple[str, int]]) -> None:
        told.append((partitions, threading.current_thread().name))
        group.acts.append("save")
        if fails:
            raise ZeroDivisionError

    reader = immediate.ImmediateReader({}, ["out"], on_revoked=save)
    reader.poll(0)
    if fails:
        with pytest.raises(ZeroDivisionError):
            reader.close()
    else:
        reader.close()
    assert told == [([("out", 0), ("out", 1)], threading.current_thread().name)]
    assert group.acts == ["assign", "save", "close"]
    assert reader.bookmarks() == {}


@pytest.mark.parametrize(
    ("refusal", "places"),
    [
        (
            KafkaException(KafkaError(KafkaError._TIMED_OUT)),
            "'out' partition 0, 'out' partition 1 were",
        ),
        (KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), "of 'out' partition 1 were"),
    ],
)
def test_bookmarks_that_are_not_to_be_had(
    group: Group, refusal: KafkaError | KafkaException, places: str
) -> None:
    """Which, and why; nothing is read then."""
    group.refusal = refusal
    reader = immediate.ImmediateReader({}, ["out"])
    with pytest.raises(KafkaUnavailableError, match=places) as caught:
        reader.poll(0)
    assert ("_TIMED_OUT" in str(caught.value)) == isinstance(refusal, KafkaException)
    assert group.acts == []


def test_a_reader_that_cannot_read(group: Group) -> None:
    """What its client raises is told as ours."""
    reader = immediate.ImmediateReader({}, ["out"])
    with pytest.raises(KafkaUnavailableError, match="_FATAL"):
        reader.consume()
    assert group.acts == []


@pytest.mark.parametrize("wrong", [5, 0, 1.5, True, b"x", "out", "", object(), (5,), [""], [None]])
def test_arguments_of_a_reader(group: Group, wrong: Any) -> None:
    """Of another type: refused, by the name, before there is a client. A text is no list."""
    arguments: dict[str, Any] = {"settings": {}, "topics": ["out"]}
    for name in ("settings", "topics", "restore", "on_revoked", "metadata_bytes_max"):
        if (name, wrong) == ("metadata_bytes_max", 5):
            continue
        with pytest.raises(ConfigError, match=name):
            immediate.ImmediateReader(**{**arguments, name: wrong})
    with pytest.raises(ConfigError, match="topics"):
        immediate.ImmediateReader({}, [])
    assert group.acts == []


@pytest.mark.parametrize("wrong", [5, "z1;", {}, (3, None)])
def test_what_restore_gives(group: Group, wrong: Any) -> None:
    """A bookmark, not its text."""
    reader = immediate.ImmediateReader({}, ["out"], restore=lambda *_: wrong)
    with pytest.raises(ConfigError, match=r"restore gives .* for 'out' partition 0"):
        reader.poll(0)
    assert group.acts == []


def test_topics_that_cannot_be_subscribed_to(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pattern that is none."""

    def refuse(*_: object, **__: object) -> None:
        raise KafkaException(KafkaError(KafkaError._INVALID_ARG))

    monkeypatch.setattr(group, "subscribe", refuse)
    with pytest.raises(ConfigError, match=r"topics \['\^\('\] .*_INVALID_ARG"):
        immediate.ImmediateReader({}, ["^("])


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
        bookmark(b" " * (bookmarks.BOOKMARK_BYTES_MAX + 1)),
        bookmark(b'{"offset":5,"table":%b}' % TABLE)[:-4],
    ],
)
def test_what_is_no_bookmark_is_told(text: str) -> None:
    """Whatever the metadata of a group's offsets holds: one typed error, and bounded memory."""
    with pytest.raises(WireCorruptError):
        bookmarks.Bookmark.decode(text)


def test_a_zlib_bomb_is_not_inflated() -> None:
    """A megabyte of metadata could stand for a gigabyte."""
    bomb = bookmark(b"0" * (256 << 20))
    tracemalloc.start()
    with pytest.raises(WireCorruptError, match="at most"):
        bookmarks.Bookmark.decode(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * bookmarks.BOOKMARK_BYTES_MAX


def test_a_bookmark_comes_back() -> None:
    """Also one of a partition that nothing came from."""
    for offset in (-1, 0, 2**62):
        made = bookmarks.Bookmark(offset)
        assert bookmarks.Bookmark.decode(made.encode()) == made
    assert bookmarks.Bookmark.decode(bookmark(b'{"offset":5,"table":%b}' % TABLE)).offset == 5

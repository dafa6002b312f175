"""URIs in the checkpoint topic: what one may claim, and what reading it costs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import pytest

from kstash.errors import CheckpointCorruptError
from kstash.ports.kafka import Admin, Partition
from kstash.settings.config import Config
from kstash.stores.chunk_uri import CHUNKS_MAX, ChunkUri
from kstash.stores.topic import CheckpointTopic

END = 50


class OneAdmin:
    """Tells the ends of partitions, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Each ends at `END`."""
        self.asked += 1
        return dict.fromkeys(partitions, END)

    def start_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Each begins at 0."""
        return dict.fromkeys(partitions, 0)


def store(admin: OneAdmin) -> CheckpointTopic:
    """A store without a Kafka: nothing here gets as far as reading."""
    config = Config.load(application_id="app", bootstrap_servers="localhost:1")
    return CheckpointTopic(config, admin=lambda: cast("Admin", admin))


@pytest.mark.parametrize("ranges", ["", "0+1", "5+2,9+1", "7+1,0+3"])
def test_a_uri_comes_back(ranges: str) -> None:
    """As it was written."""
    uri = f"topic:3:{ranges}:count_3/1-2/ab~00"
    place = ChunkUri.parse(uri)
    assert str(place) == uri
    assert len(list(place.offsets())) == place.count


@pytest.mark.parametrize(
    "uri",
    [
        "topic",
        "topic:",
        "topic:0:0+1",
        "topic:0:0+1:",
        "topic:-1:0+1:k",
        "topic:0:-5+1:k",
        "topic:0:0+-1:k",
        "topic:0:0+0:k",
        "topic:0:0:k",
        "topic:0:0+1+2:k",
        "topic:0:0+1,:k",
        "topic:0:,0+1:k",
        "topic:0: 0+1:k",
        "topic:0:٣+1:k",
        "topic:0:1_0+1:k",
        f"topic:0:0+{CHUNKS_MAX + 1}:k",
        f"topic:0:0+{CHUNKS_MAX},0+1:k",
        f"topic:0:{'9' * 5000}+1:k",
        "object:a/b/c",
    ],
)
def test_a_malformed_uri_is_refused(uri: str) -> None:
    """Typed, and cheap: nothing is made as long as the URI claims."""
    with pytest.raises(CheckpointCorruptError):
        ChunkUri.parse(uri)


@pytest.mark.parametrize(
    ("uri", "size", "says"),
    [
        ("topic:0:0+1000000000:k", 1 << 40, "no file has 1000000000 chunks"),
        ("topic:0:0+2000000:k", 10, "claims 2000000 chunks for 10 bytes"),
        ("topic:0:0+2:k", 1, "claims 2 chunks"),
        ("topic:0:0+51:k", 100, "ends at 50"),
        ("topic:0:0+1,9000000000000000000+1:k", 100, "ends at 50"),
        ("topic:0:50+1:k", 100, "ends at 50"),
    ],
)
def test_a_uri_claims_no_more_than_its_size(uri: str, size: int, says: str) -> None:
    """Nor offsets that the partition does not have: a reader would wait for them."""
    with pytest.raises(CheckpointCorruptError, match=says):
        next(iter(store(OneAdmin()).get(uri, size)))


def test_what_is_no_uri_of_the_store_is_missing() -> None:
    """And is told so for all others too."""
    good, bad = "topic:0:0+50:k", "topic:0:0+1000000000:k"
    assert store(OneAdmin()).missing([good, bad, "x", "topic:0:49+2:k"]) == {
        bad,
        "x",
        "topic:0:49+2:k",
    }


def test_strays_of_odd_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that no chunk has makes no tombstones; known URIs may be anything."""

    class Chunk:
        def __init__(self, key: bytes) -> None:
            self._key = key

        def key(self) -> bytes:
            return self._key

        def value(self) -> bytes:
            return b"x"

    keys = [b"count_0/1-2/ab~0/1", b"count_0/1-2/ab~0/99999999", b"count_0/1-2/cd~0/" + b"9" * 30]
    keys += ["count_0/1-2/ef~0/²".encode(), b"count_0/", b"\xff\xfe/1", b""]
    made = store(OneAdmin())

    def read(*_: Any) -> list[Any]:
        return [Chunk(key) for key in keys]

    monkeypatch.setattr(made, "_read", read)
    found = made.unknown_files(0, "count_0", ["topic:0:0+1000000000:k", "x", "topic:0:0+1:k"])
    assert found == [("count_0/1-2/ab", "topic:0:0+2:count_0/1-2/ab~0")]

"""One contract for all checkpoint stores: in memory, in a topic, in a folder, behind obstore.

The object stores of the clouds are obstore's business; what kstash does with them is tested over
its store in memory, which takes the same calls.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer as Client
from obstore.store import MemoryStore

from kstash.broker import DevBroker
from kstash.errors import CheckpointCorruptError, ConfigError
from kstash.kafka import KafkaCluster
from kstash.ports.kafka import NewTopic
from kstash.ports.state import CheckpointStore
from kstash.settings.config import Config
from kstash.startup.topic_settings import checkpoints_topic_config
from kstash.stores.chunk_uri import ChunkUri
from kstash.stores.objects import ObjectCheckpointStore, open_store
from kstash.stores.topic import CHUNK_BYTES, CheckpointTopic
from kstash.testing.stores import MemoryCheckpointStore

LARGE = os.urandom(CHUNK_BYTES * 2 + 4321)
"""Three chunks."""


class World:
    """The stores of two workers over one place."""

    def __init__(self, make: Callable[[], CheckpointStore]) -> None:
        self.store = make()
        self.other = make()

    def close(self) -> None:
        """Close both."""
        self.store.close()
        self.other.close()


@pytest.fixture(params=["memory", "folder", "obstore", "topic"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The same world over all of them."""
    if request.param == "memory":
        memory = MemoryCheckpointStore()
        made = World(lambda: memory)
    elif request.param == "folder":
        made = World(lambda: open_store(f"file://{tmp_path}/a folder", "app"))
    elif request.param == "obstore":
        objects = MemoryStore()
        made = World(lambda: ObjectCheckpointStore(objects, "app"))
    else:
        config = topic_config(request.getfixturevalue("kafka_broker").bootstrap_servers)
        made = World(lambda: topic_store(config))
    yield made
    made.close()


def topic_config(servers: str) -> Config:
    """An application with a checkpoints topic of two partitions, on a real Kafka."""
    application_id = f"stores-{uuid.uuid4().hex[:8]}"
    config = Config.load(application_id=application_id, bootstrap_servers=servers)
    admin = KafkaCluster(config).admin()
    admin.create([NewTopic(f"{application_id}-checkpoints", 2, None, checkpoints_topic_config())])
    admin.close()
    return config


def topic_store(config: Config) -> CheckpointStore:
    """The store in that topic."""
    return CheckpointTopic(config, admin=KafkaCluster(config).admin)


def content(store: CheckpointStore, uri: str) -> bytes:
    """All of a stored file."""
    return b"".join(store.get(uri, 1 << 30))


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
def test_what_is_stored_is_found_by_its_uri(world: World, data: bytes) -> None:
    """By another worker too, whatever the blocks were."""
    blocks = [data[:1000], data[1000:1001], data[1001:]]
    uri = world.store.put(1, "count_1/10-5/abcd", iter(blocks))
    assert "count_1/10-5/abcd" in uri
    assert content(world.other, uri) == data


def test_two_files_at_once_do_not_mix(world: World) -> None:
    """Reading one file while another one is read and a third is stored."""
    first, second = (world.store.put(1, f"count_1/10-5/{n}", [n * LARGE]) for n in (1, 2))
    reading = world.store.get(first, len(LARGE))
    head = next(reading)
    assert content(world.store, second) == 2 * LARGE
    third = world.store.put(1, "count_1/10-5/3", [b"three"])
    assert head + b"".join(reading) == LARGE
    assert content(world.store, third) == b"three"


def test_a_file_that_is_stored_again_is_whole(world: World) -> None:
    """As after a failed attempt; both URIs are right."""
    first = world.store.put(0, "count_0/10-5/abcd", [LARGE])
    second = world.store.put(0, "count_0/10-5/abcd", [LARGE])
    assert content(world.other, first) == content(world.other, second) == LARGE


def test_a_file_that_is_not_there_is_a_damaged_checkpoint(world: World) -> None:
    """Typed, and the URI is in the message."""
    uri = world.store.put(0, "count_0/10-5/abcd", [b"data"])
    foreign = "elsewhere:" + uri
    with pytest.raises(CheckpointCorruptError, match="elsewhere"):
        content(world.store, foreign)
    gone = uri.replace("abcd", "ffff").replace(":0+", ":9000000+")
    with pytest.raises(CheckpointCorruptError, match="ffff"):
        content(world.store, gone)


def test_what_is_missing_is_reported_without_reading(world: World) -> None:
    """After a store was emptied or made anew nothing in it is referred to."""
    uri = world.store.put(0, "count_0/10-5/abcd", [b"data"])
    gone = uri.replace("abcd", "ffff").replace(":0+", ":9000000+")
    foreign = "elsewhere:" + uri
    assert world.other.missing({uri}) == set()
    assert world.other.missing({uri, gone, foreign}) == {gone, foreign}


def test_strays_are_found_and_deleted(world: World) -> None:
    """Of one folder only, and not those that are known; again is fine."""
    kept = world.store.put(0, "count_0/10-5/aa", [LARGE])
    stray = world.store.put(0, "count_0/10-7/bb", [LARGE])
    neighbour = world.store.put(0, "count_0b_0/10-7/cc", [b"c"])
    other_group = world.store.put(1, "count_1/10-7/dd", [b"d"])
    found = world.other.unknown_files(0, "count_0", {kept})
    assert [name for name, _ in found] == ["count_0/10-7/bb"]
    for _ in range(2):
        world.other.delete([uri for _, uri in found])
    assert world.store.unknown_files(0, "count_0", {kept}) == []
    assert content(world.store, kept) == LARGE
    assert content(world.store, neighbour) == b"c"
    assert content(world.store, other_group) == b"d"
    world.store.delete([kept, stray, neighbour])
    assert world.store.unknown_files(0, "count_0", set()) == []


def test_an_interrupted_upload_is_a_stray_or_nothing(world: World) -> None:
    """It has no URI; what it left is found and deleted by its name."""

    def interrupted() -> Iterator[bytes]:
        yield LARGE
        raise InterruptedUploadError

    with pytest.raises(InterruptedUploadError):
        world.store.put(0, "count_0/10-5/aa", interrupted())
    whole = world.store.put(0, "count_0/10-5/bb", [b"data"])
    assert content(world.other, whole) == b"data"
    found = world.other.unknown_files(0, "count_0", {whole})
    assert [name for name, _ in found] in ([], ["count_0/10-5/aa"])
    world.other.delete([uri for _, uri in found])
    assert world.other.unknown_files(0, "count_0", {whole}) == []


class InterruptedUploadError(Exception):
    """The blocks of an upload ended early."""


def test_an_url_that_cannot_be_opened_names_the_setting() -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match=r"checkpoint_store 'az://c/p'.*Account") as caught:
        open_store("az://c/p", "app")
    assert caught.value.setting == "checkpoint_store"


def test_a_damaged_chunk_is_reported_by_its_offset(kafka_broker: DevBroker) -> None:
    """Another record, one without a checksum, a tombstone: never content."""
    config = topic_config(kafka_broker.bootstrap_servers)
    topic = f"{config.application_id}-checkpoints"
    client = Client({"bootstrap.servers": kafka_broker.bootstrap_servers})
    for key, value in (("n~1/0", b"no checksum"), ("m~1/0", b""), ("n~1/0", None)):
        client.produce(topic, value, key.encode(), 1)
        assert client.flush(30) == 0
    store = topic_store(config)
    for offset, reason in enumerate(("checksum", "another record", "too short")):
        with pytest.raises(CheckpointCorruptError, match=reason) as caught:
            content(store, str(ChunkUri(1, ((offset, 1),), "n~1")))
        assert f"'{topic}'[1] at offset {offset}" in str(caught.value)
    store.close()

"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstash.broker import DevBroker
from tests.integration.kafka_world import World
from tests.integration.scene import Scene


@pytest.fixture
def scene_address(kafka_broker: DevBroker) -> str:
    """Bootstrap servers of `scene`: the session's broker, unless a module has one of its own."""
    return kafka_broker.bootstrap_servers


@pytest.fixture
def scene(scene_address: str, tmp_path: Path) -> Iterator[Scene]:
    """Topics and workers of this test's own."""
    scene = Scene(scene_address, tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def world(kafka_broker: DevBroker, application_id: str) -> Iterator[World]:
    """The clients of an application of this test."""
    world = World(kafka_broker, application_id)
    yield world
    world.close()


@pytest.fixture
def lineage(world: World) -> str:
    """A lineage topic of two task groups with records L0, L1, L2 in each."""
    topic = world.create(world.lineage_topic, 2)
    for group in (0, 1):
        world.write(topic, [b"L0", b"L1", b"L2"], group)
    return topic

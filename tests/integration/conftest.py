"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstash.broker import DevBroker
from tests.integration.kafka_world import World
from tests.integration.scene import Scene
from tests.integration.secured import PASSWORD, Rights, SecuredBroker


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


@pytest.fixture(scope="session")
def secured_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker with an authorizer and a listener for each way to be secured, right or wrong."""
    with SecuredBroker(tmp_path_factory.mktemp("certificates")) as secured:
        yield secured


@pytest.fixture
def secured(secured_broker: SecuredBroker) -> Iterator[SecuredBroker]:
    """That broker; its user has the rights that a test gives, and its first password afterwards."""
    yield secured_broker
    Rights(secured_broker.admin).take_all()
    secured_broker.change_password(PASSWORD)


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

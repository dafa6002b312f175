"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstash.broker import DevBroker
from tests.integration.scene import Scene


@pytest.fixture
def scene(kafka_broker: DevBroker, tmp_path: Path) -> Iterator[Scene]:
    """Topics and workers of this test's own on the session's broker."""
    scene = Scene(kafka_broker.bootstrap_servers, tmp_path)
    yield scene
    scene.close()

"""One broker for all tests that hurt workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kstash.broker import DevBroker


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Bootstrap servers of a real Kafka of one node."""
    with DevBroker() as running:
        yield running.bootstrap_servers

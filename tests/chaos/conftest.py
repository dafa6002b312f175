"""What all tests that hurt workers share."""

from __future__ import annotations

import pytest

from kstash.broker import DevBroker


@pytest.fixture
def broker(kafka_broker: DevBroker) -> str:
    """Bootstrap servers of the session's Kafka."""
    return kafka_broker.bootstrap_servers

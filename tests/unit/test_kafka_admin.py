"""What the admin client takes for passing, and what for final."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import ClusterError
from kstash.kafka.admin import KafkaAdmin

NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "client.id": "nobody", "log_level": 0}


@pytest.mark.parametrize(
    "code", [KafkaError._DESTROY_BROKER, KafkaError._TRANSPORT, KafkaError.NOT_CONTROLLER]
)
def test_a_passing_error_is_asked_again(code: int) -> None:
    """A bootstrap address that the client drops, a lost connection, a former controller."""
    admin = KafkaAdmin(NOWHERE, monotonic=time.monotonic)
    assert not admin._is_absent("ask", KafkaException(KafkaError(code)), ())
    admin.close()


def test_what_waiting_does_not_mend_is_an_error() -> None:
    """A request that the cluster does not allow is raised, with what was asked."""
    admin = KafkaAdmin(NOWHERE)
    with pytest.raises(ClusterError, match="ask"):
        admin._is_absent("ask", KafkaException(KafkaError(KafkaError.POLICY_VIOLATION)), ())
    admin.close()

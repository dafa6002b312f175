"""Who is fenced by transactional id; no broker."""

from __future__ import annotations

from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import ClusterError, KafkaUnavailableError
from kstash.kafka.fencing import fence

SETTINGS = {"bootstrap.servers": "127.0.0.1:9"}


class FencingProducer:
    """Notes whose transactions were initialised; one id is refused, one gets no answer."""

    fenced: ClassVar[list[str]] = []

    def __init__(self, settings: dict[str, str]) -> None:
        self._id = settings["transactional.id"]

    def init_transactions(self, timeout_s: float) -> None:
        """As the client's."""
        assert timeout_s > 0
        if self._id == "refused":
            raise KafkaException(KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED))
        if self._id == "silent":
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        self.fenced.append(self._id)


def test_fencing_initialises_the_transactions_of_every_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what aborts and bars; one that is refused fails the whole, by its name."""
    monkeypatch.setattr("kstash.kafka.fencing.make_producer", FencingProducer)
    monkeypatch.setattr(FencingProducer, "fenced", [])
    ids = [f"shop-{number}" for number in range(40)]
    fence(SETTINGS, ids)
    assert sorted(FencingProducer.fenced) == sorted(ids)
    with pytest.raises(ClusterError, match="fence transactional id 'refused'"):
        fence(SETTINGS, ["shop-0", "refused"])
    with pytest.raises(KafkaUnavailableError, match=r"127.0.0.1:9.* id 'silent'"):
        fence(SETTINGS, ["silent"])

"""What an error of the Kafka client means: to try again, to wait for rights, or never."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import KafkaError

from kstash.errors import ProducerFailedError, ProducerRefusedError, RecordRefusedError
from kstash.kafka import client_settings as settings
from kstash.kafka.failures import producer_failed
from kstash.kafka.producers import KafkaProducer
from kstash.settings.config import Config

NOBODY = "127.0.0.1:1"
"""Where no broker listens."""

TXNERR = (
    "%s [%s] %s TXNERR shop-sink-0#producer-2 [thrd:127.0.0.1:24334/0]: Current transaction "
    "failed in state InTransaction: ProduceRequest for out-1 [3] with 4 message(s) failed: "
    "Broker: Invalid timestamp (broker 0 PID{Id:7,Epoch:49}, base seq 0): current transaction must "
    "be aborted "
    "(INVALID_TIMESTAMP)"
)
"""A client's log line, word by word (librdkafka 2.16)."""

FATAL = (
    "ProduceRequest for in-1 [2] with 4 message(s) failed: Broker: {} (broker 0 PID{{Id:3,Epoch:0}}"
    ", base seq 1): unable to satisfy gap-less guarantee"
)


@pytest.mark.parametrize(
    ("code", "suspect"),
    [
        (KafkaError.INVALID_TIMESTAMP, "timestamp"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "size"),
        (KafkaError.RECORD_LIST_TOO_LARGE, "size"),
        (KafkaError.INVALID_RECORD, "record"),
        (KafkaError.POLICY_VIOLATION, None),
        (KafkaError.TOPIC_EXCEPTION, None),
    ],
)
def test_a_record_that_never_does(code: int, suspect: str | None) -> None:
    """Told with its place, and with what of the record is the reason."""
    failure = producer_failed("shop-sink-0", KafkaError(code), place=("out", 3))
    assert isinstance(failure, RecordRefusedError)
    assert (failure.topic, failure.partition, failure.suspect) == ("out", 3, suspect)
    assert "shop-sink-0" in str(failure)
    assert "topic 'out', partition 3" in str(failure)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    ],
)
def test_a_right_that_is_missing(code: int) -> None:
    """It may come, as rules for access do, so it is an error of its own; it names the fix."""
    failure = producer_failed("shop-sink-0", KafkaError(code), place=("out", 3))
    assert isinstance(failure, ProducerRefusedError)
    assert "for 'out'" in str(failure)
    lacking = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED: "WRITE on the topic",
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "WRITE on transactional ids",
        KafkaError.CLUSTER_AUTHORIZATION_FAILED: "Rights",
        KafkaError.GROUP_AUTHORIZATION_FAILED: "READ on groups",
    }
    assert "check the client's credentials and the ACLs: " in str(failure)
    assert lacking[code] in str(failure)


def test_a_topic_that_is_missing() -> None:
    """A topic may be made while the worker waits."""
    failure = producer_failed("c", KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), place=("out", 3))
    assert isinstance(failure, ProducerRefusedError)
    assert "create the topic" in str(failure)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.INVALID_MSG,
        KafkaError._PURGE_QUEUE,
    ],
)
def test_what_another_attempt_may_mend(code: int) -> None:
    """Neither: the groups start over."""
    failure = producer_failed("c", KafkaError(code), place=("out", 3))
    assert type(failure) is ProducerFailedError
    assert not failure.is_fenced


def test_a_fenced_producer() -> None:
    """A newer one has taken over."""
    assert producer_failed("c", KafkaError(KafkaError._FENCED)).is_fenced


def test_a_transaction_that_a_partition_may_not_join() -> None:
    """Without WRITE on a sink its coordinator refuses; the record is said to be purged."""
    words = (
        "%s [%s] %s TXNERR shop-sink-0#producer-2 [thrd:main]: Current transaction failed in state "
        "InTransaction: Failed to add partition(s) to transaction on broker TxnCoordinator/0: "
        "Broker: Topic authorization failed (after 1 ms) (TOPIC_AUTHORIZATION_FAILED)"
    )
    purged = KafkaError(KafkaError._PURGE_QUEUE)
    failure = producer_failed("c", purged, place=("out", 0), log=words)
    assert isinstance(failure, ProducerRefusedError)
    assert "'out'" in str(failure)
    assert "Topic authorization failed" in str(failure)


@pytest.mark.parametrize("code", [KafkaError._PURGE_QUEUE, KafkaError._STATE])
def test_a_consequence_is_told_by_its_cause(code: int) -> None:
    """Of records after the one that failed the client says that they were purged."""
    failure = producer_failed("c", KafkaError(code), place=("other", 0), log=TXNERR)
    assert isinstance(failure, RecordRefusedError)
    assert (failure.topic, failure.partition, failure.suspect) == ("out-1", 3, "timestamp")
    assert "Broker: Invalid timestamp" in str(failure)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Message size too large", RecordRefusedError),
        ("Topic authorization failed", ProducerRefusedError),
        ("Some new trouble", ProducerFailedError),
    ],
)
def test_the_end_of_a_gapless_producer_is_told_by_its_cause(
    words: str, kind: type[ProducerFailedError]
) -> None:
    """Its error says that the guarantee would not hold; its text says why, and where."""
    error = KafkaError(KafkaError._GAPLESS_GUARANTEE, FATAL.format(words), fatal=True)
    failure = producer_failed("c", error)
    assert type(failure) is kind
    assert words in str(failure)
    assert "in-1" in str(failure)


# --- producers without a broker -----------------------------------------------------------------


def producer_of(kind: str) -> KafkaProducer:
    """A producer whose records fail after a tenth of a second."""
    config = Config.load(application_id="shop", bootstrap_servers=NOBODY)
    made = getattr(settings, f"{kind}_producer")(config)
    return KafkaProducer({**made, "message.timeout.ms": 100})


def wait_for(told: list[Any], count: int, producer: KafkaProducer) -> None:
    """Serve callbacks until so many came."""
    deadline = time.monotonic() + 20.0
    while len(told) < count:
        assert time.monotonic() < deadline, f"{len(told)} of {count} were told"
        producer.flush(0.02)
        producer.poll()


@pytest.mark.parametrize("kind", ["marker", "claim"])
def test_an_append_after_one_that_failed_is_sent(kind: str) -> None:
    """The first CLAIM, FENCE, SEAL or START fails; the next one is tried for itself."""
    producer = producer_of(kind)
    told: list[Any] = []

    def on_delivery(error: Any, _: Any) -> None:
        told.append(error)

    for count in (1, 2, 3):
        producer.produce("t", b"x", None, 0, on_delivery, 0, None)
        wait_for(told, count, producer)
    assert all(isinstance(error, ProducerFailedError) for error in told)
    assert "_MSG_TIMED_OUT" in str(told[0])
    producer.close()


@pytest.mark.parametrize("kind", ["marker", "claim"])
def test_appends_behind_one_that_fails_are_told_too(kind: str) -> None:
    """Several wait at once, to one partition: none waits for ever."""
    producer = producer_of(kind)
    told: list[Any] = []
    for _ in range(3):
        producer.produce("t", b"x", None, 0, lambda error, _: told.append(error), 0, None)
    wait_for(told, 3, producer)
    assert None not in told
    producer.close()


def test_h12_an_idempotent_producer_ends_with_its_first_record() -> None:
    """It is failed as a whole, so that it is made anew: what waits behind the record never goes."""
    producer = producer_of("checkpoint")
    told: list[Any] = []
    producer.produce("t", b"a", None, 0, lambda error, _: told.append(error), 0, None)
    producer.produce("t", b"b", None, 0, lambda error, _: told.append(error), 0, None)
    with pytest.raises(ProducerFailedError, match="_MSG_TIMED_OUT"):
        wait_for(told, 2, producer)
    assert len(told) == 1
    with pytest.raises(ProducerFailedError):
        producer.produce("t", b"c", None, 0, None, 0, None)
    producer.close()

"""What an error of the client means: error codes to kstash's typed errors."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException

from kstash.errors import ClusterError, KafkaUnavailableError, ProducerFailedError

_RAISED: tuple[type[Any], ...] = (KafkaException, KafkaError)
CLIENT_ERRORS: tuple[type[BaseException], ...] = tuple(
    # KafkaError is no exception class in every release of the client; an `except` with a class
    # that is none would raise a TypeError of its own.
    kind
    for kind in _RAISED
    if issubclass(kind, BaseException)
)
"""What the client raises."""

FATAL_CODES = frozenset({KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID})
FENCED_CODES = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
)
MISSING_TOPIC_CODES = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
    }
)
OUT_OF_RANGE_CODES = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._LOG_TRUNCATION,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)
UNREACHABLE_CODES = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
REFUSED_CODES = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
TOO_LARGE_CODES = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


def kafka_error(error: object) -> KafkaError | None:
    """Return the client's error in what it raised or called back with; None if there is none."""
    if isinstance(error, KafkaError):
        return error
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        return error.args[0]
    return None


def describe(error: object) -> str:
    """Return the text of an error with its code's name."""
    inner = kafka_error(error)
    return str(error) if inner is None else f"{inner.name()}: {inner.str()}"


def producer_failed(client: str, error: object) -> ProducerFailedError:
    """Return the error of a producer that failed for good.

    Args:
        client: which producer, for the message.
        error: what the client raised or called back with.
    """
    inner = kafka_error(error)
    is_fenced = inner is not None and inner.code() in FENCED_CODES
    return ProducerFailedError(f"{client}: {describe(error)}", is_fenced=is_fenced)


def refused(what: str, error: object) -> ClusterError:
    """Return the error of a request that the cluster refused, which waiting does not mend."""
    return ClusterError(
        f"{what} was refused: {describe(error)}; check the client's credentials and the ACLs"
    )


def unavailable(bootstrap_servers: str, what: str, deadline_s: float, error: object) -> Exception:
    """Return the error of a request that Kafka did not answer within its deadline."""
    return KafkaUnavailableError(
        f"Kafka at {bootstrap_servers!r} did not {what} within {deadline_s:g} s "
        f"({describe(error)}); check that a broker runs there, that the address can be reached "
        "from this machine, and that the broker's advertised.listeners name an address that can "
        "be reached too (`bootstrap_servers` is the setting)"
    )

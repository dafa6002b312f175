"""What an error of the client means: error codes to kstash's typed errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException

from kstash.errors import (
    ClusterError,
    KafkaUnavailableError,
    ProducerFailedError,
    ProducerRefusedError,
    RecordRefusedError,
    RightMissingError,
)
from kstash.ports.kafka import Partition

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
UNREADABLE_CODES = frozenset(
    {
        KafkaError._BAD_COMPRESSION,
        KafkaError._BAD_MSG,
        KafkaError._NOT_IMPLEMENTED,  # a codec that this client does not have
        KafkaError.INVALID_MSG,
    }
)
"""A batch is damaged, or larger than the client takes. It comes again and again."""
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
ACCESS_CODES = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL})
"""Codes of a connection that is refused."""
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

_Suspect = Literal["timestamp", "size", "record"]
REFUSED_RECORDS: Mapping[int, _Suspect | None] = {
    KafkaError.INVALID_TIMESTAMP: "timestamp",
    KafkaError.MSG_SIZE_TOO_LARGE: "size",
    KafkaError.RECORD_LIST_TOO_LARGE: "size",
    KafkaError.INVALID_MSG_SIZE: "size",
    KafkaError.INVALID_RECORD: "record",
    KafkaError.POLICY_VIOLATION: None,
    KafkaError.TOPIC_EXCEPTION: None,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT: None,
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: None,
}
"""What a broker refuses each time that it is sent, and what of the record is the reason.

(A batch damaged on its way, INVALID_MSG, is sent again by the client.)
"""

_CONSEQUENCES = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._STATE})
"""Codes of records and calls after the one that failed."""

_REQUEST = re.compile(r"ProduceRequest for (\S+) \[(\d+)\] .*?failed: (.*?) \(broker ")
"""How the client words the end of an idempotent or transactional producer."""

_PARTITIONS = re.compile(
    r"Failed to add partition\(s\) to transaction on .*?: (Broker: .*?) \(after "
)
"""The same, of a transaction that the coordinator let no partition into."""

_BY_TEXT = {KafkaError(code).str(): code for code in (*REFUSED_RECORDS, *REFUSED_CODES)}

REFUSED_HELP = "check the client's credentials and the ACLs: "
_LACKING = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "WRITE on the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "READ on groups that begin with the application id",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "WRITE on transactional ids that begin with "
    "the application id",
}
"""What a producer lacks."""


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


def producer_failed(
    client: str, error: object, *, place: Partition | None = None, log: str = ""
) -> ProducerFailedError:
    """Return the error of a producer that failed for good, by what the cause means.

    Args:
        client: which producer, for the message.
        error: what the client raised or called back with.
        place: topic and partition concerned, when they are known.
        log: the client's last words, which name the cause where `error` is a consequence.

    Returns:
        A `RecordRefusedError`, a `ProducerRefusedError`, or neither: then a new attempt may do.
    """
    inner = kafka_error(error)
    code = None if inner is None else inner.code()
    text = describe(error)
    if inner is not None and (inner.fatal() or code in _CONSEQUENCES or place is None):
        for words in (inner.str(), log):
            if (found := _REQUEST.search(words)) is not None:
                topic, partition, why = found.groups()
                place, code, text = (topic, int(partition)), _BY_TEXT.get(why, code), words
                break
            if (found := _PARTITIONS.search(words)) is not None:
                code, text = _BY_TEXT.get(found.group(1), code), words
                break
    if code is not None and code in REFUSED_RECORDS:
        where, number = place or (None, None)
        return RecordRefusedError(
            f"{client}: the topic refuses a record, and will whenever it is sent ({text})",
            topic=where,
            partition=number,
            suspect=REFUSED_RECORDS[code],
        )
    if code in REFUSED_CODES or code in MISSING_TOPIC_CODES:
        at = "" if place is None else f" for {place[0]!r}"
        lacking = _LACKING.get(code, "see docs/operating/running.md, Rights")
        help_ = REFUSED_HELP + lacking if code in REFUSED_CODES else "create the topic"
        return ProducerRefusedError(f"{client} was refused{at}: {text}; {help_}")
    return ProducerFailedError(f"{client}: {text}", is_fenced=code in FENCED_CODES)


_RIGHTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
}
"""Errors for want of a right, and on what."""


def refused(what: str, error: object, *, right: tuple[str, str, str] | None = None) -> ClusterError:
    """Return the error of a request that the cluster refused, which waiting does not mend.

    Args:
        what: was asked.
        error: what the client raised or called back with.
        right: (kind, name, operation) that it takes; named if its kind is what is refused.
    """
    inner = kafka_error(error)
    if right is not None and inner is not None and _RIGHTS.get(inner.code()) == right[0]:
        return RightMissingError([right], describe(error))
    return ClusterError(
        f"{what} was refused: {describe(error)}; check the client's credentials and the ACLs"
    )


def unavailable(
    bootstrap_servers: str, what: str, deadline_s: float, error: object, reason: str = ""
) -> Exception:
    """Return the error of a request that Kafka did not answer within its deadline.

    `reason` is what the client said meanwhile, with its fix, where that is known.
    """
    if reason:
        return KafkaUnavailableError(
            f"Kafka at {bootstrap_servers!r} did not {what} within {deadline_s:g} s: {reason}"
        )
    return KafkaUnavailableError(
        f"Kafka at {bootstrap_servers!r} did not {what} within {deadline_s:g} s "
        f"({describe(error)}); check that a broker runs there, that the address can be reached "
        "from this machine, and that the broker's advertised.listeners name an address that can "
        "be reached too (`bootstrap_servers` is the setting)"
    )

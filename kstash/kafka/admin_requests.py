"""An admin client that is asked until it answers: deadlines, passing errors, causes.

Each call has a deadline; passing errors are tried again within it. What waiting does not mend is
raised at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from kstash.errors import ClusterError
from kstash.kafka import failures
from kstash.kafka.clients import make_admin
from kstash.kafka.complaints import Complaints, first_contact

DEADLINE_S = 30.0
REQUEST_TIMEOUT_S = 10.0
FIRST_TIMEOUT_S = 2.0
"""Of a first attempt, doubled with each further one: the client waits in vain for a broker that
hangs, and looks for another one only when it is asked again."""
RETRY_PAUSE_S = 0.1

T = TypeVar("T")
K = TypeVar("K")


class AdminRequests:
    """Asks one admin client.

    Args:
        settings: of the client.
        deadline_s: of each call, in seconds.
        has_access: whether another client of these settings had an answer before: then the cluster
            is away for a while when it does not answer.
        is_for_people: a cluster that has never answered is not waited for as long as the deadline.
        monotonic: seconds that never go back.

    Attributes:
        settings: of further clients to the same cluster.
        client: the admin client.
        timeout_s: of one request at most, in seconds.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        deadline_s: float = DEADLINE_S,
        has_access: bool = False,
        is_for_people: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.deadline_s = deadline_s
        self.timeout_s = min(REQUEST_TIMEOUT_S, deadline_s)
        self._bootstrap_servers = str(settings["bootstrap.servers"])
        self._is_for_people = is_for_people
        self._monotonic = monotonic
        self._complaints = Complaints(settings, monotonic=monotonic)
        self._complaints.is_over = has_access
        self.client: AdminClient = make_admin(
            settings, logger=self._complaints, on_error=self._complaints.on_error
        )

    @property
    def has_access(self) -> bool:
        """Whether the cluster has answered once."""
        return self._complaints.is_over

    def close(self) -> None:
        """Close; the client ends with its last reference."""
        del self.client

    def poll(self) -> None:
        """Take the client's log, which would pile up."""
        self.client.poll(0)

    def contact(self) -> None:
        """For people: wait for the first answer of the cluster, shortly, and for no other.

        Raises:
            AccessRefusedError: the cluster refuses this client.
            KafkaUnavailableError: no answer; says why, where that is known.
        """
        if self._is_for_people:
            first_contact(self.client, self._complaints, self._bootstrap_servers, self.deadline_s)

    def ask_all(
        self,
        what: str,
        items: list[K],
        ask: Callable[[list[K], float], Mapping[K, Future[T]]],
        *,
        absent: Collection[int],
        grace_s: float = 0.0,
        is_answer: Callable[[T], bool] = lambda _: True,
        right: tuple[str, str] = ("topic", "DESCRIBE"),
    ) -> dict[K, T]:
        """Ask for items until each has an answer; those with an `absent` code are left out.

        Args:
            what: is asked for, as in "Kafka refused to …".
            items: topics, groups, partitions.
            ask: asks for items with a time-out in seconds.
            absent: codes of what is not there.
            grace_s: a code that says so is believed only after this.
            is_answer: what is none is asked for again.
            right: what it takes on each item: its kind, and the operation.

        Raises:
            KafkaUnavailableError: no answer within the deadline.
            AccessRefusedError, ClusterError: the request was refused.
        """
        self.contact()
        started = self._monotonic()
        timeout_s = min(FIRST_TIMEOUT_S, self.timeout_s)
        self.poll()
        results: dict[K, T] = {}
        rest = items
        while rest:
            again: list[K] = []
            last_error: object = "no answer"
            for item, future in ask(rest, timeout_s).items():
                try:
                    result = self._complaints.wait(self.client, future, timeout_s + 1)
                    if is_answer(result):
                        results[item] = result
                    else:
                        again.append(item)
                except (KafkaException, TimeoutError) as error:
                    last_error = error
                    is_absent = self.is_absent(what, error, absent, (item, *right))
                    if not is_absent or self._monotonic() - started < grace_s:
                        again.append(item)
            if again and self._monotonic() - started > self.deadline_s:
                raise self.unavailable(what, last_error)
            rest = again
            if rest:
                self._look_for_brokers(timeout_s)
                timeout_s = min(2 * timeout_s, self.timeout_s)
                time.sleep(RETRY_PAUSE_S)
        return results

    def call(self, what: str, call: Callable[[], T], *, right: tuple[str, str, str]) -> T:
        """Make one call that waits by itself.

        Raises:
            KafkaUnavailableError, AccessRefusedError, ClusterError: as `ask_all`.
        """
        self.contact()
        try:
            return call()
        except failures.CLIENT_ERRORS as error:
            raise self.failed(what, error, right=right) from error

    def failed(self, what: str, error: BaseException, *, right: tuple[str, str, str]) -> Exception:
        """The error of a call that is not tried again; `right` is (kind, name, operation)."""
        inner = failures.kafka_error(error)
        if inner is None or inner.code() in failures.UNREACHABLE_CODES:
            return self.unavailable(what, error)
        if inner.code() in failures.REFUSED_CODES:
            return failures.refused(what, error, right=right)
        return ClusterError(f"Kafka refused to {what}: {failures.describe(error)}")

    def unavailable(self, what: str, error: object) -> Exception:
        """The error of what was not answered in time."""
        return failures.unavailable(
            self._bootstrap_servers, what, self.deadline_s, error, self._complaints.reason
        )

    def is_absent(
        self,
        what: str,
        error: BaseException,
        absent: Collection[int],
        wanted: tuple[object, str, str] = ("", "topic", "DESCRIBE"),
    ) -> bool:
        """Whether an item is absent; False: ask again. Raises what waiting does not mend."""
        inner = failures.kafka_error(error)
        if inner is None:
            return False
        if inner.code() in absent:
            return True
        item, kind, operation = wanted
        name = getattr(item, "topic", None) or getattr(item, "name", None) or str(item)
        if inner.code() in failures.REFUSED_CODES:
            raise failures.refused(what, error, right=(kind, name, operation))
        if inner.retriable() or inner.code() in failures.UNREACHABLE_CODES:
            return False
        if inner.code() in _PASSING_CODES:
            return False
        raise ClusterError(f"Kafka refused to {what}, {name!r}: {failures.describe(error)}")

    def _look_for_brokers(self, timeout_s: float) -> None:
        """Have the client forget a controller that hangs: by itself it waits for it for ever."""
        with suppress(KafkaException):
            self.client.list_topics(timeout=timeout_s)
            self._complaints.answered()  # by any broker: what others refuse is an outage


_PASSING_CODES = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,  # the client knows the leader before the broker does
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._DESTROY_BROKER,  # a bootstrap address, once the client knows the nodes
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._WAIT_COORD,
        KafkaError._NOENT,  # a partition without a leader
    }
)
"""Errors that pass by themselves, without the client saying so."""

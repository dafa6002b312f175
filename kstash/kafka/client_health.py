"""What is wrong with a consuming client: what passes, what is asked about, what ends the worker.

Invariants:

- an error is raised by a later call than the one that it came with, so it never costs messages;
  only a fenced client is over at once;
- what was said of a partition goes with the partition (`forget`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, cast

import structlog
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import Message as KafkaMessage

from kstash.errors import KstashError, MemberFencedError, TopicMissingError
from kstash.kafka import failures
from kstash.kafka.reachability import BrokerWatch, LookUp
from kstash.ports.kafka import Partition

TOPIC_MISSING_GRACE_S = 2.0
"""A topic may seem missing for a moment while leaders move, so it is asked for again after this."""
LOOKUP_DEADLINE_S = 1.0


class _Failure(NamedTuple):
    """An error that waits to be raised; without a partition it is about the client as a whole."""

    partition: Partition | None
    error: KstashError
    due_s: float


class ClientHealth:
    """Sorts the errors of one client, and keeps those that are to be raised.

    Args:
        settings: of the client.
        watch: reports that the broker is away.
        topics: those that the client needs just now.
        look_up: asks the cluster for a topic, or with None for any of those that it needs.
        monotonic: seconds that never go back.
        grace_s: how long an error of a partition waits until it is raised, in seconds.

    Attributes:
        fenced: set by an error after which the client does nothing more.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        watch: BrokerWatch,
        topics: Callable[[], Collection[str]],
        look_up: LookUp,
        monotonic: Callable[[], float],
        grace_s: float = 0.0,
    ) -> None:
        self.fenced: MemberFencedError | None = None
        self._name = str(settings["client.id"])
        self._group = str(settings["group.id"])
        self._watch = watch
        self._topics = topics
        self._look_up = look_up
        self._monotonic = monotonic
        self._grace_s = grace_s
        self._log = structlog.get_logger("kstash.kafka")
        self._missing_since: float | None = None
        self._failures: list[_Failure] = []

    def take(self, error: KafkaError, message: KafkaMessage | None) -> bool:
        """Sort an error.

        Args:
            error: what the client says.
            message: in whose place it came; None: it is about the client as a whole.

        Returns:
            False: it is about one partition alone, and of no kind that is known here.
        """
        code = error.code()
        partition = failed_partition(message)
        if is_fatal(error):
            self.fenced = MemberFencedError(
                f"{self._name}: another process took this membership ({failures.describe(error)})"
            )
        elif code in failures.MISSING_TOPIC_CODES:
            if self._missing_since is None:
                self._missing_since = self._monotonic()
        elif code in failures.ACCESS_CODES and message is None:
            # It had access when it started (`kstash.kafka.complaints`): an outage like others.
            self._watch.worry(failures.describe(error))
        elif code in failures.REFUSED_CODES:
            topic = None if message is None else message.topic()
            right = ("topic", topic, "READ") if topic else ("group", self._group, "READ")
            refused = failures.refused(f"{self._name}: consuming", error, right=right)
            self.fail(partition, refused)
        elif code in failures.UNREACHABLE_CODES:
            self._watch.worry(failures.describe(error))
        elif partition is not None:
            return False
        else:
            self._log.warning("consumer error", client=self._name, error=failures.describe(error))
        return True

    def fail(self, partition: Partition | None, error: KstashError) -> None:
        """Keep an error for the first `raise_due` after the grace."""
        grace_s = self._grace_s if partition is not None else 0.0
        self._failures.append(_Failure(partition, error, self._monotonic() + grace_s))

    def forget(self, partitions: Collection[Partition]) -> None:
        """Drop what waits to be raised of these."""
        if self._failures:
            self._failures = [f for f in self._failures if f.partition not in partitions]

    def raise_due(self) -> None:
        """Raise what is due, one error a call; before the client is polled.

        Raises:
            MemberFencedError: the client is over; every later call too.
            KstashError: what was kept by `fail`.
        """
        if self.fenced is not None:
            raise self.fenced
        if self._failures:
            now = self._monotonic()
            for failure in self._failures:
                if now >= failure.due_s:
                    self._failures.remove(failure)
                    raise failure.error

    def check(self, *, is_up: bool) -> None:
        """Ask about what may have passed; after the client was polled.

        Args:
            is_up: the broker is known to answer.

        Raises:
            MemberFencedError: the client is over.
        """
        if self.fenced is not None:
            raise self.fenced
        if self._watch.is_worried:
            self._watch.check(self._look_up, is_up=is_up)
        if self._missing_since is not None:
            self._check_topics(self._missing_since)

    def _check_topics(self, since: float) -> None:
        """After the grace: keep an error for topics that are still missing."""
        if self._monotonic() - since < TOPIC_MISSING_GRACE_S:
            return
        missing = []
        for topic in sorted(self._topics()):
            error = self._look_up(topic, LOOKUP_DEADLINE_S)
            if error is None:
                continue
            if error.code() not in failures.MISSING_TOPIC_CODES:
                return  # no answer: asked again by the next poll
            missing.append(topic)
        self._missing_since = None
        if missing:
            self.fail(None, TopicMissingError(missing))


def is_fatal(error: KafkaError) -> bool:
    """Whether a client does nothing more after this error."""
    return error.fatal() or error.code() in failures.FATAL_CODES


def failed_partition(message: KafkaMessage | None) -> Partition | None:
    """The partition that an error is about; None: the client as a whole."""
    if message is None or message.topic() is None or (message.partition() or 0) < 0:
        return None
    return cast("Partition", (message.topic(), message.partition()))


def look_up(client: Consumer, topic: str | None, timeout_s: float) -> KafkaError | None:
    """Ask the cluster for a topic (None: for whatever it has); returns what went wrong."""
    try:
        metadata = (
            client.list_topics(timeout=timeout_s)
            if topic is None
            else client.list_topics(topic, timeout=timeout_s)
        )
    except failures.CLIENT_ERRORS as error:
        return failures.kafka_error(error)
    found = metadata.topics.get(topic) if topic is not None else None
    return None if found is None else found.error

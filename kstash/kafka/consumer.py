"""A consumer over confluent-kafka, with partitions assigned by hand.

Invariants:

- an error never costs messages: those fetched with it are handed out first, the error is raised
  by the next `poll`. Only a fenced client hands out nothing any more;
- a partition that is added is read: the client itself keeps a pause over removal and addition;
- what the client says of a partition counts while that partition is read, and for the assignment
  that it was said of: errors that wait to be raised go with the partition.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import structlog
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka import Message as KafkaMessage

from kstash.errors import OffsetOutOfRangeError, RecordUnreadableError
from kstash.kafka import failures
from kstash.kafka.client_health import (
    LOOKUP_DEADLINE_S,
    ClientHealth,
    failed_partition,
    is_fatal,
    look_up,
)
from kstash.kafka.clients import make_consumer
from kstash.kafka.closing import close_in_time
from kstash.kafka.headers import with_headers_read
from kstash.kafka.reachability import BrokerWatch
from kstash.kafka.unreadable import last_offset_of
from kstash.ports.kafka import Message, Partition

POLL_RECORDS_MAX = 500
UNREADABLE_S = 2.0
TROUBLE_S = 60.0
"""How long a batch that cannot be read, or any other error of one partition, is tried again without
a record of that partition in between, until the worker gives up and says so."""

_error_of = KafkaMessage.error


def topic_partitions(partitions: Iterable[Partition]) -> list[TopicPartition]:
    """Return the client's form of partitions, without offsets."""
    return [TopicPartition(topic, number) for topic, number in partitions]


class KafkaConsumer:
    """`kstash.ports.kafka.Consumer` over confluent-kafka.

    Args:
        settings: of the client.
        bootstrap_servers: for messages.
        watch: reports that the broker is away; None: one of its own.
        monotonic: seconds that never go back.
        grace_s: how long an error of a partition waits until it is raised, in seconds: after a long
            sleep the group has given the partition to another worker, as the next heartbeat says.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        bootstrap_servers: str,
        watch: BrokerWatch | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        grace_s: float = 0.0,
    ) -> None:
        self._name = str(settings["client.id"])
        self._settings = settings
        self._health = ClientHealth(
            settings,
            watch=watch or BrokerWatch(self._name, bootstrap_servers, monotonic=monotonic),
            topics=self._topics,
            look_up=self._look_up,
            monotonic=monotonic,
            grace_s=grace_s,
        )
        self._client = make_consumer(settings, on_error=self._on_error)
        self._monotonic = monotonic
        self._log = structlog.get_logger("kstash.kafka")
        self._assigned: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._known_topics: set[str] = set()
        self._gaps: dict[Partition, Sequence[tuple[int, int]]] = {}
        # Per partition the error that it has had since its last record: code, offset, since when.
        self._troubles: dict[Partition, tuple[int, int, float]] = {}
        self._ends: dict[Partition, int] = {}

    @property
    def is_reading(self) -> bool:
        """Whether any partition is read."""
        return bool(self._assigned)

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from the given offsets on; one that is read already moves there."""
        # Values below 0 have meanings of the client's: it would fetch a committed offset, for one.
        assert all(at >= 0 for at in offsets.values()), f"no offsets: {offsets}"
        self.warm({topic for topic, _ in offsets})
        known = self._forget(offsets)
        if known:
            self._client.incremental_unassign(topic_partitions(known))
        self._client.incremental_assign(
            [TopicPartition(topic, number, at) for (topic, number), at in offsets.items()]
        )
        self._assigned.update(offsets)
        self.resume(offsets)

    def warm(self, topics: Collection[str]) -> None:
        """Fetch the metadata of topics before they are read; may run in another thread."""
        # The client asks for a topic that it does not know by a timer of one second; asking for it
        # first takes milliseconds.
        for topic in sorted(set(topics) - self._known_topics):
            error = self._look_up(topic, LOOKUP_DEADLINE_S)
            if error is None:
                self._known_topics.add(topic)
            elif error.code() in failures.UNREACHABLE_CODES:
                return  # neither would the others be answered

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop reading these; messages of them already fetched are dropped."""
        known = self._forget(partitions)
        if known:
            self._client.incremental_unassign(topic_partitions(known))

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on after these (first, last) offsets where a batch in them cannot be read."""
        self._gaps.update(gaps)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch no more of these until `resume`; partitions that are not read are ignored."""
        known = [partition for partition in partitions if partition in self._assigned]
        if known:
            self._paused.update(known)
            self._client.pause(topic_partitions(known))

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch these again; partitions that are not read are ignored."""
        known = [p for p in partitions if p in self._paused and p in self._assigned]
        if known:
            self._paused.difference_update(known)
            self._client.resume(topic_partitions(known))

    def poll(self, timeout_s: float) -> list[Message]:
        """Wait for one message, then take what is there.

        Args:
            timeout_s: seconds to wait, 0 or more.

        Returns:
            500 messages at most, per partition in order; may be empty.

        Raises:
            OffsetOutOfRangeError: a consumed offset is no longer (or not yet) in the log.
            TopicMissingError: a consumed topic is gone.
            RecordUnreadableError: a batch cannot be read, now and later; names its offsets.
        """
        self._health.raise_due()
        messages = self._fetch(timeout_s)
        if any(map(_error_of, messages)):
            messages = [message for message in messages if not self._is_failure(message)]
        elif self._troubles:
            for message in messages:
                self._troubles.pop(cast("Partition", (message.topic(), message.partition())), None)
        self._health.check(is_up=bool(messages))
        # The client's messages fulfil the port; its stubs say that any of them may be an error.
        return cast("list[Message]", with_headers_read(messages))

    def position(self, partition: Partition) -> int:
        """Offset that will be read next; moves past transaction markers at the end of the log."""
        at = self._client.position(topic_partitions([partition]))[0].offset
        return max(self._assigned[partition], at, self._ends.get(partition, 0))

    def is_at_end(self, partition: Partition) -> bool:
        """Whether all was handed out that the broker had when it answered last."""
        end = self._ends.get(partition)
        if end is None:
            return False
        # The first end says that there was an answer since the partition was added: what the client
        # remembers of one from before that is not asked.
        at = self.position(partition)
        if at == end:
            return True
        place = TopicPartition(*partition)
        # None where it does not know; and an end above that of what is committed.
        known = self._client.get_watermark_offsets(place, cached=True)
        return known is not None and at >= known[1] >= 0

    def close(self) -> None:
        """Close the client; one that waits for a broker that is away is given up."""
        self._assigned.clear()
        close_in_time(self._name, self._client.close)

    def _fetch(self, timeout_s: float) -> list[KafkaMessage]:
        # `consume(n, t)` alone would wait for n messages.
        first = self._client.poll(timeout_s)
        if first is None:
            return []
        return [first, *self._client.consume(POLL_RECORDS_MAX - 1, 0)]

    def _forget(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Forget partitions, and what was said of them; returns those that the client reads."""
        known = [p for p in partitions if self._assigned.pop(p, None) is not None]
        for partition in known:
            self._ends.pop(partition, None)
            self._troubles.pop(partition, None)
        self._health.forget(known)
        return known

    def _look_up(self, topic: str | None, timeout_s: float) -> KafkaError | None:
        """Ask for a topic (None: for any of those that are read); returns what went wrong."""
        if topic is None:
            # Never of a topic "": the client would ask for that again and again.
            topic = min(self._topics() or self._known_topics, default=None)
        return look_up(self._client, topic, timeout_s)

    def _is_failure(self, message: KafkaMessage) -> bool:
        error = message.error()
        if error is None:
            return False
        self._take_error(error, message)
        return True

    def _on_error(self, error: KafkaError) -> None:
        """Take an error that belongs to no message (served inside `poll`)."""
        self._take_error(error, None)

    def _take_error(self, error: KafkaError, message: KafkaMessage | None) -> None:
        code = error.code()
        partition = failed_partition(message)
        if partition is None or message is None or is_fatal(error):
            self._health.take(error, message)
        elif partition not in self._assigned:
            return  # it was given up meanwhile: nobody here needs what is wrong with it
        elif code == KafkaError._PARTITION_EOF:
            self._ends[partition] = message.offset() or 0
        elif code in failures.OUT_OF_RANGE_CODES:
            self._health.fail(partition, self._out_of_range(error, message))
        elif not self._health.take(error, message):
            self._take_trouble(error, partition, message.offset() or 0)

    def _take_trouble(self, error: KafkaError, partition: Partition, offset: int) -> None:
        """Take an error of one partition, which may pass or not."""
        is_unreadable = error.code() in failures.UNREADABLE_CODES
        gaps = self._gaps.get(partition, ())
        after = next((last + 1 for first, last in gaps if first <= offset <= last), None)
        if is_unreadable and after is not None:
            self._move(partition, after)
            return
        now = self._monotonic()
        code, at, since = self._troubles.get(partition, (0, 0, now))
        if (code, at) != (error.code(), offset):
            self._troubles[partition] = error.code(), offset, now
            topic, number = partition
            self._log.warning(
                "consumer error",
                client=self._name,
                topic=topic,
                partition=number,
                offset=offset,
                error=failures.describe(error),
            )
        elif now - since >= (UNREADABLE_S if is_unreadable else TROUBLE_S):
            del self._troubles[partition]
            self._health.fail(partition, self._unreadable(error, partition, offset))

    def _move(self, partition: Partition, offset: int) -> None:
        """Read a partition from another offset on; one that is paused stays so."""
        self._client.incremental_unassign(topic_partitions([partition]))
        self._client.incremental_assign([TopicPartition(*partition, offset)])
        self._assigned[partition] = offset
        self._ends.pop(partition, None)
        self._troubles.pop(partition, None)

    def _unreadable(
        self, error: KafkaError, partition: Partition, offset: int
    ) -> RecordUnreadableError:
        reason = failures.describe(error)
        last = None
        if error.code() in failures.UNREADABLE_CODES:
            last = last_offset_of(self._settings, partition, offset)
        if last is None:
            made = RecordUnreadableError(
                f"nothing can be read from here on, and that does not pass: {reason}"
            )
        else:
            made = RecordUnreadableError(
                f"the batch of offsets {offset} to {last} cannot be read, it is damaged or larger "
                f"than the client takes: {reason}"
            )
            made.skip = f"{partition[0]}/{partition[1]}/{offset}-{last}"
        return made.at(*partition, offset)

    def _out_of_range(self, error: KafkaError, message: KafkaMessage) -> OffsetOutOfRangeError:
        place = TopicPartition(message.topic() or "", message.partition() or 0)
        offset = message.offset()
        if (offset is None or offset < 0) and (place.topic, place.partition) in self._assigned:
            # When a log was truncated, the client has the offset only in the error's text.
            offset = self.position((place.topic, place.partition))
        left, why = "", "retention or a deletion was faster"
        with contextlib.suppress(*failures.CLIENT_ERRORS):
            earliest, end = self._client.get_watermark_offsets(place, timeout=LOOKUP_DEADLINE_S)
            left = f"; the earliest offset there is {earliest}, the end is {end}"
            if offset is not None and end < offset:
                why = "the topic was deleted and made anew, or its leader lost records"
        return OffsetOutOfRangeError(
            "records that were not processed yet, or that a replay needs, are gone from the log: "
            f"{why}{left} ({failures.describe(error)})",
            topic=place.topic,
            partition=place.partition,
            offset=offset,
        )

    def _topics(self) -> set[str]:
        """Topics that this consumer needs."""
        return {topic for topic, _ in self._assigned}

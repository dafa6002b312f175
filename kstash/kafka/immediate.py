"""A consumer for other programs that sees immediate sinks exactly once, at once.

What `kstash.readers` offers. Invariants:

- the reader rule (protocol, section 7) is applied to every record in the order of its partition,
  with one reader state per partition;
- a reader state and the offset it belongs to are saved and restored together, as one bookmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from kstash.core.sink import METADATA_BYTES_MAX
from kstash.core.wire import HEADER_PREFIX, IDENTITY_HEADER, decode_identity
from kstash.errors import (
    BookmarkTooLargeError,
    ConfigError,
    KafkaUnavailableError,
    ProtocolError,
    WireCorruptError,
)
from kstash.kafka import failures
from kstash.kafka.bookmarks import (
    Bookmark,
    committed_offsets,
    partition_of,
    places_of,
)
from kstash.kafka.clients import make_consumer
from kstash.kafka.closing import close_in_time
from kstash.kafka.complaints import Complaints
from kstash.kafka.headers import HeaderlessMessage
from kstash.kafka.positions import metadata_of
from kstash.kafka.reader_arguments import DECIDED, check_arguments
from kstash.ports.kafka import Partition

LOOK_S = 0.5
"""How long a poll waits before it checks whether the cluster refuses the reader."""


class ImmediateReader:
    """Reads immediate sinks of kstash applications: each output exactly once, at once.

    A `confluent_kafka.Consumer` with the reader rule: it reads `read_uncommitted`, hands out the
    records that count, without kstash's headers, and drops the others. Records of other programs
    in the same topics are handed out as they are.

    What was handed out and not saved when the program ends is handed out again by the next start,
    as with any consumer. So save after processing: either `commit`, which stores the bookmarks as
    metadata of the offsets in Kafka, or, for exactly-once results, store `bookmarks()` in the
    same transaction of your database as the results, and give them back through `restore`.

    Not thread-safe. One record that breaks the protocol raises; the reader is then to be closed.

    Args:
        settings: of the consumer; `bootstrap.servers` and `group.id` are needed. Isolation level
            and auto-commit are decided here.
        topics: to subscribe to.
        restore: returns the bookmark saved for a partition, or None to begin by
            `auto.offset.reset` (`earliest` by default here). By default those of `commit`.
        on_revoked: called with partitions that are about to be given up: the last moment to save.
        metadata_bytes_max: the broker's `offset.metadata.max.bytes`.

    Raises:
        ConfigError: a setting contradicts the reader, or an argument is of another kind.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topics: Sequence[str],
        *,
        restore: Callable[[str, int], Bookmark | None] | None = None,
        on_revoked: Callable[[list[Partition]], None] | None = None,
        metadata_bytes_max: int = METADATA_BYTES_MAX,
    ) -> None:
        check_arguments(settings, topics, restore, on_revoked, metadata_bytes_max)
        for setting, value in DECIDED.items():
            if settings.get(setting, value) not in (value, str(value).lower()):
                raise ConfigError(f"an immediate reader needs {setting}={value}", setting)
        # Until the group has answered: it is then the client that waits out what happens.
        self._complaints = Complaints(settings)
        self._client = make_consumer(
            {"auto.offset.reset": "earliest", **settings, **DECIDED},
            logger=self._complaints,
            on_error=self._complaints.on_error,
        )
        reset = str(settings.get("auto.offset.reset", "earliest"))
        self._start = OFFSET_END if reset in ("latest", "largest", "end") else OFFSET_BEGINNING
        self._is_cooperative = "cooperative" in str(
            settings.get("partition.assignment.strategy", "")
        )
        self._restore = restore
        self._on_revoked = on_revoked
        self._metadata_bytes_max = metadata_bytes_max
        self._bookmarks: dict[Partition, Bookmark] = {}
        self._changed: set[Partition] = set()
        self._is_closing = False
        self._name = str(settings.get("client.id", "reader"))
        try:
            self._client.subscribe(
                list(topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose
            )
        except failures.CLIENT_ERRORS as error:
            raise ConfigError(
                f"the topics {list(topics)} cannot be subscribed to: {failures.describe(error)}",
                "topics",
            ) from error

    def poll(self, timeout_s: float = 1.0) -> Message | None:
        """Return the next record that counts, or an error message of the client.

        Args:
            timeout_s: seconds to wait, 0 or more.

        Returns:
            None when no record came in time.

        Raises:
            ProtocolError: a record breaks the protocol; names topic, partition and offset.
            RecordUnreadableError: the name of a header is no UTF-8; names the place too.
            AccessRefusedError: the cluster refuses this client; only before its first answer.
            KafkaUnavailableError: the bookmarks of partitions that the group gave to this reader
                were not to be had; names them.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            if self._complaints.is_over:
                message = self._client.poll(left_s)
            else:
                message = self._client.poll(min(left_s, LOOK_S))
                self._complaints.check(is_asking=False)
                if message is None and left_s > LOOK_S:
                    continue
            if message is None or message.error() is not None or self._accept(message):
                return message
            if time.monotonic() > deadline:
                return None

    def consume(self, count: int = 500, timeout_s: float = 1.0) -> list[Message]:
        """Return the records that count among the next `count`; may be empty.

        Waits for `count` records or `timeout_s`, as the client's `consume` does. Raises as `poll`,
        and `KafkaUnavailableError` where the client cannot read at all.
        """
        try:
            messages = self._client.consume(count, timeout_s)
        except failures.CLIENT_ERRORS as error:
            raise KafkaUnavailableError(
                f"nothing can be read: {failures.describe(error)}"
            ) from error
        if not messages and not self._complaints.is_over:
            self._complaints.check(is_asking=False)
        return [
            message for message in messages if message.error() is not None or self._accept(message)
        ]

    def bookmarks(self) -> dict[Partition, Bookmark]:
        """Return where the reader is, for each partition of which a record came or was restored.

        Independent copies, after everything handed out so far.
        """
        return {
            partition: Bookmark(bookmark.offset, bookmark.reader.copy())
            for partition, bookmark in self._bookmarks.items()
            if bookmark.offset >= 0
        }

    def commit(self) -> None:
        """Save the bookmarks as metadata of the committed offsets, and wait for it.

        Commit what has been processed: everything handed out so far counts as that.

        Raises:
            BookmarkTooLargeError: a state does not fit into the metadata; nothing was committed.
            KafkaUnavailableError: Kafka refused or did not answer.
        """
        offsets = []
        for partition in sorted(self._changed & self._bookmarks.keys()):
            bookmark = self._bookmarks[partition]
            text = bookmark.encode()
            if len(text) > self._metadata_bytes_max:
                raise BookmarkTooLargeError(
                    *partition,
                    size=len(text),
                    size_max=self._metadata_bytes_max,
                    writers=len(bookmark.reader.last_seq),
                )
            offsets.append(TopicPartition(*partition, bookmark.offset, metadata=text))
        if not offsets:
            return
        try:
            results = self._client.commit(offsets=offsets, asynchronous=False)
            for result in results:
                if result.error is not None:
                    raise KafkaException(result.error)
        except failures.CLIENT_ERRORS as error:
            raise KafkaUnavailableError(
                f"the bookmarks were not committed: {failures.describe(error)}"
            ) from error
        self._changed.clear()

    def close(self) -> None:
        """Leave the group and close; commits nothing. Again is fine.

        `on_revoked` is called before, in this thread, for what is still read. A broker that is away
        is waited for 2 s; what the client does after that ends with the process.
        """
        if self._is_closing:
            return
        held = list(self._bookmarks)
        try:
            if held and self._on_revoked is not None:
                self._on_revoked(held)
        finally:
            self._is_closing = True
            close_in_time(self._name, self._client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self, message: Message) -> bool:
        """Apply the rule to one record; whether it counts."""
        partition = partition_of(message)
        offset = message.offset() or 0
        bookmark = self._bookmarks.get(partition)
        if bookmark is None:
            return False  # fetched before the partition was given up: its next owner's
        counts = True
        try:
            headers = message.headers()
        except SystemError:
            headers = HeaderlessMessage(message).headers()  # raises, with the place
        if isinstance(headers, list):
            try:
                for name, value in headers:
                    if name == IDENTITY_HEADER:
                        identity = decode_identity(value if isinstance(value, bytes) else b"")
                        counts = bookmark.reader.accept(identity) < identity.count
                        break
            except ProtocolError as error:
                raise error.at(*partition, offset) from None
            message.set_headers([h for h in headers if not h[0].startswith(HEADER_PREFIX)])
        bookmark.offset = offset + 1
        self._changed.add(partition)
        return counts

    def _assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._complaints.answered()
        if self._is_closing:
            # A member that left just before gives its partitions up to this one. What was committed
            # for them is not to be had any more, from a client that closes.
            partitions = []
        restored = self._restore_all(client, partitions)
        for partition in partitions:
            name = partition.topic, partition.partition
            bookmark = self._bookmarks[name] = restored.get(name, Bookmark(-1))
            # Never the offset that the group may have besides: it has no reader state.
            partition.offset = self._start if bookmark.offset < 0 else bookmark.offset
        if self._is_cooperative:
            client.incremental_assign(partitions)
        else:
            client.assign(partitions)

    def _restore_all(
        self, client: Consumer, partitions: list[TopicPartition]
    ) -> dict[Partition, Bookmark]:
        if self._restore is not None:
            found = {
                (p.topic, p.partition): self._restore(p.topic, p.partition) for p in partitions
            }
            for (topic, number), given in found.items():
                if not isinstance(given, Bookmark | None):
                    raise ConfigError(
                        f"restore gives a Bookmark or None, not {given!r}, as it did for {topic!r} "
                        f"partition {number}",
                        "restore",
                    )
            return {name: bookmark for name, bookmark in found.items() if bookmark is not None}
        restored: dict[Partition, Bookmark] = {}
        for committed in committed_offsets(client, partitions):
            if committed.offset < 0:
                continue
            name = committed.topic, committed.partition
            try:
                restored[name] = Bookmark.decode(metadata_of(committed) or "")
            except WireCorruptError as error:
                # With an empty one in its place, outputs could be seen twice.
                error.detail += (
                    "; the group's offset was committed by another program: use a group.id of "
                    "the reader's own"
                )
                raise error.at(*name, committed.offset) from None
        return restored

    def _revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        if self._on_revoked is not None and not self._is_closing:
            self._on_revoked([(p.topic, p.partition) for p in partitions])
        self._lose(client, partitions)

    def _lose(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in places_of(partitions):
            self._bookmarks.pop(partition, None)
            self._changed.discard(partition)
        if self._is_cooperative:
            client.incremental_unassign(partitions)
        else:
            client.unassign()

"""Checkpoint files as chunks in the topic `<application id>-checkpoints`, one partition a group.

A file is stored by one *attempt*, whose number is part of its records' keys: a chunk of an attempt
that failed may arrive late, and compaction must not take it for that of a later one. A URI
names the offsets of the chunks, so that a restore reads these only; the gaps between all known
URIs are what a search for unknown files reads.

Key: `<name>~<attempt>/<chunk>`; value: the content and its CRC-32. A URI:
`topic:<partition>:<ranges>:<name>~<attempt>`, ranges as `<first offset>+<count>`, comma-separated.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from kstash.core import names
from kstash.core.wire import with_checksum, without_checksum
from kstash.errors import (
    CheckpointCorruptError,
    CheckpointStoreError,
    ClusterError,
    OffsetOutOfRangeError,
    ProducerFailedError,
    RecordTooLargeError,
    TopicMissingError,
    WireCorruptError,
)
from kstash.kafka import client_settings as settings
from kstash.kafka.consumer import KafkaConsumer
from kstash.kafka.producers import KafkaProducer
from kstash.ports.kafka import Admin, DeliveredMessage, Message, Partition
from kstash.settings.config import Config
from kstash.stores.chunk_uri import CHUNKS_MAX, ChunkUri, parsed_uris

CHUNK_BYTES = 512 * 1024
"""Well below the broker's default limit of 1 MiB a record; its overhead does not show."""


IN_FLIGHT_MAX = 16
"""Chunks on their way: 8 MiB keep a fast link busy."""

POLL_S = 0.05

_INDEX = re.compile(r"[0-9]{1,9}")

DEADLINE_S = settings.CHECKPOINT_DEADLINE_MS / 1000


Send = Callable[[int, str, bytes | None, Callable[[int], object]], None]
"""Appends a record: partition, key, value, and what gets its offset."""


class CheckpointTopic:
    """`kstash.ports.state.CheckpointStore` over a compacted topic.

    Args:
        config: the application's settings.
        admin: makes a client for asking for offsets; called once, when needed.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        config: Config,
        *,
        admin: Callable[[], Admin],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._topic = names.checkpoints_topic(config.application_id)
        self._make_admin = admin
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._admin: Admin | None = None
        self._idle_readers: list[KafkaConsumer] = []
        self._ends: dict[Partition, int] = {}
        self._is_closed = False
        # Of one process and one start of it: attempts of others have other numbers.
        self._attempts = itertools.count()
        self._attempt_mark = os.urandom(4).hex()

    def put(self, group: int, name: str, blocks: Iterable[bytes]) -> str:
        """Store one file: all of its chunks are acknowledged when this returns."""
        key = f"{name}~{self._attempt_mark}{next(self._attempts)}"
        offsets: dict[int, int] = {}
        with self._producing(f"storing {name}") as send:
            for index, chunk in enumerate(_chunks(blocks)):
                # An empty file has no chunk: no offset needs to be known.
                send(
                    group,
                    f"{key}/{index}",
                    with_checksum(chunk),
                    partial(offsets.setdefault, index),
                )
        return str(ChunkUri.of(group, [offsets[index] for index in range(len(offsets))], key))

    def get(self, uri: str, size: int) -> Iterator[bytes]:
        """Content of a stored file, chunk by chunk."""
        place = ChunkUri.parse(uri)
        if place.count > size:
            raise CheckpointCorruptError(f"it claims {place.count} chunks for {size} bytes", uri)
        self._check_end(place, uri)
        wanted = enumerate(place.offsets())
        try:
            for message in self._read(place.partition, place.ranges):
                index, offset = next(wanted)
                if message.offset() != offset:
                    raise self._gone(place, offset, uri)
                yield self._content(message, f"{place.key}/{index}".encode(), uri)
        except (OffsetOutOfRangeError, TopicMissingError) as error:
            raise CheckpointCorruptError(str(error), uri) from error
        for _, offset in wanted:
            raise self._gone(place, offset, uri)

    def missing(self, uris: Collection[str]) -> set[str]:
        """Those beyond the ends of their partitions, as after the topic was made anew."""
        found = parsed_uris(uris)
        partitions = [(self._topic, number) for number in {p.partition for p in found.values()}]
        with self._asking() as admin:
            ends, starts = admin.end_offsets(partitions), admin.start_offsets(partitions)
        there = {
            uri
            for uri, place in found.items()
            if all(
                starts[self._topic, place.partition] <= first
                and first + count <= ends[self._topic, place.partition]
                for first, count in place.ranges
            )
        }
        return set(uris) - there

    def unknown_files(
        self, group: int, folder: str, known: Collection[str]
    ) -> list[tuple[str, str]]:
        """(Name, URI) of what is stored under `<folder>/` and is not among `known`.

        Reads what no known URI covers: tombstones, and what compaction has not removed yet.
        """
        places = parsed_uris(known).values()
        partition = (self._topic, group)
        with self._asking() as admin:
            end = admin.end_offsets([partition])[partition]
            start = admin.start_offsets([partition])[partition]
        covered = sorted(
            run for place in places if place.partition == group for run in place.ranges
        )
        alive: dict[str, set[int]] = {}
        for message in self._read(group, _gaps(start, end, covered)):
            key, _, index = (message.key() or b"").decode(errors="replace").rpartition("/")
            if not key.startswith(f"{folder}/") or _INDEX.fullmatch(index) is None:
                continue
            if message.value() is None:
                alive.get(key, set()).discard(int(index))
            elif int(index) < CHUNKS_MAX:
                alive.setdefault(key, set()).add(int(index))
        return [
            # Chunks of an interrupted upload, or deletion: the keys up to the last one there is.
            (key.rpartition("~")[0], str(ChunkUri(group, ((0, max(chunks) + 1),), key)))
            for key, chunks in alive.items()
            if chunks
        ]

    def delete(self, uris: Collection[str]) -> None:
        """Write tombstones for all chunks; compaction frees the space."""
        with self._producing("deleting files") as send:
            # Other URIs were left in the store that was set before.
            for place in parsed_uris(uris).values():
                for index in range(place.count):
                    send(place.partition, f"{place.key}/{index}", None, lambda _: None)

    def close(self) -> None:
        """Close all clients that no job uses at the moment."""
        self._is_closed = True
        for reader in self._idle_readers:
            reader.close()
        self._idle_readers.clear()
        # An upload under way holds the lock; its producer ends with it.
        if self._lock.acquire(blocking=False):
            if self._producer is not None:
                self._producer.close()
                self._producer = None
            self._lock.release()
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    # -- writing ---------------------------------------------------------------------------------

    @contextmanager
    def _producing(self, action: str) -> Iterator[Send]:
        """Append records; all of them are acknowledged when this ends without an error."""
        failures: list[object] = []

        def send(
            group: int, key: str, value: bytes | None, on_offset: Callable[[int], object]
        ) -> None:
            def delivered(error: Any, message: DeliveredMessage) -> None:
                offset = message.offset()
                if error is None and offset is not None:
                    on_offset(offset)
                else:
                    failures.append(error or "acknowledged without an offset")

            producer.produce(self._topic, value, key.encode(), group, delivered)
            wait(IN_FLIGHT_MAX)

        def wait(in_flight_max: int) -> None:
            deadline_s = self._monotonic() + DEADLINE_S
            while len(producer) > in_flight_max and not failures:
                producer.flush(POLL_S)
                if self._is_closed or self._monotonic() > deadline_s:
                    raise CheckpointStoreError(f"{action} in {self._topic!r}: no answer")
            if failures:
                raise CheckpointStoreError(f"{action} in {self._topic!r}: {failures[0]}")

        with self._lock:
            if self._producer is None:
                self._producer = KafkaProducer(settings.checkpoint_producer(self._config))
            producer = self._producer
            try:
                yield send
                wait(0)
            except BaseException as error:
                # What is on its way must not count for the next attempt.
                self._producer = None
                producer.close()
                if isinstance(error, ProducerFailedError | RecordTooLargeError | TopicMissingError):
                    raise CheckpointStoreError(f"{action} in {self._topic!r}: {error}") from error
                raise

    # -- reading ---------------------------------------------------------------------------------

    def _read(self, partition: int, ranges: Iterable[tuple[int, int]]) -> Iterator[Message]:
        """The records that are still there among runs of offsets, (first, count) each."""
        try:
            reader = self._idle_readers.pop()
        except IndexError:
            reader = KafkaConsumer(
                settings.checkpoint_reader(self._config),
                bootstrap_servers=self._config.bootstrap_servers,
            )
        is_sound = False
        try:
            for first, count in ranges:
                yield from self._read_run(reader, (self._topic, partition), first, first + count)
            is_sound = True
        finally:
            # A reader that was stopped half-way may still hold records of that run.
            if is_sound and not self._is_closed:
                self._idle_readers.append(reader)
            else:
                reader.close()

    def _read_run(
        self, reader: KafkaConsumer, partition: Partition, first: int, end: int
    ) -> Iterator[Message]:
        reader.add({partition: first})
        deadline_s = self._monotonic() + DEADLINE_S
        while reader.position(partition) < end:
            messages = reader.poll(POLL_S)
            if messages:
                deadline_s = self._monotonic() + DEADLINE_S
            elif self._monotonic() > deadline_s:
                raise CheckpointStoreError(
                    f"no record of {self._topic!r}[{partition[1]}] from offset "
                    f"{reader.position(partition)} on came within {DEADLINE_S:g} s"
                )
            for message in messages:
                if first <= message.offset() < end:
                    yield message
        reader.remove([partition])

    def _check_end(self, place: ChunkUri, uri: str) -> None:
        """Refuse offsets that no record has yet: a reader would wait for them."""
        if not place.ranges:
            return
        partition, end = (self._topic, place.partition), max(map(sum, place.ranges))
        if end > self._ends.get(partition, 0):
            with self._asking() as admin:
                self._ends[partition] = admin.end_offsets([partition])[partition]
        if end > self._ends[partition]:
            raise CheckpointCorruptError(
                f"{self._topic!r}[{place.partition}] ends at {self._ends[partition]}", uri
            )

    def _gone(self, place: ChunkUri, offset: int, uri: str) -> CheckpointCorruptError:
        return CheckpointCorruptError(
            f"the record at offset {offset} of {self._topic!r}[{place.partition}] is gone", uri
        )

    def _content(self, message: Message, key: bytes, uri: str) -> bytes:
        place = f"{self._topic!r}[{message.partition()}] at offset {message.offset()}"
        if message.key() != key:
            raise CheckpointCorruptError(f"another record is in {place}", uri)
        try:
            return without_checksum(message.value())
        except WireCorruptError as error:
            raise CheckpointCorruptError(f"{error} in {place}", uri) from error

    @contextmanager
    def _asking(self) -> Iterator[Admin]:
        if self._admin is None:
            self._admin = self._make_admin()
        try:
            yield self._admin
        except TopicMissingError as error:
            raise CheckpointCorruptError(str(error), self._topic) from error
        except ClusterError as error:
            raise CheckpointStoreError(f"{self._topic!r}: {error}") from error


def _chunks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of `CHUNK_BYTES`, the last one shorter."""
    waiting = bytearray()
    for block in blocks:
        waiting += block
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)


def _gaps(start: int, end: int, covered: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What the runs of offsets leave of `[start, end)`, as (first, count); `covered` is sorted."""
    at = start
    for first, count in covered:
        if first > at:
            yield at, min(first, end) - at
        at = max(at, first + count)
    if at < end:
        yield at, end - at

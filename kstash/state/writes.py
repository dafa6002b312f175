"""Writes to RocksDB: in pieces, waiting while it has flushes or compactions to catch up with.

A database that cannot take a write now refuses it (`no_slowdown`), and the attempt uses up
rocksdict's batch: so every attempt makes a new one, of few enough records that this costs little.
Nothing needs the pieces to be written together: live files are never opened again, and a checkpoint
is made of them only after the last piece.

A wait has no limit of its own: a starved machine may need minutes for one compaction. It ends in an
error when the database stands still.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from typing import Any

import structlog
from rocksdict import Rdict, WriteBatch, WriteOptions

from kstash.failpoints import around

PIECE_RECORDS = 4096
"""With small values about as many bytes as one insertion into the write buffer should be."""

STALL_TEXT = "incomplete"
"""In RocksDB's answer to a write that would have to wait."""

STALL_RETRY_S = 0.002
STALL_TOLD_S = 1.0
STALL_LOOK_S = 0.1
STALL_MAX_S = 60.0
"""Of a database where no flush or compaction ends, and no file grows."""

_PROGRESS = (
    "rocksdb.num-immutable-mem-table",
    "rocksdb.num-files-at-level0",
    "rocksdb.estimate-pending-compaction-bytes",
    "rocksdb.total-sst-files-size",
)
"""Properties of a column family that change when a flush or a compaction of it ends."""

_STOPPED = ("rocksdb.is-write-stopped", "rocksdb.actual-delayed-write-rate")
"""Properties of a database that are not zero while it has to catch up."""

log = structlog.get_logger("kstash.state")

Fill = Callable[[WriteBatch], object]
"""Puts one piece into an empty batch; may be called again."""


def put_all(handle: Any, keys: Sequence[bytes], values: Sequence[bytes]) -> Iterator[Fill]:
    """Pieces that write `keys` with `values`, equally long, to a column family."""
    for start in range(0, len(keys), PIECE_RECORDS):
        part = slice(start, start + PIECE_RECORDS)

        def fill(batch: WriteBatch, part: slice = part) -> None:
            # deque drains the iterator at C speed: there may be a million entries.
            deque(map(batch.put, keys[part], values[part], repeat(handle)), maxlen=0)

        yield fill


def delete_all(handle: Any, keys: Sequence[bytes]) -> Iterator[Fill]:
    """Pieces that delete `keys` from a column family."""
    for start in range(0, len(keys), PIECE_RECORDS):
        part = slice(start, start + PIECE_RECORDS)

        def fill(batch: WriteBatch, part: slice = part) -> None:
            deque(map(batch.delete, keys[part], repeat(handle)), maxlen=0)

        yield fill


def erase(handle: Any, lower: bytes, upper: bytes) -> Fill:
    """A piece that deletes all keys from `lower` on and below `upper` from a column family."""

    def fill(batch: WriteBatch) -> None:
        batch.delete_range(lower, upper, handle)

    return fill


class Writer:
    """Writes pieces to one database.

    Args:
        database: a RocksDB database without a write-ahead log.
        families: the column families that are written, each as rocksdict shows one.
        folder: of the database's files.
        name: of the task, for messages.
        monotonic: seconds that never go back.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        database: Rdict,
        families: Sequence[Rdict],
        *,
        folder: Path,
        name: str,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._families = families
        self._folder = folder
        self._name = name
        self._monotonic = monotonic
        self._sleep = sleep
        self._options = WriteOptions()
        # The stub declares a method; in the extension it is an attribute.
        self._options.disable_wal = True  # type: ignore[method-assign,assignment]
        # On a full disk a write would wait forever for a flush that cannot succeed.
        self._options.no_slowdown = True

    def apply(self, fill: Fill) -> None:
        """Write one piece, and wait for as long as RocksDB makes progress.

        Raises:
            TimeoutError: the database has stood still for a minute.
            Exception: what RocksDB says otherwise (rocksdict raises bare ones).
        """
        stall: _Stall | None = None
        while (error := self.attempt(fill)) is not None:
            if stall is None:
                stall = _Stall(self, self._name, self._monotonic())
            stall.check(self._monotonic(), error)
            self._sleep(STALL_RETRY_S)

    def attempt(self, fill: Fill) -> Exception | None:
        """Write one piece; returns what RocksDB says if it has to catch up before.

        Raises:
            Exception: what RocksDB says otherwise (rocksdict raises bare ones).
        """
        batch = WriteBatch(raw_mode=True)
        fill(batch)
        try:
            with around("state.write"):
                self._database.write(batch, self._options)
        except Exception as error:  # rocksdict raises bare Exceptions
            if STALL_TEXT not in str(error):
                raise
            return error
        return None

    def is_stopped(self) -> bool:
        """Whether a write would wait for a flush or a compaction; waits a moment if so."""
        if any(self._database.property_int_value(name) for name in _STOPPED):
            self._sleep(STALL_RETRY_S)
            return True
        return False

    def figures(self) -> dict[str, int]:
        """What changes with each flush and compaction, of all column families together."""
        # What rocksdict shows as a database has the properties of one of its families only.
        return {
            name: sum(int(family.property_value(name) or 0) for family in self._families)
            for name in _PROGRESS
        }

    def file_bytes(self) -> int:
        """Size of all files, also of those that a flush or compaction is writing."""
        total = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # deleted meanwhile
                    total += entry.stat().st_size
        return total


class _Stall:
    """One wait of a writer for flushes and compactions, since `now`."""

    def __init__(self, writer: Writer, name: str, now: float) -> None:
        self._writer = writer
        self._name = name
        self._since = self._changed = now
        self._next_look = now + STALL_LOOK_S
        self._is_told = False
        self._seen = writer.figures()
        self._most_bytes = writer.file_bytes()

    def check(self, now: float, error: Exception) -> None:
        """Report a wait that is long; raise `TimeoutError` for one without an end."""
        if now < self._next_look:
            return
        self._next_look = now + STALL_LOOK_S
        seen, file_bytes = self._writer.figures(), self._writer.file_bytes()
        # What is tried again and again, as a flush on a full disk, has no more bytes than before.
        if seen != self._seen or file_bytes > self._most_bytes:
            self._seen, self._most_bytes, self._changed = seen, file_bytes, now
        if now - self._since >= STALL_TOLD_S and not self._is_told:
            self._is_told = True
            log.warning("state waits for RocksDB", task=self._name, figures=self._text())
        if now - self._changed >= STALL_MAX_S:
            raise TimeoutError(
                f"RocksDB has got no further for {STALL_MAX_S:g} s with what it has to write "
                f"({self._text()}, {error})"
            ) from error

    def _text(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._seen.items())

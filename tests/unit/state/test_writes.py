"""Writes to RocksDB that it refuses for a while: nothing is lost, a standstill is reported."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import pytest
from rocksdict import Options, Rdict, WriteBatch

from kstash.errors import StateError
from kstash.ports.state import StoreSpec
from kstash.state import options, rocks_task, writes
from kstash.state.rocks import RocksBackend
from kstash.state.writes import Writer, delete_all, put_all
from kstash.testing.clock import ManualClock

SPEC = StoreSpec("words", lambda value: b"%d" % value, int)
STALLED = "Result incomplete: Write stall"
"""What rocksdict raises, word by word."""


class Refusing:
    """A database that refuses some writes as RocksDB does in a stall: the batch is used up.

    Args:
        refused: writes of the first so many batches are refused; or
        every: of each so many-th one.
    """

    def __init__(
        self, database: Rdict, refused: int = 0, error: str = STALLED, every: int = 0
    ) -> None:
        self._database = database
        self.refused = refused
        self.attempts = 0
        self.figures = {"rocksdb.num-files-at-level0": 0}
        self._error = error
        self._every = every
        self._consumed: dict[int, WriteBatch] = {}

    def write(self, batch: WriteBatch, wanted: Any) -> None:
        """Write, or use the batch up for nothing."""
        self.attempts += 1
        if id(batch) in self._consumed:
            raise Exception("this batch is already consumed")  # noqa: TRY002 - as rocksdict
        is_nth = self._every and self.attempts % self._every == 0
        if self.attempts <= self.refused or is_nth:
            self._consumed[id(batch)] = batch  # kept: no other one may get its id
            raise Exception(self._error)  # noqa: TRY002 - as rocksdict
        self._database.write(batch, wanted)

    def path(self) -> str:
        """Of its files."""
        return self._database.path()

    def property_value(self, name: str) -> str | None:
        """A figure that a test sets."""
        value = self.figures.get(name)
        return None if value is None else str(value)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Rdict]:
    """An empty database."""
    made = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    yield made
    made.close()


def writer_of(
    refusing: Refusing, clock: ManualClock, sleep: Callable[[float], None] | None = None
) -> Writer:
    """A writer on a clock of the test's; its waits move the clock."""
    database = cast("Rdict", refusing)
    return Writer(
        database,
        [database],
        folder=Path(refusing.path()),
        name="count_0",
        monotonic=clock.monotonic,
        sleep=sleep or clock.advance,
    )


def test_a_refused_batch_is_made_anew(database: Rdict) -> None:
    """A write that RocksDB refuses in a stall is done by a later attempt, whole."""
    refusing = Refusing(database, refused=3)
    writer = writer_of(refusing, ManualClock())
    handle = database.get_column_family_handle("default")
    keys = [b"k%d" % n for n in range(100)]
    for fill in put_all(handle, keys, keys):
        writer.apply(fill)
    for fill in delete_all(handle, keys[:10]):
        writer.apply(fill)
    assert refusing.attempts == 5
    assert dict(database.items()) == {key: key for key in keys[10:]}


def test_a_large_write_goes_in_pieces(database: Rdict, monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch holds more than so many records, and what is repeated is one of them."""
    monkeypatch.setattr(writes, "PIECE_RECORDS", 10)
    refusing = Refusing(database, refused=1)
    writer = writer_of(refusing, ManualClock())
    keys = [b"%03d" % n for n in range(95)]
    for fill in put_all(database.get_column_family_handle("default"), keys, keys):
        writer.apply(fill)
    assert refusing.attempts == 1 + 10
    assert list(database.keys()) == keys


def test_a_stall_may_take_long_while_rocksdb_gets_on(database: Rdict) -> None:
    """As long as flushes and compactions end, a write waits; the wait is no error."""
    refusing = Refusing(database, refused=1_000_000)
    clock = ManualClock()
    started = clock.monotonic()

    def sleep(seconds: float) -> None:
        clock.advance(10.0 + seconds)
        refusing.figures["rocksdb.num-files-at-level0"] += 1
        if clock.monotonic() - started > 20 * writes.STALL_MAX_S:
            refusing.refused = 0

    handle = database.get_column_family_handle("default")
    writer_of(refusing, clock, sleep).apply(lambda batch: batch.put(b"a", b"1", handle))
    assert database.get(b"a") == b"1"


def test_a_stall_may_take_long_while_a_compaction_writes(database: Rdict) -> None:
    """A compaction that takes minutes is no standstill: the file that it writes grows."""
    refusing = Refusing(database, refused=1_000_000)
    clock = ManualClock()
    started = clock.monotonic()
    written = Path(database.path()) / "000077.sst"

    def sleep(seconds: float) -> None:
        clock.advance(10.0 + seconds)
        with written.open("ab") as file:
            file.write(b"more")
        if clock.monotonic() - started > 20 * writes.STALL_MAX_S:
            refusing.refused = 0

    handle = database.get_column_family_handle("default")
    writer_of(refusing, clock, sleep).apply(lambda batch: batch.put(b"a", b"1", handle))
    assert database.get(b"a") == b"1"


def test_what_is_tried_again_and_again_is_a_standstill(database: Rdict) -> None:
    """A flush that writes as much as the disk holds, fails, and begins anew gets no further."""
    refusing = Refusing(database, refused=1_000_000)
    clock = ManualClock()
    written = Path(database.path()) / "000077.sst"
    sizes = cycle([0, 10, 20])

    def sleep(seconds: float) -> None:
        clock.advance(1.0 + seconds)
        written.write_bytes(bytes(next(sizes)))

    handle = database.get_column_family_handle("default")
    with pytest.raises(TimeoutError, match=r"got no further for 60 s"):
        writer_of(refusing, clock, sleep).apply(lambda batch: batch.put(b"a", b"1", handle))


def test_the_figures_are_those_of_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database has the figures of one column family, where the position lies: all count."""
    made: list[Writer] = []

    def make(*args: Any, **named: Any) -> Writer:
        made.append(Writer(*args, **named))
        return made[-1]

    monkeypatch.setattr(rocks_task, "Writer", make)
    backend = RocksBackend(tmp_path, "app", topology_hash="hash", memory_bytes=1 << 20)
    others = StoreSpec("others", lambda value: b"%d" % value, int)
    state = backend.task("count", 0).open([SPEC, others], base=None)
    seen = [made[0].figures()]
    for store in ("words", "others"):
        state.store(store).load([b"a"])[b"a"] = 1
        state.checkpoint(store, 1)
        seen.append(made[0].figures())
    backend.close()
    assert [figures["rocksdb.num-files-at-level0"] for figures in seen] == [0, 2, 4]


def test_a_standstill_is_told(database: Rdict) -> None:
    """A database where nothing changes for a minute fails the write, and says what it holds."""
    refusing = Refusing(database, refused=1_000_000)
    clock = ManualClock()
    started = clock.monotonic()
    handle = database.get_column_family_handle("default")
    with pytest.raises(TimeoutError, match=r"got no further for 60 s.*num-files-at-level0 0"):
        writer_of(refusing, clock).apply(lambda batch: batch.put(b"a", b"1", handle))
    assert clock.monotonic() - started == pytest.approx(writes.STALL_MAX_S, abs=1.0)


def test_other_errors_come_at_once(database: Rdict) -> None:
    """What is no stall is not repeated."""
    refusing = Refusing(database, refused=1_000_000, error="IO error: No space left on device")
    handle = database.get_column_family_handle("default")
    with pytest.raises(Exception, match="No space left"):
        writer_of(refusing, ManualClock()).apply(lambda batch: batch.put(b"a", b"1", handle))
    assert refusing.attempts == 1


@pytest.mark.parametrize("buffer_bytes", [64 << 10, options.WRITE_BUFFER_BYTES])
def test_spills_and_checkpoints_survive_stalls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer_bytes: int
) -> None:
    """Every other write is refused, and write buffers may be far too small: nothing is lost."""
    monkeypatch.setattr(options, "WRITE_BUFFER_BYTES", buffer_bytes)
    refusing: list[Refusing] = []

    def make(database: Rdict, *others: Any, **named: Any) -> Writer:
        refusing.append(Refusing(database, every=2))
        return Writer(cast("Rdict", refusing[-1]), *others, **named)

    monkeypatch.setattr(rocks_task, "Writer", make)
    backend = RocksBackend(tmp_path, "app", topology_hash="hash", memory_bytes=1 << 20)
    state = backend.task("count", 0).open([SPEC], base=None)
    store = state.store("words")
    for start in range(0, 60_000, 500):
        keys = [b"%032d" % n for n in range(start, start + 500)]
        store.load(keys).update(dict.fromkeys(keys, start))
    entries = state.checkpoint("1", 1)
    assert refusing[0].attempts > 20
    state.close()
    assert backend.task("count", 0).verify("1", entries)
    restored = backend.task("count", 0).open([SPEC], base="1")
    assert len(restored.store("words").items()) == 60_000
    backend.close()


def test_a_standstill_is_a_state_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the folder, says that nothing is lost, and all entries stay resident."""
    backend = RocksBackend(tmp_path, "app", topology_hash="hash", memory_bytes=1 << 20)
    state = backend.task("count", 0).open([SPEC], base=None)
    state.store("words").load([b"a"])[b"a"] = 1
    state.store("words").load([])  # what is leased is not written

    def refuse(_self: Writer, _fill: writes.Fill) -> None:
        raise TimeoutError("RocksDB has got no further for 60 s")

    with monkeypatch.context() as patch:
        patch.setattr(writes.Writer, "apply", refuse)
        with pytest.raises(StateError, match=r"count_0.*no further.*nothing is lost"):
            deque(state.spilling(), maxlen=0)
    assert state.store("words").items() == [(b"a", 1)]
    state.checkpoint("1", 1)
    backend.close()

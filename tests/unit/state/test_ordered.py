"""What an ordered store reads and writes of its backing: little, however much was deleted there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstash.errors import StateError
from kstash.ports.state import StoreKind, StoreSpec
from kstash.state.backing import Changes
from kstash.state.budget import MemoryBudget
from kstash.state.ordered import CachedOrderedStore
from kstash.state.rocks import RocksBackend
from kstash.state.timers import StoredTimers, decode_timer, encode_timer, entries_spec
from kstash.testing.state import MemoryBackend, MemoryTaskState

ENTRIES = StoreSpec("entries", str.encode, bytes.decode, StoreKind.ORDERED)
TIMERS = StoreSpec("timers", bytes, bytes, StoreKind.TIMERS)


class CountingTable:
    """A backing in a dict that counts the rows which are read of it."""

    def __init__(self, entries: dict[bytes, bytes]) -> None:
        self.entries = entries
        self.rows_read = 0
        self.scans = 0

    def fetch(self, keys: list[bytes]) -> list[bytes | None]:
        """By key."""
        return [self.entries.get(key) for key in keys]

    def scan(self, lower: bytes, upper: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """A range."""
        inside = [k for k in sorted(self.entries) if k >= lower and (upper is None or k < upper)]
        self.rows_read += len(inside[:limit])
        self.scans += 1
        return [(key, self.entries[key]) for key in inside[:limit]]

    def apply(self, changes: Changes) -> None:
        """What a backend does with them."""
        if changes.erased is not None:
            for key in [k for k in self.entries if changes.erased[0] <= k < changes.erased[1]]:
                del self.entries[key]
        self.entries.update(zip(changes.keys, changes.values, strict=True))
        for key in changes.single_deletions:
            self.entries.pop(key, None)


def on_disk(count: int) -> tuple[CountingTable, CachedOrderedStore]:
    """A store with so many entries in its backing and none in memory."""
    backing = CountingTable({b"%06d" % n: b"v" for n in range(count)})
    return backing, CachedOrderedStore(
        ENTRIES, backing, MemoryBudget(1 << 30), is_backing_empty=False
    )


def timers_on_disk(count: int) -> tuple[CountingTable, CachedOrderedStore, StoredTimers]:
    """So many timers, each due a millisecond after the one before it, all of them on the disk."""
    backing = CountingTable({})
    spec = entries_spec(TIMERS)
    budget = MemoryBudget(1 << 30)
    filling = CachedOrderedStore(spec, backing, budget, is_backing_empty=True)
    for number in range(count):
        StoredTimers(filling).set(b"%d" % number, "t", number)
    backing.apply(filling.changes())
    store = CachedOrderedStore(spec, backing, budget, is_backing_empty=False)
    return backing, store, StoredTimers(store)


def test_the_next_timer_is_found_by_one_look() -> None:
    """Of a thousand timers on the disk a few are read, and none stays in memory."""
    backing, store, timers = timers_on_disk(1000)
    assert backing.scans == 0
    assert timers.next_due() == 0
    assert backing.scans == 1
    assert backing.rows_read <= 8
    assert len(store) == 0


def test_nothing_is_read_while_nothing_is_due() -> None:
    """Once the first timer is known, to ask before its time costs no look at the backing."""
    backing, _, timers = timers_on_disk(10)
    timers.cancel(b"0", "t")
    assert timers.next_due() == 1
    scans = backing.scans
    for _ in range(100):
        assert timers.due(0, limit=10) == []
    assert backing.scans == scans


def test_what_has_fired_is_not_read_again() -> None:
    """A thousand timers that fire ten at a time, with no write-back, cost a few reads each."""
    backing, _, timers = timers_on_disk(1000)
    for _ in range(100):
        for timer in timers.due(1000, limit=10):
            timers.cancel(timer.key, timer.name)
    assert timers.next_due() is None
    assert backing.rows_read < 4000
    rows_read = backing.rows_read
    assert timers.next_due() is None
    assert backing.rows_read == rows_read


def test_what_has_fired_is_erased_together() -> None:
    """No tombstone of its own is written for what stands before the first entry."""
    backing, store, timers = timers_on_disk(100)
    for timer in timers.due(1000, limit=60):
        timers.cancel(timer.key, timer.name)
    assert timers.next_due() == 60
    changes = store.changes()
    assert changes.erased is not None
    # Of each timer only the entry by its name.
    assert len(changes.single_deletions) == 60
    assert len(changes.deletions) == 120
    backing.apply(changes)
    store.mark_written(changes)
    assert len(backing.entries) == 80
    assert store.changes().erased is None
    assert [timer.at_ms for timer in timers.due(1000, limit=3)] == [60, 61, 62]


def test_what_never_left_memory_is_erased_together() -> None:
    """The same without a restart: what was written and is gone at the front needs one erasure."""
    backing = CountingTable({})
    store = CachedOrderedStore(ENTRIES, backing, MemoryBudget(1 << 30), is_backing_empty=True)
    store.put({b"%06d" % n: "v" for n in range(100)})
    for _ in range(2):
        changes = store.changes()
        backing.apply(changes)
        store.mark_written(changes)
    store.delete([b"%06d" % n for n in range(60)])
    assert store.range(b"", None, limit=1) == [(b"000060", "v")]
    changes = store.changes()
    assert changes.erased == (b"", b"000060")
    assert changes.single_deletions == []


def test_what_is_deleted_is_not_walked_over() -> None:
    """Neither before the next write-back, nor after it where a caller assigned None."""
    backing = CountingTable({})
    store = CachedOrderedStore(ENTRIES, backing, MemoryBudget(1 << 30), is_backing_empty=True)
    store.put({b"a": "v", b"b": "v", b"c": "v"})
    assert len(store.items()) == 3
    store.delete([b"a"])
    assert list(store._sorted.walk(b"", None)) == [b"b", b"c"]
    store.load([b"b"])[b"b"] = None
    store.mark_written(store.changes())
    assert list(store._sorted.walk(b"", None)) == [b"c"]


def test_no_range_has_very_many_keys_to_sort() -> None:
    """However many entries came since the last range, most of them are in order already."""
    store = CachedOrderedStore(
        ENTRIES, CountingTable({}), MemoryBudget(1 << 30), is_backing_empty=True
    )
    for number in range(20_000):
        store.put({b"%06d" % number: "v"})
    assert len(store._unsorted) <= 5000
    assert len(store.items()) == 20_000


def test_what_expired_is_not_written() -> None:
    """Entries that came and expired between two write-backs are no longer remembered."""
    backing = CountingTable({})
    store = CachedOrderedStore(ENTRIES, backing, MemoryBudget(1 << 30), is_backing_empty=True)
    store.put({b"%06d" % n: "v" for n in range(100)})
    store.expire_below(b"000090", limit=100)
    assert len(store) == 10
    assert len(store._dirty) == 10
    assert len(store.changes().keys) == 10


def test_erasures_stand_side_by_side() -> None:
    """Each write-back erases from where the last one ended, so that RocksDB splits no range."""
    backing, store = on_disk(100)
    bounds = []
    for bound in (b"000010", b"000030", b"000060"):
        store.expire_below(bound, limit=100)
        changes = store.changes()
        bounds.append(changes.erased)
        backing.apply(changes)
        store.mark_written(changes)
    assert bounds == [(b"", b"000010"), (b"000010", b"000030"), (b"000030", b"000060")]
    assert len(backing.entries) == 40


def test_an_expiry_reads_no_more_than_it_removes() -> None:
    """A step over a large store reads about its limit of rows."""
    backing, store = on_disk(5000)
    for _ in range(10):
        assert store.expire_below(b"999999", limit=100)
    assert backing.rows_read < 1200
    assert store.range(b"", None, limit=1) == [(b"001000", "v")]


def test_a_range_reads_no_more_than_it_gives() -> None:
    """Entries in memory stand for those of the backing, which are not read past the last one."""
    backing, store = on_disk(5000)
    store.load([b"%06d" % n for n in range(2000)])
    assert len(store.range(b"", None, limit=10)) == 10
    assert backing.rows_read <= 20


def test_what_is_all_resident_needs_no_look() -> None:
    """Without a spill or a restart the backing is never read."""
    backing = CountingTable({})
    store = CachedOrderedStore(ENTRIES, backing, MemoryBudget(1 << 30), is_backing_empty=True)
    store.put({b"%06d" % n: "v" for n in range(100)})
    changes = store.changes()
    backing.apply(changes)
    store.mark_written(changes)
    store.expire_below(b"000050", limit=100)
    assert store.range(b"", None, limit=1) == [(b"000050", "v")]
    assert backing.scans == 0


def test_a_failed_write_is_done_again_as_a_whole() -> None:
    """What was erased, put and deleted in part is so again: nothing expired comes back."""
    backing, store = on_disk(10)
    store.expire_below(b"000005", limit=10)
    store.put({b"000002": "again"})
    first = store.changes()
    backing.entries.update(zip(first.keys, first.values, strict=True))  # and then the disk was full
    assert store.range(b"", b"000006", limit=9) == [(b"000002", "again"), (b"000005", "v")]
    store.delete([b"000002"])
    changes = store.changes()
    backing.apply(changes)
    store.mark_written(changes)
    assert sorted(backing.entries) == [b"%06d" % n for n in range(5, 10)]


def spilling(memory_bytes: int) -> MemoryTaskState:
    """A task with timers and an ordered store under a memory bound."""
    return MemoryBackend(memory_bytes).task("stage", 0).open([ENTRIES, TIMERS], base=None)


def test_timers_take_no_more_memory_than_there_is() -> None:
    """Far more timers than fit are set, moved and cancelled within the bound."""
    state = spilling(300_000)
    timers = state.timers("timers")
    for number in range(5000):
        timers.set(b"k%d" % number, "idle", number)
        assert state._budget.used_bytes <= 300_000
    assert sum(len(store) for store in state.cached_stores()) < 2500
    for number in range(5000):
        timers.cancel(b"k%d" % number, "idle")
    assert sum(len(store) for store in state.cached_stores()) < 2500
    assert timers.next_due() is None


def test_puts_take_no_more_memory_than_there_is() -> None:
    """Large values that nobody loads are noticed too."""
    state = spilling(300_000)
    store = state.ordered("entries")
    for number in range(2000):
        store.put({b"%06d" % number: "x" * 2000})
    assert len(store) < 600
    assert len(store.range(b"", None, limit=5000)) == 2000


@pytest.mark.parametrize("key", [b"", b"\x00", b"\x00\xff", b"a\x00\x00b", b"\xff\xff"])
@pytest.mark.parametrize("name", ["", "name", "é\x00x"])
def test_identities_come_back(key: bytes, name: str) -> None:
    """Key and name of a timer are found in its entry, whatever bytes the key has."""
    assert decode_timer(encode_timer(key, name)) == (key, name)


def test_a_damaged_file_is_an_error_and_no_short_range(tmp_path: Path) -> None:
    """Where RocksDB cannot read on, a range says so: it does not end early."""
    backend = RocksBackend(tmp_path, "app", topology_hash="h", memory_bytes=1 << 26)
    state = backend.task("stage", 0).open([ENTRIES], base=None)
    state.ordered("entries").put({b"%06d" % n: f"{n * 7919:0100}" for n in range(5000)})
    files = state.checkpoint("1", 1)
    state.close()
    largest = max(files, key=lambda entry: entry.size)
    path = tmp_path / "app" / "stage_0" / "checkpoints" / "1" / largest.name
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    store = backend.task("stage", 0).open([ENTRIES], base="1").ordered("entries")
    with pytest.raises(StateError, match="reading state failed"):
        store.range(b"", None, limit=10_000)
    backend.close()


def test_what_only_the_disk_has_is_there_once_it_is_loaded() -> None:
    """Beside what is resident, and what is nowhere."""
    _, store = on_disk(10)
    first, *_, last = (key for key, _ in store.items())
    resident = store.load([first])[first]
    live = store.load([first, b"nowhere", last])
    assert live[first] == resident
    assert live[last] is not None
    assert b"nowhere" not in live

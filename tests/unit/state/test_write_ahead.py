"""What is written ahead of a checkpoint: in parts, kept, dirty again once it changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from rocksdict import Rdict

from kstash.core.records import FileEntry
from kstash.errors import StateError
from kstash.ports.state import StoreKind, StoreSpec
from kstash.state import files, parts, rocks_task, task_stores, writes
from kstash.state.ordered import CachedOrderedStore
from kstash.state.rocks import RocksBackend
from kstash.state.writes import Fill, Writer
from kstash.testing.state import MemoryBackend, MemoryTaskState

COUNTS = StoreSpec("counts", lambda value: b"%d" % value, int)
QUEUE = StoreSpec("queue", lambda value: b"%d" % value, int, StoreKind.ORDERED)
SPECS = [COUNTS, QUEUE]
MANY = [b"%06d" % number for number in range(40_000)]
SOME = MANY[: len(MANY) // 2]
LAST = [b"%06d" % number for number in range(100)]


@pytest.fixture
def backend() -> MemoryBackend:
    """What stands for the disk."""
    return MemoryBackend()


def filled(backend: MemoryBackend) -> MemoryTaskState:
    """A task with many dirty entries, of which the last batch has some."""
    state = backend.task("stage", 0).open(SPECS, base=None)
    state.store("counts").load(MANY).update(dict.fromkeys(MANY, 1))
    state.ordered("queue").put(dict.fromkeys(MANY, 1))
    state.store("counts").load(LAST)
    return state


def write_all(state: MemoryTaskState) -> int:
    """Write ahead until a checkpoint need not wait; returns how many times it had to."""
    calls = 0
    while state.write_ahead():
        calls += 1
    return calls


def restored(backend: MemoryBackend, label: str) -> MemoryTaskState:
    """What a checkpoint holds."""
    return backend.task("stage", 0).open(SPECS, base=label)


def test_a_checkpoint_finds_only_the_last_batch(backend: MemoryBackend) -> None:
    """All else is in the backing by then, and still in memory."""
    state = filled(backend)
    assert write_all(state) >= 2 * len(MANY) // parts.PART_ENTRIES
    changes = state.changes()
    assert changes["counts"].keys == LAST
    assert changes["queue"].keys == []
    assert len(state.store("counts")) == len(MANY)
    state.checkpoint("1", 1)
    assert restored(backend, "1").store("counts").items() == [(key, 1) for key in MANY]
    assert restored(backend, "1").ordered("queue").items() == [(key, 1) for key in MANY]


def test_no_call_writes_more_than_a_part(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many entries as one write of RocksDB takes."""
    written: list[int] = []
    monkeypatch.setattr(
        MemoryTaskState, "_write_part", lambda _self, _name, part: written.append(len(part.keys))
    )
    state = filled(backend)
    while state.write_ahead():
        assert len(written) <= 1
        assert sum(written) <= parts.PART_ENTRIES
        written.clear()


def test_few_changes_are_left_to_the_checkpoint(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes them in milliseconds, and what changes often is written once."""
    monkeypatch.setattr(MemoryTaskState, "_write_part", None)
    state = backend.task("stage", 0).open(SPECS, base=None)
    for key in LAST:
        state.store("counts").load([key])[key] = 1
    assert not state.write_ahead()


def test_values_of_the_batch_under_way_are_in_the_checkpoint(backend: MemoryBackend) -> None:
    """They may be assigned after what was loaded with them was written ahead."""
    state = filled(backend)
    live = state.store("counts").load(LAST)
    write_all(state)
    live.update(dict.fromkeys(LAST, 2))
    state.checkpoint("1", 1)
    assert restored(backend, "1").store("counts").items()[: len(LAST)] == [(k, 2) for k in LAST]


def test_what_changes_after_its_part_is_dirty_again(backend: MemoryBackend) -> None:
    """Values, deletions and what expires, between any two calls."""
    state = filled(backend)
    number = 0
    while state.write_ahead():
        key = MANY[number]
        state.store("counts").load([key])[key] = 2 if number % 2 else None
        state.ordered("queue").expire_below(MANY[number + 1], limit=10)
        number += 1
    assert number > 10
    state.checkpoint("1", 1)
    counts = dict(restored(backend, "1").store("counts").items())
    assert [counts.get(key) for key in MANY[:number]] == [
        2 if at % 2 else None for at in range(number)
    ]
    assert len(counts) == len(MANY) - (number + 1) // 2
    queue = restored(backend, "1").ordered("queue").items()
    assert queue == [(key, 1) for key in MANY[number:]]


def test_what_comes_below_the_floor_is_not_erased_later(backend: MemoryBackend) -> None:
    """A timer that is earlier than those that have fired stays, once it was written ahead."""
    state = filled(backend)
    queue = state.ordered("queue")
    assert queue.expire_below(MANY[10], limit=10) is False
    queue.put({MANY[3]: 3})
    write_all(state)
    state.checkpoint("1", 1)
    assert restored(backend, "1").ordered("queue").items()[:2] == [(MANY[3], 3), (MANY[10], 1)]


def test_what_was_deleted_takes_no_memory(backend: MemoryBackend) -> None:
    """Once the deletion was written ahead."""
    state = filled(backend)
    state.store("counts").load(MANY).update(dict.fromkeys(MANY[100:], None))
    state.store("counts").load(LAST)
    write_all(state)
    assert len(state.store("counts")) == len(LAST)


def test_a_state_that_always_changes_does_not_put_it_off_for_ever(backend: MemoryBackend) -> None:
    """After some passes the checkpoint writes what is left."""
    state = filled(backend)
    calls = 0
    while state.write_ahead():
        calls += 1
        state.ordered("queue").put(dict.fromkeys(SOME, calls))
        assert calls < 1_000
    assert calls > task_stores.AHEAD_PASSES_MAX
    state.checkpoint("1", 1)
    found = restored(backend, "1").ordered("queue").items()
    assert found[: len(SOME)] == [(key, calls) for key in SOME]


def test_an_error_loses_nothing(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is dirty, and is written once it can be."""
    state = filled(backend)
    assert state.write_ahead()

    def refuse(*_: object) -> None:
        raise StateError("no space left", "folder")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryTaskState, "_write_part", refuse)
        with pytest.raises(StateError, match="no space left"):
            write_all(state)
    state.checkpoint("1", 1)
    assert restored(backend, "1").store("counts").items() == [(key, 1) for key in MANY]


class Refusing:
    """RocksDB that has to catch up at first: in place of the writer's attempts."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.attempt = Writer.attempt

    def __call__(self, writer: Writer, fill: Fill) -> Exception | None:
        """As the writer has it."""
        self.refusals -= 1
        return OSError("incomplete") if self.refusals >= 0 else self.attempt(writer, fill)


@pytest.mark.parametrize("waits_max", [100, 5])
def test_nothing_waits_for_rocksdb_to_catch_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits_max: int
) -> None:
    """A part that it does not take is written by a later call, as it is then; at last it waits."""
    monkeypatch.setattr(rocks_task, "WAITS_MAX", waits_max)
    waited: list[float] = []
    backend = rocks(tmp_path / "live")
    state = backend.task("count", 0).open(SPECS, base=None)
    monkeypatch.setattr(state._writer, "_sleep", waited.append)
    state.ordered("queue").put(dict.fromkeys(SOME, 1))
    refusing = Refusing(10)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "attempt", lambda self, fill: refusing(self, fill))
        calls = 0
        while state.write_ahead():
            calls += 1
            state.ordered("queue").put({SOME[0]: calls})
            state.ordered("queue").delete([SOME[1]])
    assert refusing.refusals < 0
    assert len(waited) == max(0, 10 - waits_max)
    state.checkpoint("1", 1)
    state.close()
    found = backend.task("count", 0).open(SPECS, base="1").ordered("queue").items()
    assert found == [(SOME[0], calls), *((key, 1) for key in SOME[2:])]
    backend.close()


def test_nothing_is_encoded_while_rocksdb_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so before; it is waited for only so often."""
    monkeypatch.setattr(rocks_task, "WAITS_MAX", 5)
    backend = rocks(tmp_path / "live")
    state = backend.task("count", 0).open(SPECS, base=None)
    state.ordered("queue").put(dict.fromkeys(SOME, 1))
    monkeypatch.setattr(Writer, "is_stopped", lambda _: True)
    encoded: list[object] = []

    def note(store: CachedOrderedStore, _: object) -> Iterator[None]:
        encoded.append(store)
        yield

    with monkeypatch.context() as patch:
        patch.setattr(CachedOrderedStore, "writing_ahead", note)
        assert [state.write_ahead() for _ in range(5)] == [True] * 5
        assert encoded == []
    while state.write_ahead():
        pass
    state.checkpoint("1", 1)
    backend.close()


def test_who_asks_a_database_that_catches_up_waits_a_moment(tmp_path: Path) -> None:
    """So that to ask again and again leaves it the processor."""

    class CatchingUp:
        def property_int_value(self, _name: str) -> int:
            return 1

    waited: list[float] = []
    database = cast("Rdict", CatchingUp())
    writer = Writer(database, [], folder=tmp_path, name="count_0", sleep=waited.append)
    assert writer.is_stopped()
    assert waited == [writes.STALL_RETRY_S]


def test_a_database_at_rest_is_not_stopped(tmp_path: Path) -> None:
    """By the properties that RocksDB has for it."""
    backend = rocks(tmp_path / "live")
    state = backend.task("count", 0).open(SPECS, base=None)
    assert [state._database.property_int_value(name) for name in writes._STOPPED] == [0, 0]
    assert not state._writer.is_stopped()
    backend.close()


def test_digests_of_files_are_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part with each call: a checkpoint reads what its own flush has made, and no more."""
    backend = rocks(tmp_path / "live")
    state = backend.task("count", 0).open(SPECS, base=None)
    state.ordered("queue").put(dict.fromkeys(MANY, 1))
    old = [each for each in state.checkpoint("1", 1) if each.name.endswith(".sst")]
    state.close()
    # Nobody has verified it: this worker knows none of its digests.
    state = backend.task("count", 0).open(SPECS, base="1")
    part_bytes = sum(each.size for each in old) // 6
    monkeypatch.setattr(files, "AHEAD_BYTES", part_bytes)
    calls = 0
    while state.write_ahead():
        calls += 1
    assert calls >= 6
    read: list[str] = []
    digest = files.digest

    def noted(path: Path) -> str:
        read.append(path.name)
        return digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "digest", noted)
        state.ordered("queue").put({MANY[0]: 2})
        entries = state.checkpoint("2", 2)
    assert {each.name for each in old} < {each.name for each in entries}
    assert {each.name for each in old}.isdisjoint(read)
    assert not state.write_ahead(), "all of them are known now"
    assert backend.task("count", 0).verify("2", entries)
    backend.close()


def test_files_that_are_deleted_meanwhile_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction may do that before a file is read, and while it is."""
    monkeypatch.setattr(files, "AHEAD_BYTES", 10)
    paths = [tmp_path / name for name in ("gone", "going", "here")]
    for path in paths:
        path.write_bytes(path.name.encode() * 10)
    here = files.digest(paths[2])
    paths[0].unlink()
    found: dict[str, FileEntry] = {}
    for _ in files.digesting(tmp_path, [path.name for path in paths], found):
        paths[1].unlink(missing_ok=True)
    assert found.keys() == {"going", "here"}
    assert found["here"] == FileEntry("here", 40, here)


@pytest.fixture
def crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The folders that a kill right after each write to RocksDB would leave."""
    found: list[Path] = []
    attempt = Writer.attempt

    def attempt_and_copy(self: Writer, fill: Fill) -> Exception | None:
        error = attempt(self, fill)
        found.append(tmp_path / f"crash-{len(found)}")
        shutil.copytree(tmp_path / "live", found[-1])
        return error

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "attempt", attempt_and_copy)
        yield found


def rocks(folder: Path) -> RocksBackend:
    """A backend on a folder."""
    return RocksBackend(folder, "app", topology_hash="h", memory_bytes=64 << 20)


def test_a_crash_after_any_write_leaves_the_checkpoint_before(
    tmp_path: Path, crashes: list[Path]
) -> None:
    """What was written ahead is in no checkpoint: a restart has what the newest whole one had."""
    backend = rocks(tmp_path / "live")
    state = backend.task("count", 0).open(SPECS, base=None)
    checkpoints = {}
    expected: list[int] = []
    for number in range(1, 4):
        state.store("counts").load(SOME).update(dict.fromkeys(SOME, number))
        state.store("counts").load([])
        while state.write_ahead():
            pass
        checkpoints[number] = state.checkpoint(str(number), number)
        # The last write of a checkpoint is still before its folder is there.
        expected += [number - 1] * (len(crashes) - len(expected))
    backend.close()
    assert len(crashes) > 3 * 5
    for folder, number in list(zip(crashes, expected, strict=True))[::3]:
        after = rocks(folder)
        task = after.task("count", 0)
        base = str(number) if number else None
        assert number == 0 or task.verify(str(number), checkpoints[number])
        assert not task.verify(str(number + 1), checkpoints[number + 1])
        found = task.open(SPECS, base=base).store("counts").items()
        assert found == ([(key, number) for key in SOME] if number else [])
        after.close()

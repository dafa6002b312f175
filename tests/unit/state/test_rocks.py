"""The RocksDB backend: what a checkpoint keeps, what a crash forgets, and damage that is found."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstash.core.records import FileEntry
from kstash.errors import CheckpointCorruptError, StateError
from kstash.ports.state import StateBackend, StoreSpec
from kstash.state import files, options
from kstash.state.rocks import RocksBackend
from kstash.state.rocks_task import RocksTaskState

SPEC = StoreSpec("words", lambda value: b"%d" % value, int)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[RocksBackend]:
    """A backend on a temporary folder, closed at the end."""
    made = new_backend(tmp_path)
    yield made
    made.close()


def new_backend(folder: Path) -> RocksBackend:
    """A backend of the application `app`."""
    return RocksBackend(folder, "app", topology_hash="hash", memory_bytes=1 << 20)


def open_task(backend: RocksBackend, base: str | None = None) -> RocksTaskState:
    """The task `count_0`."""
    return backend.task("count", 0).open([SPEC], base=base)


def put(state: RocksTaskState, entries: dict[bytes, Any]) -> None:
    """Assign entries in one batch."""
    state.store("words").load(list(entries)).update(entries)


def folder_of(tmp_path: Path, label: str) -> Path:
    """Where a checkpoint lies."""
    return tmp_path / "app" / "count_0" / "checkpoints" / label


def test_sizes_are_known_without_reading_all_of_it(backend: RocksBackend) -> None:
    """Entries that are only in memory count; bytes are those of the disk, and none at first."""
    state = open_task(backend)
    put(state, {b"%d" % number: number for number in range(1_000)})
    assert (state.sizes()["words"].entries, state.sizes()["words"].size_bytes) == (1_000, 0)
    state.checkpoint("1", 10)
    assert state.sizes()["words"].entries == 1_000
    assert state.sizes()["words"].size_bytes > 1_000
    put(state, {b"%d" % number: number for number in range(1_000)})
    state.checkpoint("1", 20)
    assert state.sizes()["words"].entries == 1_000, "RocksDB alone would count them twice"
    state.close()
    state = open_task(backend, "1")
    put(state, {b"0": 0})
    assert 1_000 <= state.sizes()["words"].entries <= 2_000


def test_crash_without_a_checkpoint_forgets(backend: RocksBackend) -> None:
    """State that no checkpoint holds is gone, also when RocksDB had it on disk."""
    state = open_task(backend)
    put(state, {b"a": 1})
    state.checkpoint("1", 10)
    put(state, {b"a": 2, b"b": 2})
    deque(state.spilling(), maxlen=0)
    state.close()
    state = open_task(backend, "1")
    assert state.store("words").items() == [(b"a", 1)]
    assert state.position == 10


def test_base_none_is_empty(backend: RocksBackend) -> None:
    """Opening without a base ignores whatever is on disk."""
    state = open_task(backend)
    put(state, {b"a": 1})
    state.checkpoint("1", 10)
    state.close()
    state = open_task(backend)
    assert state.store("words").items() == []
    assert state.position == 0


def test_branches_of_one_checkpoint_do_not_mix(backend: RocksBackend) -> None:
    """Two lives opened from one base may write files of equal names with other content."""
    state = open_task(backend)
    put(state, {b"a": 1})
    state.checkpoint("base", 1)
    listed = {}
    for label, value in (("left", 2), ("right", 3)):
        state.close()
        state = open_task(backend, "base")
        put(state, {b"a": value})
        listed[label] = state.checkpoint(label, value)
    assert {e.name for e in listed["left"]} == {e.name for e in listed["right"]}
    assert backend.task("count", 0).verify("left", listed["left"])
    assert not backend.task("count", 0).verify("left", listed["right"])
    state.close()
    assert open_task(backend, "left").store("words").items() == [(b"a", 2)]


def test_label_can_be_taken_again(backend: RocksBackend) -> None:
    """A checkpoint of a label that exists replaces it."""
    state = open_task(backend)
    put(state, {b"a": 1})
    old = state.checkpoint("1", 1)
    put(state, {b"a": 2})
    new = state.checkpoint("1", 2)
    assert backend.task("count", 0).verify("1", new)
    assert not backend.task("count", 0).verify("1", old)


@pytest.mark.parametrize("damage", ["flip", "truncate", "append", "delete", "extra"])
def test_damage_is_found(tmp_path: Path, backend: RocksBackend, damage: str) -> None:
    """A checkpoint with one changed, short, long, missing or foreign file does not verify."""
    state = open_task(backend)
    put(state, {b"k%d" % n: n for n in range(1_000)})
    entries = state.checkpoint("1", 1)
    assert backend.task("count", 0).verify("1", entries)
    folder = folder_of(tmp_path, "1")
    victim = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "truncate":
        victim.write_bytes(content[:-1])
    elif damage == "append":
        victim.write_bytes(content + b"x")
    elif damage == "delete":
        victim.unlink()
    else:
        (folder / "foreign").touch()
    assert not backend.task("count", 0).verify("1", entries)


def test_missing_checkpoint_does_not_verify_and_cannot_be_opened(backend: RocksBackend) -> None:
    """A label without a folder is False for `verify` and an error for `open`."""
    assert not backend.task("count", 0).verify("none", [])
    with pytest.raises(CheckpointCorruptError, match="no checkpoint 'none'"):
        open_task(backend, "none")


def test_checkpoint_that_rocksdb_refuses_names_its_folder(
    tmp_path: Path, backend: RocksBackend
) -> None:
    """Opening a damaged checkpoint without verifying it gives a typed error with the folder."""
    state = open_task(backend)
    put(state, {b"a": 1})
    state.checkpoint("1", 1)
    state.close()
    (folder_of(tmp_path, "1") / "CURRENT").write_bytes(b"garbage\n")
    with pytest.raises(CheckpointCorruptError, match=r"checkpoints/1.*older one"):
        open_task(backend, "1")
    assert open_task(backend).store("words").items() == []


def test_retain_deletes_others_and_half_made_ones(tmp_path: Path, backend: RocksBackend) -> None:
    """Only the named checkpoints stay, and one that a crash left half-made goes."""
    state = open_task(backend)
    entries: dict[str, tuple[FileEntry, ...]] = {}
    for n in range(4):
        put(state, {b"k%d" % n: n})
        entries[str(n)] = state.checkpoint(str(n), n)
    partial = folder_of(tmp_path, f"{files.PARTIAL_PREFIX}4")
    shutil.copytree(folder_of(tmp_path, "3"), partial)
    backend.task("count", 0).retain(["1", "3"])
    assert sorted(path.name for path in partial.parent.iterdir()) == ["1", "3"]
    state.close()
    for label in ("1", "3"):
        assert backend.task("count", 0).verify(label, entries[label])
    assert len(open_task(backend, "1").store("words").items()) == 2


def test_retain_of_an_unknown_task_does_nothing(backend: RocksBackend) -> None:
    """A task that never ran here has nothing to delete."""
    backend.task("count", 7).retain([])


def test_checkpoint_after_an_interrupted_one(tmp_path: Path, backend: RocksBackend) -> None:
    """The remains of an interrupted checkpoint do not stop the next one of its label."""
    state = open_task(backend)
    put(state, {b"a": 1})
    folder_of(tmp_path, f"{files.PARTIAL_PREFIX}1").mkdir(parents=True)
    assert backend.task("count", 0).verify("1", state.checkpoint("1", 1))


def test_restore_after_an_interrupted_one(tmp_path: Path, backend: RocksBackend) -> None:
    """A process that died in a restore does not stop the next one from restoring the same."""
    state = open_task(backend)
    put(state, {b"a": 1})
    entries = state.checkpoint("1", 1)
    contents = {
        entry.name: b"".join(backend.task("count", 0).read("1", entry.name)) for entry in entries
    }

    def fetch_some(entry: FileEntry) -> list[bytes]:
        if entry != entries[0]:
            raise KeyError(entry.name)
        return [contents[entry.name]]

    elsewhere = tmp_path / "elsewhere"
    first = new_backend(elsewhere)
    with pytest.raises(StateError, match="restoring"):
        first.task("count", 0).adopt("1", entries, fetch_some)
    first.close()
    second = new_backend(elsewhere)
    second.task("count", 0).adopt("1", entries, lambda entry: [contents[entry.name]])
    assert second.task("count", 0).verify("1", entries)
    second.close()


def test_only_new_files_are_read_for_checksums(
    backend: RocksBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SST files seen before, also by `verify` in an earlier life, are not read again."""
    state = open_task(backend)
    put(state, {b"a": 1})
    first = state.checkpoint("1", 1)
    state.close()
    assert backend.task("count", 0).verify("1", first)
    state = open_task(backend, "1")
    read: list[str] = []
    real = files.digest

    def digest(path: Path) -> str:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(files, "digest", digest)
    put(state, {b"b": 1})
    second = state.checkpoint("2", 2)
    known = {entry.name for entry in first if entry.name.endswith(".sst")}
    assert known
    assert known < {entry.name for entry in second}
    assert not known & set(read)
    monkeypatch.undo()
    assert backend.task("count", 0).verify("2", second)


def test_checkpoints_share_their_immutable_files(tmp_path: Path, backend: RocksBackend) -> None:
    """An SST file of two checkpoints is one file on disk."""
    state = open_task(backend)
    put(state, {b"a": 1})
    entries = state.checkpoint("1", 1)
    put(state, {b"b": 1})
    state.checkpoint("2", 2)
    name = next(entry.name for entry in entries if entry.name.endswith(".sst"))
    assert folder_of(tmp_path, "1").joinpath(name).samefile(folder_of(tmp_path, "2") / name)


def test_checkpoints_do_not_grow_with_their_number(
    backend: RocksBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest, which every flush adds to and every checkpoint holds, begins anew in time."""
    monkeypatch.setattr(options, "MANIFEST_BYTES_MAX", 4096)
    state = open_task(backend)
    sizes = []
    for number in range(60):
        put(state, {b"a": number})
        entries = state.checkpoint(str(number), number)
        backend.task("count", 0).retain([str(number)])
        sizes.append(sum(entry.size for entry in entries if entry.name.startswith("MANIFEST")))
    assert max(sizes) < 2 * 4096


def test_tasks_and_stores_are_apart(backend: RocksBackend) -> None:
    """Stores of one task and tasks of one stage do not see each other's keys."""
    specs = [SPEC, StoreSpec("default", str.encode, bytes.decode)]
    tasks = [backend.task("count", n).open(specs, base=None) for n in range(2)]
    for n, task in enumerate(tasks):
        task.store("words").load([b"k"])[b"k"] = n
        task.store("default").load([b"k"])[b"k"] = f"text {n}"
        task.checkpoint("1", 1)
        task.close()
    for n in range(2):
        task = backend.task("count", n).open(specs, base="1")
        assert task.store("words").items() == [(b"k", n)]
        assert task.store("default").items() == [(b"k", f"text {n}")]


def test_close_deletes_live_files_and_keeps_checkpoints(
    tmp_path: Path, backend: RocksBackend
) -> None:
    """After a close only checkpoints take space."""
    state = open_task(backend)
    put(state, {b"a": 1})
    state.checkpoint("1", 1)
    state.close()
    state.close()
    checkpoints = folder_of(tmp_path, "1").parent
    assert list(checkpoints.parent.iterdir()) == [checkpoints]


def test_a_closed_backend_has_no_open_state(tmp_path: Path, backend: RocksBackend) -> None:
    """Live files of tasks that are still open go with it."""
    put(open_task(backend), {b"a": 1})
    backend.task("count", 1).open([SPEC], base=None)
    backend.close()
    backend.close()
    assert list(tmp_path.glob("app/*/live-*")) == []


def test_restart_deletes_what_a_crash_left(tmp_path: Path, backend: RocksBackend) -> None:
    """Live folders of a crashed life are deleted when the task is opened."""
    left = tmp_path / "app" / "count_0" / "live-99"
    left.mkdir(parents=True)
    (left / "000004.log").write_bytes(b"x")
    open_task(backend)
    assert not left.exists()


def test_failing_disk_names_folder_and_fix(tmp_path: Path, backend: RocksBackend) -> None:
    """A checkpoint that cannot be written says where and what to do, and keeps all in memory."""
    state = open_task(backend)
    put(state, {b"a": 1})
    state.checkpoint("1", 1)
    put(state, {b"a": 2})
    checkpoints = folder_of(tmp_path, "1").parent
    moved = checkpoints.rename(checkpoints.with_name("moved"))
    checkpoints.touch()  # a file where a folder must be
    with pytest.raises(StateError, match=r"count_0/checkpoints: .*nothing is lost") as caught:
        state.checkpoint("2", 2)
    assert caught.value.folder == str(checkpoints)
    checkpoints.unlink()
    moved.rename(checkpoints)
    entries = state.checkpoint("2", 2)
    state.close()
    assert backend.task("count", 0).verify("2", entries)
    assert open_task(backend, "2").store("words").items() == [(b"a", 2)]


def test_a_task_has_one_folder(backend: RocksBackend) -> None:
    """Whoever asks for it, in whatever thread, gets the one that knows what is open."""
    folder = backend.task("count", 0)
    assert backend.task("count", 0) is folder
    assert backend.task("count", 1) is not folder
    folder.open([SPEC], base=None)
    with pytest.raises(AssertionError, match="count_0 is open already"):
        backend.task("count", 0).open([SPEC], base=None)


def test_port_is_implemented(backend: RocksBackend) -> None:
    """The backend fulfils the runtime's port (checked by mypy)."""
    port: StateBackend = backend
    assert port is backend

"""The search for a task's base, and the upload of its files: what is trusted, and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from kstash.core.records import Checkpoint
from kstash.errors import CheckpointCorruptError, CheckpointStoreError
from kstash.ports.process import JobCancelledError
from kstash.ports.state import StoreSpec
from kstash.runtime.group.stored_files import Upload
from kstash.runtime.recovery.restore import BaseSearch, Restored, RestoreProgress
from kstash.testing.background import ManualJob
from kstash.testing.state import MemoryBackend, MemoryTaskFolder
from kstash.testing.stores import MemoryCheckpointStore
from tests.unit.core_cases import checkpoint

SPEC = StoreSpec("words", lambda value: b"%d" % value, int)


class Disk:
    """A task with two remote checkpoints, on a disk that may be lost."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.store = MemoryCheckpointStore()
        self.progress = RestoreProgress()
        state = self.folder.open([SPEC], base=None)
        self.records: list[Checkpoint] = []
        for number in (1, 2):
            state.store("words").load([b"a"])[b"a"] = number
            local = checkpoint(1, number, number=number)
            local = replace(local, files=state.checkpoint(local.label, number))
            stored = self.upload().run(local, job())
            self.records.insert(0, replace(local, files=stored, is_remote=True))

    @property
    def folder(self) -> MemoryTaskFolder:
        """Of the task."""
        return self.backend.task("words", 0)

    def upload(self) -> Upload:
        """One that refers to nothing that is stored."""
        return Upload(
            self.store,
            self.folder,
            group=0,
            task="words_0",
            name_of=lambda digest: f"words_0/1-1/{digest}",
            bytes_per_s=0,
            known={},
            is_known_checked=True,
        )

    def search(self, *candidates: Checkpoint) -> Restored:
        """The base among these, or among both."""
        found = candidates or tuple(self.records)
        return BaseSearch(self.store, self.folder, "words_0", found, self.progress).run(job())


def job() -> ManualJob:
    """A job that nobody has cancelled."""
    return ManualJob("restore", lambda _: None, lambda *_: None)


def table_of(checkpoint: Checkpoint) -> str:
    """Where the store's own file of a checkpoint is."""
    return next(file.uri for file in checkpoint.files if file.name == "words.table")


def test_what_is_whole_on_this_disk_is_not_fetched() -> None:
    """The best candidate is here: the store is not asked."""
    disk = Disk()
    disk.store.is_away = True
    result = disk.search()
    assert result == Restored(base=disk.records[0])
    assert disk.progress.total_bytes == 0


def test_what_is_lost_is_fetched() -> None:
    """The files come from the store, are counted, and can be opened."""
    disk = Disk()
    disk.folder.lose()
    result = disk.search()
    assert result.base is disk.records[0]
    assert result.damaged == set()
    total = sum(file.size for file in disk.records[0].files)
    assert (result.fetched_bytes, disk.progress.done_bytes) == (total, total)
    assert disk.progress.total_bytes == total
    assert disk.folder.open([SPEC], base=disk.records[0].label).store("words").items() == [
        (b"a", 2)
    ]


def test_a_damaged_file_is_not_trusted_again() -> None:
    """Its URI is reported, and the older checkpoint is the base."""
    disk = Disk()
    disk.folder.lose()
    disk.store.corrupt(table_of(disk.records[0]))
    result = disk.search()
    assert result.base is disk.records[1]
    assert result.damaged == {table_of(disk.records[0])}


def test_a_missing_file_is_not_trusted_again() -> None:
    """As a damaged one."""
    disk = Disk()
    disk.folder.lose()
    del disk.store.files[table_of(disk.records[0])]
    result = disk.search()
    assert result.base is disk.records[1]
    assert result.damaged == {table_of(disk.records[0])}


def test_no_more_is_fetched_than_a_file_has() -> None:
    """A stored file that has grown ends its fetch at once."""
    disk = Disk()
    disk.folder.lose()
    uri = table_of(disk.records[0])
    disk.store.files[uri] += bytes(10_000)
    result = disk.search(disk.records[0])
    assert result.base is None
    assert result.damaged == {uri}
    assert result.fetched_bytes < 5_000


def test_an_error_that_names_another_place_is_noted_for_the_file_too() -> None:
    """As where the whole topic of a store is gone."""
    disk = Disk()
    disk.folder.lose()

    def gone(uri: str, size: int) -> Iterator[bytes]:
        if size >= 0:
            raise CheckpointCorruptError(f"{uri} is gone", "app-checkpoints")
        yield b""

    disk.store.get = gone  # type: ignore[method-assign]
    first = disk.records[0].files[0].uri
    assert first in disk.search(disk.records[0]).damaged


def test_without_a_base_there_is_none() -> None:
    """Local records of a lost disk, and remote ones without a store, are passed over."""
    disk = Disk()
    disk.folder.lose()
    local = replace(disk.records[0], is_remote=False)
    assert disk.search(local).base is None
    search = BaseSearch(None, disk.folder, "words_0", disk.records, disk.progress)
    assert search.run(job()).base is None


def test_a_checkpoint_without_files_is_always_here() -> None:
    """The stage had no store yet when it was taken."""
    disk = Disk()
    disk.folder.lose()
    empty = checkpoint(1, 3, number=3)
    assert disk.search(empty, *disk.records).base is empty


def test_a_store_that_does_not_answer_is_no_damage() -> None:
    """The search fails as a whole, to be done again."""
    disk = Disk()
    disk.folder.lose()
    disk.store.is_away = True
    with pytest.raises(CheckpointStoreError):
        disk.search()


def test_a_cancelled_search_fetches_no_more() -> None:
    """It ends at the next block."""
    disk = Disk()
    disk.folder.lose()
    cancelled = job()
    cancelled.cancel()
    search = BaseSearch(disk.store, disk.folder, "words_0", disk.records, disk.progress)
    with pytest.raises(JobCancelledError):
        search.run(cancelled)
    assert disk.progress.done_bytes == 0


def test_a_file_that_was_damaged_on_the_disk_is_not_uploaded() -> None:
    """The store never takes it for whole; the error names the task."""
    disk = Disk()
    newest = disk.records[0]
    local = replace(newest, files=tuple(replace(f, digest="00" * 16) for f in newest.files))
    stored = len(disk.store.puts)
    with pytest.raises(CheckpointCorruptError, match="damaged on this disk") as caught:
        disk.upload().run(local, job())
    assert caught.value.folder == "words_0"
    assert len(disk.store.puts) == stored


def test_known_files_are_referred_to_where_they_are_still_there() -> None:
    """A new incarnation asks once which of them are, and stores the others again."""
    disk = Disk()
    newest = disk.records[0]
    known = {file.digest: file.uri for file in newest.files}
    gone = table_of(newest)
    del disk.store.files[gone]
    upload = replace(disk.upload(), known=known, is_known_checked=False)
    before = len(disk.store.puts)
    files = upload.run(newest, job())
    assert disk.store.puts[before:] == [gone.removeprefix("memory:")]
    assert {file.uri for file in files} == set(known.values())
    assert upload.stored_bytes == next(f.size for f in newest.files if f.uri == gone)

"""Which files of remote checkpoints are referred to, kept and deleted. Source: decision 0018."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kstash.core.files import (
    FileDeletion,
    RemoteFiles,
    file_name,
    owner_of,
    task_folder,
    uris_of,
)
from kstash.core.records import Checkpoint, FileEntry
from tests.unit.core_cases import checkpoint, inc

FOLDER = task_folder("count", 3)
OWN = 7


def stored(offset: int, content: str) -> FileEntry:
    """A file that the incarnation with the CLAIM at `offset` stored."""
    return FileEntry(content, 1, content, f"mem:{file_name(FOLDER, inc(offset), content)}")


def remote(offset: int, position: int, *files: FileEntry, number: int = 0) -> Checkpoint:
    """A remote checkpoint of an incarnation."""
    made = checkpoint(offset, position, number=number or position, is_remote=True)
    return replace(made, files=files)


def files(*before: Checkpoint, retained: int = 2, distrusted: tuple[str, ...] = ()) -> RemoteFiles:
    """The files of a task whose incarnation has the CLAIM at `OWN`."""
    return RemoteFiles(FOLDER, inc(OWN), retained=retained, remote=before, distrusted=distrusted)


def read_back(task: RemoteFiles, record: Checkpoint, *on_way: Checkpoint) -> FileDeletion:
    """The decision of a read-back."""
    deletion = task.read_back(record, on_way=on_way, others=set())
    assert deletion is not None
    return deletion


A, B, C, D = (stored(OWN, content) for content in "abcd")


def test_files_of_the_two_newest_are_referred_to() -> None:
    """S17: what is older, a zombie may delete; the setting of who wrote them is not known."""
    task = files(remote(5, 1, A), remote(5, 2, B), remote(5, 3, C), retained=3)
    assert task.referable() == {"b": B.uri, "c": C.uri}
    task.published(remote(OWN, 4, D))
    assert task.referable() == {"c": C.uri, "d": D.uri}


def test_what_was_damaged_is_not_referred_to() -> None:
    """A file of the same content is stored again, in another place."""
    task = files(remote(5, 2, A, B), distrusted=(A.uri,))
    assert task.referable() == {"b": B.uri}


def test_a_file_is_of_who_stored_it() -> None:
    """S19: what a zombie may delete by its name is none of its successor's."""
    assert files().name_of("d" * 32) == file_name(FOLDER, inc(OWN), "d" * 32)
    assert owner_of(file_name(FOLDER, inc(OWN), "d" * 32)) == inc(OWN)
    assert owner_of("count_3/odd") is None
    assert owner_of("count_3/1-x/d") is None


def test_only_what_older_ones_name_is_dropped() -> None:
    """The retained ones keep theirs, shared ones included."""
    oldest, older, newest = remote(OWN, 1, A, B), remote(OWN, 2, B, C), remote(OWN, 3, C, D)
    task = files()
    for record in (oldest, older, newest):
        task.published(record)
    deletion = read_back(task, newest)
    assert deletion.dropped == {A.uri}
    assert (deletion.old, task.remote) == ((oldest,), [older, newest])


def test_nothing_is_dropped_by_what_was_not_read_back() -> None:
    """S20: until then a successor may have claimed, and refer to what the two before it name."""
    oldest, older, newest = remote(OWN, 1, A), remote(OWN, 2, B), remote(OWN, 3, C)
    task = files(oldest, older)
    task.published(newest)
    assert read_back(task, older).dropped == set()
    assert task.remote == [oldest, older, newest]
    assert read_back(task, newest).dropped == {A.uri}


def test_what_is_said_again_or_local_decides_nothing() -> None:
    """Only a record that made a checkpoint a remote one, of this incarnation or before."""
    task = files(remote(OWN, 1, A), remote(OWN, 2, B))
    again = remote(OWN, 2, B, number=9)
    assert task.read_back(again, on_way=(), others=set()) is None
    assert task.read_back(checkpoint(OWN, 3, number=7), on_way=(), others=set()) is None


def test_files_on_their_way_stay() -> None:
    """S21: a file is stored by its digest, so it may be one that an older checkpoint named."""
    oldest, older, newest = remote(OWN, 1, A, B), remote(OWN, 2, C), remote(OWN, 3, D)
    task = files(oldest, older, newest)
    uploading = replace(checkpoint(OWN, 4), files=(FileEntry("a", 1, "a"),))
    assert read_back(task, newest, uploading).dropped == {B.uri}
    # They go with the next decision, if nobody has come to name them.
    assert read_back(task, newest).dropped == {A.uri, B.uri}


def test_a_deletion_that_failed_is_decided_again() -> None:
    """What is not known to be gone goes with the next one."""
    oldest, older, newest = remote(OWN, 1, A), remote(OWN, 2, B), remote(OWN, 3, C)
    task = files(oldest, older, newest)
    assert read_back(task, newest).dropped == {A.uri}
    again = read_back(task, newest)
    assert again.dropped == {A.uri}
    task.deleted(again)
    assert read_back(task, newest).dropped == set()


def test_what_others_have_is_not_deleted() -> None:
    """A record that names a file of another task, or of something else, deletes nothing there."""
    foreign = replace(A, uri="mem:other_3/1-5/a")
    oldest, older, newest = remote(OWN, 1, foreign, B), remote(OWN, 2, C), remote(OWN, 3, D)
    assert read_back(files(oldest, older, newest), newest).dropped == {B.uri}


def test_leftovers_are_searched_for_once() -> None:
    """What all tasks of the group name is known, so that the search reads only the rest."""
    newest = remote(OWN, 2, B)
    task = files(remote(OWN, 1, A), newest)
    deletion = task.read_back(newest, on_way=(), others={"mem:other"})
    assert deletion is not None
    assert deletion.known == {A.uri, B.uri, "mem:other"}
    task.deleted(deletion)
    assert read_back(task, newest).known is None


def test_only_older_incarnations_leave_something_over() -> None:
    """S18: who sleeps and wakes up must not take for left over what its successor has stored."""
    deletion = read_back(files(remote(OWN, 1, A)), remote(OWN, 1, A))
    names = {offset: file_name(FOLDER, inc(offset), "x") for offset in (5, OWN, 9)}
    unknown = [(name, f"mem:{name}") for name in names.values()]
    unknown.append(("count_3/odd", "mem:count_3/odd"))
    assert deletion.left_over(unknown) == {f"mem:{names[5]}"}


def test_of_one_position_the_last_one_counts() -> None:
    """S16: a damaged one and the one in its place are one, so the fall-back keeps its files."""
    fall_back, damaged = remote(5, 1, A), remote(5, 2, B)
    task = files(fall_back, damaged)
    again = remote(OWN, 2, C)
    task.published(again)
    assert task.remote == [fall_back, again]
    assert task.referable() == {"a": A.uri, "c": C.uri}
    assert read_back(task, again).dropped == {B.uri}
    # A successor that sees all three sees the same two.
    assert files(fall_back, damaged, again).referable() == task.referable()


def test_the_newest_are_those_of_the_highest_positions() -> None:
    """S16: a local base that is stored late lies below; all owners count in the same order."""
    high, low = remote(5, 9, A), remote(OWN, 4, B)
    task = files(high)
    task.published(low)
    assert task.newest == high
    assert task.remote == [low, high]


def test_fewer_than_two_cannot_be_retained() -> None:
    """What a successor refers to must be kept."""
    with pytest.raises(AssertionError):
        files(retained=1)


def test_uris_of_checkpoints() -> None:
    """Each once."""
    assert uris_of([remote(5, 1, A, B), remote(5, 2, B)]) == {A.uri, B.uri}

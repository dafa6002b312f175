"""Which files of remote checkpoints are referred to, kept and deleted (decision 0018).

A file is stored once, by its content, under the incarnation that stored it; later checkpoints refer
to it. A worker that was taken for dead may still delete, so what it may delete is what no successor
refers to.

Invariants:

- a checkpoint refers to files that its own incarnation stored, and to those that the two newest
  remote checkpoints before it name: no others;
- what a collection deletes was decided when an own checkpoint was read back from the lineage topic
  with no higher CLAIM before it (H7), and no checkpoint named it that was retained then;
- what nobody names is deleted when a lower incarnation stored it: others may be at work (S18).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from kstash.core.ids import Incarnation
from kstash.core.record_keys import encode_key
from kstash.core.records import Checkpoint

REFERRED_MAX = 2
"""Newest remote checkpoints whose files may be referred to, whatever `checkpoints_retained` says:
a zombie under another setting keeps at least the files of these."""

_NUMBERS = re.compile("[0-9]{1,20}-[0-9]{1,20}")


def task_folder(stage: str, group: int) -> str:
    """Folder of a task's files in the store."""
    return f"{stage}_{group}"


def file_name(folder: str, incarnation: Incarnation, digest: str) -> str:
    """Name of a file in the store: by who stores it, and what it holds."""
    return f"{folder}/{incarnation.generation}-{incarnation.offset}/{digest}"


def owner_of(name: str) -> Incarnation | None:
    """Who stored a file, by its name; None when the name is none of ours."""
    parts = name.split("/")
    if len(parts) != 3:
        return None
    generation, _, offset = parts[1].partition("-")
    if _NUMBERS.fullmatch(parts[1]) is None:
        return None
    return Incarnation(int(generation), int(offset))


def uris_of(checkpoints: Iterable[Checkpoint]) -> set[str]:
    """Where the files of checkpoints are."""
    return {entry.uri for checkpoint in checkpoints for entry in checkpoint.files}


@dataclass(frozen=True, slots=True)
class FileDeletion:
    """What a read-back gave up, to be deleted at any time from then on.

    Attributes:
        incarnation: whose decision it is.
        old: checkpoints that are no longer retained.
        dropped: URIs that only they name.
        known: every URI that the group's retained checkpoints name, when the task's folder is
            to be searched for what older incarnations left; None: that was done before.
    """

    incarnation: Incarnation
    old: tuple[Checkpoint, ...]
    dropped: frozenset[str]
    known: Collection[str] | None

    def left_over(self, unknown: Iterable[tuple[str, str]]) -> set[str]:
        """URIs of files that nobody will ever name.

        Args:
            unknown: (name, URI) of files of the task that `known` does not name.

        Returns:
            Those that older incarnations stored. A higher one may be about to name its own, and so
            may this one.
        """
        owners = ((owner_of(name), uri) for name, uri in unknown)
        return {at for owner, at in owners if owner is not None and owner < self.incarnation}


class RemoteFiles:
    """The remote checkpoints of one task, and the files that they name.

    Attributes:
        folder: of the task's files in the store.
        incarnation: of the task.
        retained: how many of the newest remote checkpoints are kept, 2 or more.
        remote: published ones of the adopted history, by rising position, the last one of each: the
            last `retained` of those that were read back, and what was published since. Lineage is
            trimmed by the same count (`core.trim.retained_remote`).
        old: those that are no longer retained, and whose files are not deleted yet.
        is_swept: what older incarnations left was searched for.
    """

    def __init__(
        self,
        folder: str,
        incarnation: Incarnation,
        *,
        retained: int,
        remote: Sequence[Checkpoint],
        distrusted: Iterable[str] = (),
    ) -> None:
        """Take over from the incarnations before.

        Args:
            folder: of the task's files in the store.
            incarnation: the own one.
            retained: how many of the newest remote checkpoints are kept.
            remote: those on the adopted history, in the order in which they were said.
            distrusted: URIs that turned out damaged, and are not referred to.
        """
        assert retained >= REFERRED_MAX, "what a successor may refer to is kept"
        self.folder = folder
        self.incarnation = incarnation
        self.retained = retained
        self.remote: list[Checkpoint] = []
        self.old: list[Checkpoint] = []
        self.is_swept = False
        self._distrusted = frozenset(distrusted)
        for checkpoint in remote:
            self.published(checkpoint)

    @property
    def newest(self) -> Checkpoint | None:
        """The newest remote checkpoint."""
        return self.remote[-1] if self.remote else None

    def referable(self) -> dict[str, str]:
        """URIs by digest of the stored files that the next checkpoint may refer to.

        The next one is uploaded when the one before is published: what it refers to is then named
        by a checkpoint that is retained until its own record is read back.
        """
        return {
            entry.digest: entry.uri
            for checkpoint in self.remote[-REFERRED_MAX:]
            for entry in checkpoint.files
            if entry.uri not in self._distrusted
        }

    def name_of(self, digest: str) -> str:
        """Name under which this incarnation stores a file."""
        return file_name(self.folder, self.incarnation, digest)

    def published(self, record: Checkpoint) -> None:
        """A remote checkpoint is in the lineage topic."""
        assert record.is_remote
        # Of one position there may be two: one is damaged, and nothing came since. Counted both,
        # they would push out the one that a recovery falls back to (S16).
        self.old += [c for c in self.remote if c.position == record.position]
        others = [c for c in self.remote if c.position != record.position]
        self.remote = sorted([*others, record], key=_position)

    def read_back(
        self, record: Checkpoint, *, on_way: Iterable[Checkpoint], others: Collection[str]
    ) -> FileDeletion | None:
        """An own record was read back with no higher CLAIM before it: old files may go.

        Args:
            record: as it was read.
            on_way: checkpoints whose files are being stored, or are stored, and which are not
                published. A file is stored by its digest, so one of theirs may be what an older
                checkpoint named.
            others: URIs that the retained checkpoints of the group's other tasks name.

        Returns:
            What to delete; None when the record is none of `remote`: a local one, or one that is
            said again.
        """
        # By its key, which no two records share (H8): what was read back was decoded meanwhile.
        keys = [encode_key(checkpoint) for checkpoint in self.remote]
        key = encode_key(record)
        if key not in keys:
            return None
        first = max(0, keys.index(key) + 1 - self.retained)
        self.old += self.remote[:first]
        del self.remote[:first]
        kept = uris_of(self.remote)
        digests = {entry.digest for checkpoint in on_way for entry in checkpoint.files}
        dropped = {
            entry.uri
            for checkpoint in self.old
            for entry in checkpoint.files
            # What others have is not ours to delete, whatever a record says.
            if entry.digest not in digests and f":{self.folder}/" in entry.uri
        }
        known = None if self.is_swept else kept.union(others)
        return FileDeletion(self.incarnation, tuple(self.old), frozenset(dropped - kept), known)

    def deleted(self, deletion: FileDeletion) -> None:
        """A deletion was carried out, wholly."""
        self.is_swept = True
        self.old = [checkpoint for checkpoint in self.old if checkpoint not in deletion.old]


def _position(checkpoint: Checkpoint) -> int:
    return checkpoint.position

"""The checkpoint store, and what one task group does there: by the real rules of `core.files`.

A state is stored in parts, and a part that is the same again is the same file: one stays for long,
one comes and goes, one is always new.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kstash.core.files import FileDeletion, RemoteFiles, task_folder, uris_of
from kstash.core.ids import Incarnation, TaskId
from kstash.core.records import Checkpoint, FileEntry
from tests.simulation.programs import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.simulation.world import World

RETAINED = 2


def parts_of(snapshot: Snapshot) -> tuple[tuple[str, object], ...]:
    """Return the parts of a state: (name, content)."""
    hash_, count, timers, *_ = snapshot
    return ("hash", hash_), ("slow", count // 8), ("again", count % 3), ("timers", timers)


class SimFiles:
    """The files of one task of one incarnation."""

    def __init__(
        self, world: World, task: TaskId, incarnation: Incarnation, remote: Sequence[Checkpoint]
    ) -> None:
        folder = task_folder(f"stage{task.stage}", task.partition)
        self.world = world
        self.task = task
        self.files = RemoteFiles(folder, incarnation, retained=RETAINED, remote=remote)
        # Uploaded and not published, by label.
        self.on_way: dict[str, Checkpoint] = {}
        self.deletions: list[FileDeletion] = []
        self._is_looked_at = False

    def upload(self, local: Checkpoint, snapshot: Any) -> tuple[FileEntry, ...]:
        """Store what is new of a checkpoint; returns its files with their URIs.

        Uploads have one thread: what was to be deleted before is gone, and is stored anew.
        """
        self.delete()
        store = self.world.store
        known = self.files.referable()
        if not self._is_looked_at:
            known = {digest: at for digest, at in known.items() if at in store}
            self._is_looked_at = True
        entries = []
        for name, content in parts_of(snapshot):
            digest = hashlib.blake2b(repr((name, content)).encode(), digest_size=16).hexdigest()
            uri = known.get(digest) or f"sim:{self.files.name_of(digest)}"
            store.add(uri)
            entries.append(FileEntry(name, 1, digest, uri))
        files = tuple(entries)
        self.on_way[local.label] = replace(local, files=files)
        return files

    def on_published(self, record: Checkpoint) -> None:
        """The record of an uploaded checkpoint is acknowledged, or was read back before that."""
        if self.on_way.pop(record.label, None) is not None:
            self.files.published(record)

    def collect(self, record: Checkpoint, others: set[str]) -> None:
        """An own record was read back: decide what goes, which is done later."""
        self.on_published(record)
        deletion = self.files.read_back(record, on_way=self.on_way.values(), others=others)
        if deletion is not None:
            self.deletions.append(deletion)

    def delete(self) -> None:
        """Carry out what was decided, perhaps long ago."""
        deletions, self.deletions = self.deletions, []
        for deletion in deletions:
            doomed = set(deletion.dropped)
            if deletion.known is not None:
                doomed |= deletion.left_over(self._strays(deletion.known))
            self.world.delete_files(self.task, doomed)
            self.files.deleted(deletion)

    def _strays(self, known: Iterable[str]) -> list[tuple[str, str]]:
        start = f"sim:{self.files.folder}/"
        found = {at for at in self.world.store if at.startswith(start)} - set(known)
        return [(at.removeprefix("sim:"), at) for at in sorted(found)]


def named_by(files: Iterable[SimFiles]) -> set[str]:
    """URIs that the retained checkpoints of some tasks name."""
    return {at for one in files for at in uris_of(one.files.remote)}

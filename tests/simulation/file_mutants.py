"""Mutants of the rules for the files of remote checkpoints."""

from __future__ import annotations

from typing import Any

import kstash.core.files as core_files
from kstash.core.files import FileDeletion, RemoteFiles
from kstash.core.records import Checkpoint
from tests.simulation import shapes
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch


def _each_said_counts(patch: Patch) -> Mutations:
    def published(files: RemoteFiles, record: Checkpoint) -> None:
        files.remote.append(record)

    patch.set(RemoteFiles, "published", published)
    return Mutations()


def _all_referred(patch: Patch) -> Mutations:
    def referable(files: RemoteFiles) -> dict[str, str]:
        return {e.digest: e.uri for c in [*files.old, *files.remote] for e in c.files}

    patch.set(RemoteFiles, "referable", referable)
    return Mutations()


def _all_left_over(patch: Patch) -> Mutations:
    patch.set(FileDeletion, "left_over", lambda _, unknown: {uri for _, uri in unknown})
    return Mutations()


def _files_by_content(patch: Patch) -> Mutations:
    patch.set(core_files, "file_name", lambda folder, _, digest: f"{folder}/0-0/{digest}")
    return Mutations()


def _early_deletion(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.deletes_without_reading_back = True
    return mutations


def _on_way_forgotten(patch: Patch) -> Mutations:
    def read_back(files: RemoteFiles, record: Checkpoint, **given: Any) -> Any:
        return before(files, record, **{**given, "on_way": ()})

    before = patch.set(RemoteFiles, "read_back", read_back)
    return Mutations()


FILE_MUTANTS = (
    Mutant("S16", "one checkpoint of a position", _each_said_counts, shapes.FILES_TWICE),
    Mutant("S17", "files of the two newest only", _all_referred, shapes.FILES),
    Mutant("S18", "leftovers of older ones only", _all_left_over, shapes.FILES),
    Mutant("S19", "files of who stored them", _files_by_content, shapes.FILES),
    Mutant("S20", "files go after the read-back", _early_deletion, shapes.FILES),
    Mutant("S21", "files on their way stay", _on_way_forgotten, shapes.FILES),
)

"""A checkpoint of a task between its files and its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kstash.core.determinants import InputPlace
from kstash.core.hashes import OutputHashes
from kstash.core.ids import OutPartition
from kstash.core.reader import ReaderState
from kstash.core.records import Checkpoint, FileEntry
from kstash.core.task import TaskCore
from kstash.core.watermark import EventTimes

if TYPE_CHECKING:  # which is what is frozen
    from kstash.runtime.task.task import Task


@dataclass(slots=True)
class PendingCheckpoint:
    """A checkpoint on disk that waits for acknowledgements before it is published.

    All but the files, their label and its number is what the task was at `position`.

    Attributes:
        number: of the record that will publish it, unique for the incarnation.
        label: of the folder with its files on this disk.
        position: events that it holds. It is published once lineage is stable up to there.
        files: all of the state, in no order; empty for a task without stores.
        input_offsets: next offset by input.
        sequences: sequence of the last output by output partition, of those that have one.
        made: hashes of all outputs up to `position`; None: none are kept.
        readers: which incarnations count, by internal input, for a reader from its next offset.
        places: how far the task is within frames, by input; none of a task that does not merge.
        event_time: in watermark mode.
    """

    number: int
    label: str
    position: int
    files: tuple[FileEntry, ...]
    input_offsets: dict[int, int]
    sequences: dict[OutPartition, int]
    made: OutputHashes | None
    readers: dict[int, ReaderState]
    places: dict[int, InputPlace]
    event_time: EventTimes | None = None

    def record(self, core: TaskCore, *, is_remote: bool) -> Checkpoint:
        """The record that publishes it, with what the task says now of its outputs."""
        return Checkpoint(
            core.incarnation,
            core.task,
            self.number,
            is_remote=is_remote,
            position=self.position,
            label=self.label,
            files=self.files,
            input_offsets=self.input_offsets,
            sequences=self.sequences,
            readers=self.readers,
            places=self.places,
            scan_from=core.scan_from(),
            reached=core.stable,
            made=self.made,
            event_time=self.event_time,
            checked=core.checked(),
        )


def frozen(task: Task, label: str, files: tuple[FileEntry, ...]) -> PendingCheckpoint:
    """A checkpoint of what a task is now.

    Args:
        task: no event of it is under way.
        label: as of `PendingCheckpoint`.
        files: likewise.
    """
    core, sources, merges = task.core, sorted(task.inputs.items()), task.stage.merges
    return PendingCheckpoint(
        number=task.checkpoint_number,
        label=label,
        position=core.position,
        files=files,
        input_offsets={index: source.next_offset for index, source in sources},
        sequences=core.sequences(),
        made=core.made(),
        readers={i: s.reader.copy() for i, s in sources if s.reader is not None},
        places={i: s.place for i, s in sources if merges or s.taken},
        event_time=task.watermark and task.watermark.saved(),
    )

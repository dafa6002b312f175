"""Checkpoints of a task: what they hold, and when their records may go out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kstash.core.determinants import InputPlace
from kstash.core.hashes import OutputHashes
from kstash.core.ids import OutPartition
from kstash.core.reader import ReaderState
from kstash.core.records import Checkpoint, FileEntry
from kstash.core.task import TaskCore
from kstash.core.trim import made_remote
from kstash.core.watermark import EventTimes
from kstash.ports.state import TaskState
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.watermark import Watermark
from kstash.topology.model import Stage


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


class TaskCheckpoints:
    """Checkpoints of one task, from its state to the records that publish them.

    Args:
        stage: what the task runs.
        core: it has the position, and knows what may be published.
        inputs: by index; what is read of them goes into each checkpoint.
        state: what is frozen.
        watermark: event time in watermark mode, else None.
        base: position that the task begins from.

    Attributes:
        pending, publishing: the one that waits for lineage; the one on its way to Kafka.
        number, position: of the newest that was frozen, or begun from.
    """

    def __init__(
        self,
        stage: Stage,
        core: TaskCore,
        inputs: Mapping[int, TaskInput],
        *,
        state: TaskState,
        watermark: Watermark | None,
        base: int,
    ) -> None:
        self.pending: PendingCheckpoint | None = None
        self.publishing: Checkpoint | None = None
        self.number = 0
        self.position = base
        self._stage, self._core, self._inputs = stage, core, inputs
        self._state, self._watermark = state, watermark

    @property
    def is_busy(self) -> bool:
        """Whether one waits for lineage, or is on its way."""
        return self.pending is not None or self.publishing is not None

    def freeze(self) -> None:
        """Take one of the state at the current position, while no event is under way."""
        position, incarnation = self._core.position, self._core.incarnation
        self.number += 1
        label = f"{incarnation.generation}-{incarnation.offset}-{self.number}"
        files = self._state.checkpoint(label, position)
        self.pending = self._frozen(label, files)
        self.position = position

    def _frozen(self, label: str, files: tuple[FileEntry, ...]) -> PendingCheckpoint:
        core, sources, merges = self._core, sorted(self._inputs.items()), self._stage.merges
        return PendingCheckpoint(
            number=self.number,
            label=label,
            position=core.position,
            files=files,
            input_offsets={index: source.next_offset for index, source in sources},
            sequences=core.sequences(),
            made=core.made(),
            readers={i: s.reader.copy() for i, s in sources if s.reader is not None},
            places={i: s.place for i, s in sources if merges or s.taken},
            event_time=self._watermark and self._watermark.saved(),
        )

    def publishable(self) -> Checkpoint | None:
        """The pending checkpoint's record, once its conditions hold."""
        pending = self.pending
        if pending is None or not self._core.may_publish_checkpoint(pending.position):
            return None
        # Without stores there are no files, so no lost disk can take it.
        return pending.record(self._core, is_remote=not self._stage.stores)

    def remote_record(self, local: Checkpoint, files: tuple[FileEntry, ...]) -> Checkpoint | None:
        """The record that makes a published checkpoint a remote one, once its conditions hold.

        Args:
            local: of this incarnation, or the base that it was restored from.
            files: with their URIs.
        """
        record = made_remote(local, self._core, self.number + 1, files)
        if record is not None:
            self.number += 1
        return record

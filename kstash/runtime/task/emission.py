"""What a task makes: it is hashed, compared where it is out already, numbered, and sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import compress

from kstash.core.ids import OutPartition
from kstash.core.outputs import Outgoing
from kstash.core.replay import Replay
from kstash.core.task import TaskCore
from kstash.operators.batch import Batch
from kstash.operators.sizes import bytes_of
from kstash.operators.slices import Mask, drop_head, part_of
from kstash.runtime.task.outputs import TaskOutput
from kstash.runtime.task.sent import Sent
from kstash.runtime.task.stored import is_same, stored_record
from kstash.runtime.task.under_way import Made
from kstash.runtime.task.watermark import Watermark


class Emission:
    """The outputs of one incarnation of a task.

    Args:
        core: numbers them, and says which lineage they carry.
        replay: knows which are out already.
        outputs: by index.
        sent: of the task.
        watermark: knows what was said of event time; None without watermark mode.

    Attributes:
        records_out, suppressed: logical outputs handed over; those that were there already.
        written: records handed to the producers, by output index.
    """

    def __init__(
        self,
        core: TaskCore,
        replay: Replay,
        outputs: Sequence[TaskOutput],
        *,
        sent: Sent,
        watermark: Watermark | None,
    ) -> None:
        self._said = watermark and watermark.said
        self.records_out = self.suppressed = 0
        self.written = [0] * len(outputs)
        self._core = core
        self._replay = replay
        self._outputs = outputs
        self._sent = sent
        self._partition = core.task.partition

    def note(self, made: Sequence[Made]) -> None:
        """Hash what was made, suppressed or not, before any of it is out (H44)."""
        marks = self._core.marks
        if marks is not None:
            for output_index, outputs, _ in made:
                values = outputs.values if self._outputs[output_index].has_values else None
                marks.note(output_index, outputs.keys, values, outputs.timestamps, outputs.headers)

    def check(self) -> None:
        """All that was made up to the position is hashed: compare it with what was made before.

        Raises:
            ReplayDivergedError: it is not the same.
        """
        core, marks = self._core, self._core.marks
        if marks is not None:
            core.mark_made()
            if self._replay.is_checked_at(core.position):
                self._replay.check(marks.at(core.position))

    def emit(self, output_index: int, outputs: Batch, size_bytes: int) -> None:
        """Send what events have made for one output, as far as it is not out yet.

        Args:
            output_index: of the output.
            outputs: one record or more.
            size_bytes: as of `bytes_of`.

        Raises:
            ReplayDivergedError: other records are out under these sequences.
        """
        output = self._outputs[output_index]
        core, replay = self._core, self._replay
        spread = output.spread.split(outputs.keys, self._partition)
        if outputs.is_control:
            spread = self._uninformed(output_index, outputs)
        for partition, mask in spread:
            out = (output_index, partition)
            count = len(outputs) if mask is None else mask.count(1)
            times = None if outputs.times is None else self._say(out, outputs.times, mask)
            first = core.next_sequence(out)
            suppressed = replay.suppressed(out, core.position, first, count)
            is_stored = replay.is_stored(out, first, count)
            if suppressed:
                core.skip(out, suppressed)
                self.suppressed += suppressed
                if suppressed == count and not is_stored:
                    continue  # most of a replay: nobody needs the records themselves
            batch = outputs
            if mask is not None:
                batch = part_of(outputs, mask, has_values=output.has_values)
            if times is not None:
                batch = replace(batch, times=times)
            if is_stored:
                made = partial(stored_record, batch, has_values=output.has_values)
                replay.compare(out, first, len(batch), made, is_same)
            if suppressed == count:
                continue
            if suppressed:
                batch = drop_head(batch, suppressed)
            self.records_out += len(batch)
            self.written[output_index] += len(batch)
            left_bytes = size_bytes if batch is outputs else bytes_of(batch)
            self._sent.made(out, left_bytes)
            outgoing = core.emit(out, len(batch), batch)
            if outgoing is not None:
                output.send(outgoing)

    def _uninformed(self, output_index: int, outputs: Batch) -> list[tuple[int, Mask | None]]:
        """The partitions that have not heard the time that a control record says."""
        said = self._said
        assert said is not None
        assert outputs.times is not None
        count = self._outputs[output_index].spread.partitioner.partition_count
        (time,) = outputs.times
        return [(p, None) for p in range(count) if said.is_news((output_index, p), time)]

    def _say(self, out: OutPartition, times: list[int], mask: Mask | None) -> list[int]:
        """The times that records carry to a partition; noted, suppressed or not."""
        assert self._said is not None
        return self._said.say(out, times if mask is None else list(compress(times, mask)))

    def send(self, outgoing: Outgoing) -> None:
        """Send outputs that the cap had held back until now."""
        self._outputs[outgoing.partition[0]].send(outgoing)

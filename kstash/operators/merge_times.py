"""By what times the records of one input of a stage are merged with those of the others."""

from __future__ import annotations

from collections.abc import Sequence

from kstash.operators.batch import Batch
from kstash.operators.event_time import event_time_of
from kstash.topology.model import Stage
from kstash.topology.traits import SourceTimes


class MergeTimes:
    """The times of records of one input: what its source says, before any of them is processed.

    A record has none where its Kafka record has none, where the `timestamp=` of its source fails,
    and where it is too far ahead: it is merged right after the record before it, and in its turn
    meets what the program says of it. A `timestamp=` is called once more then.

    Args:
        stage: of the task.
        input_index: which of its inputs.
    """

    def __init__(self, stage: Stage, input_index: int) -> None:
        entry = (stage.entries[input_index],)
        children = [node for node in stage.nodes if node.parents == entry]
        said = [node.source_times for node in children if node.source_times is not None]
        times = said[0] if said else SourceTimes(function=None, max_ahead_ms=None)
        self._function, self._max_ahead_ms = times
        value = stage.inputs[input_index].value
        self._deserialize = value.deserialize if value is not None else None

    def __call__(self, batch: Batch) -> list[int | None]:
        """Unix milliseconds of each record, or None.

        Args:
            batch: encoded records, in the order of the log.
        """
        given = batch.timestamps
        if self._function is None:
            return [timestamp if timestamp >= 0 else None for timestamp in given]
        return list(map(self._made, batch.values, given))

    def _made(self, value: bytes | None, given: int) -> int | None:
        assert self._function is not None
        assert self._deserialize is not None
        try:
            live = None if value is None else self._deserialize(value)
            made = event_time_of(self._function(live))
        except KeyboardInterrupt:
            raise
        except BaseException:  # what fails fails again in its turn, and is named
            return None
        if made is None or (self._max_ahead_ms is not None and made - given > self._max_ahead_ms):
            return None
        return made


def merge_times(stage: Stage) -> Sequence[MergeTimes]:
    """Those of all inputs of a stage."""
    return [MergeTimes(stage, index) for index in range(len(stage.inputs))]

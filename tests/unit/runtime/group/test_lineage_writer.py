"""What a group appends to its lineage partition, and what its acknowledgements say."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kstash.core.determinants import Consumed
from kstash.core.records import Segment
from kstash.runtime.context import Producers, Services
from kstash.runtime.group.lineage_writer import LineageWriter
from kstash.runtime.task.task import Task
from kstash.testing.clock import ManualClock
from kstash.testing.metrics import MemoryMetrics
from tests.unit.core_cases import TASK, inc

Acked = Callable[[Any, Any], None]


class Rig:
    """A writer with one task, and the acknowledgements that its producer owes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.acks: list[Acked] = []
        self.stable: list[int] = []
        self.segments: list[Segment] = []
        core = SimpleNamespace(take_segments=self._taken, on_segment_acked=self._note)
        self.task = cast(Task, SimpleNamespace(stage=SimpleNamespace(index=TASK.stage), core=core))
        producer = SimpleNamespace(produce=lambda **sent: self.acks.append(sent["on_delivery"]))
        services = SimpleNamespace(clock=self.clock, metrics=MemoryMetrics())
        self.writer = LineageWriter(
            "lineage",
            TASK.partition,
            producers=cast(Producers, SimpleNamespace(lineage=producer)),
            services=cast(Services, services),
            is_logging=True,
            on_segment=lambda _: None,
        )

    def flush(self, *ends: int) -> None:
        """Append segments of two events each, which end there."""
        self.segments = [
            Segment(inc(5), TASK, end // 2, end - 2, end, (Consumed(end - 2, 0, 2, end),))
            for end in ends
        ]
        self.writer.flush(self.task)

    def _taken(self) -> list[Segment]:
        taken, self.segments = self.segments, []
        return taken

    def _note(self, end: int) -> list[object]:
        self.stable.append(end)
        return []


def test_acknowledgements_move_what_is_stable() -> None:
    """One segment after the other; what is on its way is counted until then."""
    rig = Rig()
    rig.flush(2, 4)
    rig.clock.advance(0.5)
    rig.flush(6)
    assert (rig.writer.unacked_entries, rig.writer.oldest_age_s(rig.clock.monotonic())) == (3, 0.5)
    size = rig.writer.unacked_bytes
    assert size == rig.writer.task_bytes[TASK.stage] > 0
    for ack in rig.acks:
        ack(None, None)
    assert rig.stable == [2, 4, 6]
    assert not rig.writer.has_unacked
    assert rig.writer.unacked_bytes == 0
    assert rig.writer.task_bytes[TASK.stage] == size, "that of a checkpoint, not of the network"


def test_acknowledgements_come_in_order() -> None:
    """What is stable goes by them: one before its turn would let outputs pass their lineage."""
    rig = Rig()
    rig.flush(2, 4)
    with pytest.raises(AssertionError, match="out of order"):
        rig.acks[1](None, None)
    assert rig.stable == []


def test_a_group_that_was_given_up_hears_nothing_more() -> None:
    """Nor does an error say that anything is stable: the producer fails as a whole."""
    rig = Rig()
    rig.flush(2, 4)
    rig.acks[0](RuntimeError("away"), None)
    rig.writer.close()
    rig.acks[1](None, None)
    assert rig.stable == []

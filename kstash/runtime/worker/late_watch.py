"""Says once that windows lose many records: results that are too small look like any others."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from kstash.runtime.task.task import Task
from kstash.topology.model import Stage, Topology
from kstash.topology.nodes import Node
from kstash.topology.window_nodes import LATE

log = structlog.get_logger("kstash.worker")

LATE_MIN = 100
"""Fewer are no sign of a wrong choice: a device that was offline, a clock that was set."""

LATE_SHARE = 0.1
"""Of the records that the tasks of the stage have processed here."""


class LateWatch:
    """Looks at the operators that drop what is too late, for one warning each.

    Args:
        topology: of the application.
    """

    def __init__(self, topology: Topology) -> None:
        self._unsaid: list[tuple[Stage, Node]] = [
            (stage, node) for stage in topology.stages for node in stage.nodes if LATE in node.drops
        ]

    def look(self, tasks: Sequence[Task]) -> None:
        """Say it of those that have lost so much in these tasks, which are all of this worker."""
        self._unsaid = [found for found in self._unsaid if not _said(*found, tasks)]


def _said(stage: Stage, node: Node, tasks: Sequence[Task]) -> bool:
    mine = [task for task in tasks if task.stage is stage]
    late = sum(task.program.dropped.get((node.label(), LATE), 0) for task in mine)
    records = sum(source.records for task in mine for source in task.inputs.values())
    if late < LATE_MIN or late < LATE_SHARE * records:
        return False
    log.warning(
        "many records are late and dropped",
        operator=node.label(),
        late=late,
        of=records,
        advice=_advice(stage),
    )
    return True


def _advice(stage: Stage) -> str:
    """Where records of several tasks are mixed, a backlog is the usual reason."""
    is_mixed = any(source.internal for source in stage.inputs)
    if is_mixed and not stage.is_watermark:
        return (
            'over a backlog take App(event_time="watermark"), by which no partition makes the '
            "others late; else a longer grace="
        )
    return "a longer grace=, or out_of_order= of the source, takes what comes so late"

"""The application under simulation: two stages, one internal topic, sinks of both kinds."""

from __future__ import annotations

from kstash.core.ids import TaskId
from kstash.core.plan import TaskSpec
from tests.simulation.knobs import Knobs
from tests.simulation.programs import IMMEDIATE, INTERNAL, TRANSACTIONAL, Output, Stage

APPLICATION = 7
LINEAGE = "app-lineage"
MIDDLE = "middle"


def _sinks(name: str, kind: str) -> tuple[Output, ...]:
    if kind == "both":
        return Output(name, IMMEDIATE), Output(f"{name}-plain", TRANSACTIONAL)
    return (Output(name, kind),) if kind else ()


def stages_of(knobs: Knobs) -> tuple[Stage, ...]:
    """Return the two stages of a run's program."""
    first = (Output(MIDDLE, INTERNAL), *_sinks("early", knobs.first_sink))
    second = _sinks("late", knobs.second_sink)
    return (
        Stage(
            0,
            knobs.first_inputs,
            (False,) * len(knobs.first_inputs),
            first,
            *knobs.programs[0],
            knobs.sparse[0],
            *knobs.events[0],
            merges=knobs.merges and len(knobs.first_inputs) > 1,
            has_calls=knobs.calls[0],
            is_timed=knobs.is_timed,
        ),
        Stage(
            1,
            (MIDDLE, *knobs.beside),
            (True,) + (False,) * len(knobs.beside),
            second,
            *knobs.programs[1],
            knobs.sparse[1],
            *knobs.events[1],
            merges=knobs.merges and bool(knobs.beside),
            has_calls=knobs.calls[1],
            is_timed=knobs.is_timed,
        ),
    )


def specs_of(
    stages: tuple[Stage, ...], groups: int, p: int, *, logs: bool = False
) -> tuple[TaskSpec, ...]:
    """Return what recovery must know of the tasks of group `p`.

    `logs`: this release logs runs of an only input also where nothing else decides.
    """
    specs = []
    for stage in stages:
        internal, sinks, scanned = [], [], []
        for o, output in enumerate(stage.outputs):
            for q in range(groups):
                if output.kind == INTERNAL:
                    internal.append((o, q))
                else:
                    sinks.append((o, q))
                    if output.kind == IMMEDIATE:
                        scanned.append((o, q))
        specs.append(
            TaskSpec(
                TaskId(stage.index, p),
                len(stage.inputs) == 1,
                tuple(internal),
                tuple(sinks),
                tuple(scanned),
                logs=len(stage.inputs) == 1 and (logs or stage.must_log),
            )
        )
    return tuple(specs)

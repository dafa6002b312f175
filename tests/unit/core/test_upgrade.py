"""The lineage of an older program, rewritten for the one that recovers it.

Source: protocol, section 9 (H15, H53).
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kstash.core.ids import OutPartition
from kstash.core.lineage import LineageView
from kstash.core.manifest import PROGRAM_SETTING, Manifest, StageShape
from kstash.core.records import Checkpoint, Hint, Start, TaskStart
from kstash.core.upgrade import Adapter
from kstash.core.watermark import EventTimes
from tests.unit.core_cases import TASK, inc

SEQUENCES: dict[OutPartition, int] = {(0, 0): 5, (0, 1): 6, (1, 0): 7}
SCAN_FROM: dict[OutPartition, int] = {(0, 0): 50, (0, 1): 60, (1, 0): 70}
INPUTS = {0: 11, 1: 12}

IDS = {"left": "id-1", "right": "id-2", "counts": "id-3", "maxima": "id-4"}


def program(ids: Mapping[str, str], outputs: tuple[str, ...] = ("counts", "maxima")) -> Manifest:
    """A program of one stage, by the ids of its topics."""
    stage = StageShape(
        TASK.stage,
        "words",
        tuple((topic, False) for topic in ("left", "right")),
        tuple((topic, False, "immediate") for topic in outputs),
        (),
        (),
    )
    return Manifest((stage,), TASK.stage + 1, topic_ids=ids, partitions=dict.fromkeys(IDS, 4))


def adapted(now: Manifest, *before: Manifest) -> tuple[Start, Checkpoint, Hint]:
    """What the first of the programs before said, as the one of now reads it."""
    first = Start(
        inc(0), None, {TASK.stage: TaskStart(0, 0, INPUTS)}, {PROGRAM_SETTING: before[0].encode()}
    )
    checkpoint = Checkpoint(
        inc(0),
        TASK,
        1,
        is_remote=True,
        position=9,
        label="label",
        files=(),
        input_offsets=INPUTS,
        sequences=SEQUENCES,
        readers={},
        scan_from=SCAN_FROM,
        event_time=EventTimes(dict(INPUTS), dict(SEQUENCES), passed_ms=3, ticked_ms=4),
    )
    view = LineageView(
        starts={
            inc(0): first,
            **{
                inc(10 * offset): Start(inc(10 * offset), inc(0), {}, {PROGRAM_SETTING: p.encode()})
                for offset, p in enumerate(before[1:], 1)
            },
        },
        checkpoints={TASK: [(3, checkpoint)]},
        hints={TASK: Hint(inc(0), TASK, 1, SCAN_FROM, reached=9)},
    )
    Adapter(view, now).adapt()
    [(_, record)] = view.checkpoints[TASK]
    return view.starts[inc(0)], record, view.hints[TASK]


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (IDS, IDS | {"counts": "id-5"}),
        ({topic: id_ for topic, id_ in IDS.items() if topic != "counts"}, IDS),
    ],
    ids=["another id", "an id that was not known then"],
)
def test_scans_of_an_output_made_anew_begin_anew(
    then: Mapping[str, str], now: Mapping[str, str]
) -> None:
    """Offsets in it are of other records, its sequences go on; other topics are as they were."""
    start, checkpoint, hint = adapted(program(now), program(then))
    assert checkpoint.scan_from == {(1, 0): 70}
    assert hint.offsets == {(1, 0): 70}
    assert checkpoint.sequences == SEQUENCES
    assert checkpoint.input_offsets == start.tasks[TASK.stage].initial_offsets == INPUTS


def test_offsets_in_an_input_made_anew_are_forgotten() -> None:
    """They are of other records; outputs are as they were."""
    start, checkpoint, hint = adapted(program(IDS | {"left": "id-5"}), program(IDS))
    assert checkpoint.input_offsets == start.tasks[TASK.stage].initial_offsets == {1: 12}
    assert checkpoint.event_time == EventTimes({1: 12}, SEQUENCES, passed_ms=3, ticked_ms=4)
    assert checkpoint.scan_from == hint.offsets == SCAN_FROM
    assert checkpoint.sequences == SEQUENCES


def test_where_no_ids_are_known_topics_are_the_same_ones() -> None:
    """A cluster that tells none may go on with scan starts."""
    _, checkpoint, hint = adapted(program({}), program(IDS))
    assert checkpoint.scan_from == hint.offsets == SCAN_FROM


def test_outputs_go_by_their_topics() -> None:
    """Scan starts and sequences move to the index that the topic has now."""
    now = IDS | {"counts": "id-5"}
    _, checkpoint, hint = adapted(program(now, ("maxima", "counts")), program(IDS))
    assert checkpoint.scan_from == hint.offsets == {(0, 0): 70}
    assert checkpoint.sequences == {(1, 0): 5, (1, 1): 6, (0, 0): 7}
    assert checkpoint.event_time is not None
    assert checkpoint.event_time.said == checkpoint.sequences


def test_what_a_program_in_between_did_not_write_is_forgotten() -> None:
    """Also its sequences, and though the topic has the same id still."""
    _, checkpoint, hint = adapted(program(IDS), program(IDS), program(IDS, ("maxima",)))
    assert checkpoint.scan_from == hint.offsets == {(1, 0): 70}
    assert checkpoint.sequences == {(1, 0): 7}

"""Each window that was opened gives one final result, whatever the gaps between records."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.windows import aligned
from kstash.testing.state import MemoryBackend
from kstash.topology.window_nodes import Emit
from tests.differential.reference import Chain
from tests.differential.sentences import final, hopping, tumbling

FAR_MS = 10**12

gaps = st.one_of(st.integers(-30, 30), st.integers(0, 500), st.sampled_from([10_000, 10**9]))
moves = st.lists(st.tuples(st.sampled_from("abc"), gaps), min_size=1, max_size=20)


def ms(count: int) -> timedelta:
    """So many milliseconds."""
    return timedelta(milliseconds=count)


def windows_of(spec: dict[str, Any]) -> kstash.Windows:
    """The windows of a model."""
    return kstash.hopping(ms(spec["size"]), ms(spec.get("advance", spec["size"])))


def results(
    spec: dict[str, Any], emit: Emit, records: list[tuple[str, int]], cuts: list[bool]
) -> list[tuple[Any, ...]]:
    """(Key, start, count, timestamp) of all that leaves for records at times, cut into batches."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text)
    stream.window(windows_of(spec), grace=ms(spec["grace"]), emit=emit).count("n").to("out")
    (stage,) = app.topology().stages
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    program = StageProgram(stage, state)
    made: list[tuple[Any, ...]] = []
    serde = kstash.windowed(kstash.text, windows_of(spec))
    for batch in batches(records, cuts):
        program.process(0, batch)
        while True:
            for _, out, _ in program.take_outputs():
                columns = zip(out.keys, out.values, out.timestamps, strict=True)
                made += [
                    (*serde.deserialize(key)[:2], int(value), stamp)
                    for key, value, stamp in columns
                ]
            if not program.has_work:
                break
            program.go_on()
    return made


def batches(records: list[tuple[str, int]], cuts: list[bool]) -> list[Batch]:
    """The records, cut where `cuts` says so."""
    made = [Batch()]
    for (key, stamp), cut in zip(records, cuts, strict=False):
        if cut and made[-1].keys:
            made.append(Batch())
        made[-1].keys.append(key.encode())
        made[-1].values.append(b"")
        made[-1].timestamps.append(stamp)
    return made


@given(
    size=st.integers(1, 12),
    parts=st.integers(1, 3),
    grace=st.integers(0, 15),
    moves=moves,
    cuts=st.lists(st.booleans(), min_size=21, max_size=21),
)
def test_each_opened_window_gives_one_final_result(
    size: int, parts: int, grace: int, moves: list[tuple[str, int]], cuts: list[bool]
) -> None:
    """The last update of each, once; as the model has it, in its order."""
    spec = tumbling(size, grace) if parts == 1 else hopping(size * parts, size, grace)
    now, records = 100, []
    for key, move in moves:
        now = max(0, now + move)
        records.append((key, now))
    records.append(("end", FAR_MS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned, "PART_RECORDS", 3)
        finals = results(spec, "final", records, cuts)
    last = {update[:2]: update for update in results(spec, "update", records, cuts)}
    opened = [update for update in last.values() if update[0] != "end"]
    assert sorted(finals) == sorted(opened)
    chain = Chain([final(spec) | {"fold": "count"}])
    model = [result for key, stamp in records for result in chain.take(key, 1, stamp)]
    assert finals == [(r.key, r.start, r.value, r.timestamp) for r in model]

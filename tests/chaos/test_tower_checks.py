"""The adversary's checkers themselves: given a wrong history, they find what is wrong in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kstash.core.group_state import GroupState
from kstash.core.ids import NO_INCARNATION
from kstash.core.record_codec import encode_value
from kstash.core.records import BoundedRun, Claim
from tests.chaos.acts import ACT_COUNTS, CLAIM_SIGN, MOVE_SIGN, RUN_SIGN, SCENARIOS, STEPS
from tests.chaos.checkers import Output, Outputs, generation_of, next_hash
from tests.chaos.harness import REPOSITORY, Record
from tests.chaos.owners import Vacancies
from tests.chaos.test_checkers import identified
from tests.chaos.tower import (
    Shape,
    Tower,
    Views,
    check_generation,
    check_stage,
    outputs_from,
    steps_by_partition,
)

SHAPE = Shape(
    stages=2,
    has_extras=True,
    partition_count=2,
    header_bytes_max=256,
    ack_delay_ms=300,
    worker_count=1,
    is_static=False,
    checkpoint_interval_ms=1_000,
    rate=100,
)


def a_tower(**changes: Any) -> Tower:
    """A tower whose topics no broker has."""
    chaos: Any = SimpleNamespace(seed=1, create_topics=lambda *_: None)
    return Tower(chaos, replace(SHAPE, **changes))


def fold(values: list[tuple[int, str, str]]) -> Outputs:
    """The outputs of a stage that takes (partition, key, value) in this order."""
    outputs: Outputs = {}
    states: dict[str, tuple[int, str]] = {}
    for partition, key, value in values:
        count, chain = states.get(key, (0, ""))
        states[key] = count, chain = count + 1, next_hash(chain, value)
        text = json.dumps({"count": count, "hash": chain, "last": value}).encode()
        records = outputs.setdefault(partition, [])
        records.append(Output(partition, len(records), key.encode(), text, ()))
    return outputs


def views_of(outputs: Outputs) -> Views:
    """All readers agree."""
    copies = [{partition: list(records) for partition, records in outputs.items()} for _ in "123"]
    return Views(*copies)


def history(tower: Tower) -> tuple[list[Record], list[Views]]:
    """Inputs, and what right outputs two stages make of them."""
    left, right, extra, _ = tower.inputs
    first = [(0, "s1-0", "0 l-1"), (1, "s1-3", "3 r-2"), (0, "s1-0", "0 r-3"), (0, "s1-8", "8 l-4")]
    topics = {"l": left, "r": right}
    inputs: list[Record] = [
        (topics[value.split()[1][0]], partition, key, value) for partition, key, value in first
    ]
    inputs.append((extra, 1, "s2-0", "0 e-5"))
    lower = fold(first)
    steps = [
        (0, key, text)
        for source in steps_by_partition(lower, 2)
        for key, texts in source.items()
        for text in texts
    ]
    return inputs, [views_of(lower), views_of(fold([*steps, (0, "s2-0", "0 e-5")]))]


def found(tower: Tower, views: list[Views], inputs: list[Record]) -> dict[str, str]:
    """What each check says of it."""
    said: dict[str, str] = {}

    def checking(what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except AssertionError as error:
            said[what] = str(error)

    tower.check(views, inputs, checking)
    return said


def test_a_right_history_passes() -> None:
    """Chains over any interleaving of all sources, the same for all readers, are no violation."""
    tower = a_tower()
    inputs, views = history(tower)
    assert found(tower, views, inputs) == {}
    tower.check_run(views, inputs)
    state = tower.final_state(views)
    assert state["chain-1"]["s1-0"] == json.loads(views[0].committed[0][1].value or b"")
    assert tower.output_counts(inputs) == {
        **dict.fromkeys(tower.sinks_of(1), 4),
        **dict.fromkeys(tower.sinks_of(2), 5),
    }


def test_a_stage_takes_the_steps_of_the_one_below_by_its_keys() -> None:
    """Keys 0 and 8 of the first stage fall to 0 and 1 of the second, and say key, count, hash."""
    lower = fold([(0, "s1-0", "0 l-1"), (0, "s1-8", "8 l-2")])
    (steps,) = steps_by_partition(lower, 2)
    first = next_hash("", "0 l-1")
    assert steps == {"s2-0": [f"0 0/1/{first}"], "s2-1": [f"1 8/1/{next_hash('', '8 l-2')}"]}


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("reader", ["committed", "accepted", "plain"])
def test_a_missing_output_is_found(stage: int, reader: str) -> None:
    """In every stage, whichever reader misses it."""
    tower = a_tower()
    inputs, views = history(tower)
    getattr(views[stage - 1], reader)[0].pop()
    said = found(tower, views, inputs)
    assert any(f"stage {stage}" in what for what in said)
    assert any(
        "made no output" in text or "outputs for one reader" in text for text in said.values()
    )


@pytest.mark.parametrize("reader", ["committed", "accepted", "plain"])
def test_a_doubled_output_is_found(reader: str) -> None:
    """The second copy does not follow."""
    tower = a_tower()
    inputs, views = history(tower)
    records = getattr(views[0], reader)[0]
    records.insert(1, records[0])
    assert any("output 2 of 3 says 1" in text for text in found(tower, views, inputs).values())


def test_a_gap_between_stages_is_found() -> None:
    """A step of the first stage that the second one never took, though its outputs are a chain."""
    tower = a_tower()
    inputs, views = history(tower)
    steps = [s for source in steps_by_partition(views[0].committed, 2) for s in source["s2-0"][1:]]
    views[1] = views_of(fold([(0, "s2-0", text) for text in steps] + [(0, "s2-0", "0 e-5")]))
    said = found(tower, views, inputs)
    assert "consumed" in said["stage 2, read_committed"]
    assert "out of turn" in said["stage 2, read_committed"]


def test_steps_out_of_order_are_found() -> None:
    """The second stage took two steps of one partition of the first in the wrong order."""
    tower = a_tower(has_extras=False)
    lower = fold([(0, "s1-0", "0 l-1"), (0, "s1-7", "7 l-2")])
    (steps,) = steps_by_partition(lower, 2)
    assert len(steps["s2-0"]) == 2
    upper = fold([(0, "s2-0", text) for text in reversed(steps["s2-0"])])
    inputs: list[Record] = [
        (tower.inputs[0], 0, "s1-0", "0 l-1"),
        (tower.inputs[0], 0, "s1-7", "7 l-2"),
    ]
    said = found(tower, [views_of(lower), views_of(upper)], inputs)
    assert set(said) == {
        f"stage 2, {reader}" for reader in ("read_committed", "reader rule", "transactional sink")
    }
    assert all("out of turn" in text for text in said.values())


def test_a_divergence_is_found() -> None:
    """Right counts and values, but the hash follows from another order than the outputs show."""
    tower = a_tower()
    inputs, views = history(tower)
    for outputs in (views[0].committed, views[0].accepted, views[0].plain):
        state = json.loads(outputs[0][1].value or b"")
        state["hash"] = next_hash("", state["last"])
        outputs[0][1] = replace(outputs[0][1], value=json.dumps(state).encode())
    said = found(tower, views, inputs)
    assert "does not follow from the output before it" in said["stage 1, read_committed"]
    # What the stage above took is another step than the one that the outputs now show.
    assert "out of turn" in said["stage 2, read_committed"]


def test_sinks_of_both_deliveries_must_be_one_history() -> None:
    """Two chains that are right for themselves, in another order of the inputs."""
    sources = [{"s1-0": ["0 l-1"]}, {"s1-0": ["0 r-2"]}]
    one = fold([(0, "s1-0", "0 l-1"), (0, "s1-0", "0 r-2")])
    other = fold([(0, "s1-0", "0 r-2"), (0, "s1-0", "0 l-1")])
    said: dict[str, str] = {}

    def checking(what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except AssertionError as error:
            said[what] = str(error)

    check_stage(1, Views(one, one, other), sources, checking)
    assert list(said) == ["stage 1, transactional sink beside the immediate one"]


def test_headers_of_the_transactional_sink_are_found() -> None:
    """Nothing of kstash may be on records that are the user's alone."""
    tower = a_tower()
    inputs, views = history(tower)
    plain = views[0].plain[0]
    plain[0] = replace(plain[0], headers=(("__kstash.s", b""),))
    assert set(found(tower, views, inputs)) == {"stage 1, headers of the transactional sink"}


def test_a_run_that_ended_too_soon_is_found() -> None:
    """A bounded run that left an input, or a step between its stages, is not over."""
    tower = a_tower()
    inputs, views = history(tower)
    views[1].committed[0].pop()
    with pytest.raises(AssertionError, match=r"stage 2 ended without 1 of 5: \['0 e-5'\]"):
        tower.check_run(views, inputs)
    views[0].committed[0].pop()
    with pytest.raises(AssertionError, match=r"stage 1 ended without 1 of 4: \['8 l-4'\]"):
        tower.check_run(views, inputs)


def test_outputs_of_before_a_reset_are_cut_off_and_found() -> None:
    """Only outputs after the reset count, and they must be of one generation."""
    old, new = identified(1, generation=5), identified(1, generation=6)
    outputs = {0: [old, replace(new, offset=7)]}
    assert outputs_from(outputs, {0: 3}) == {0: [replace(new, offset=7)]}
    check_generation(outputs_from(outputs, {0: 3}), generation_of)
    with pytest.raises(AssertionError, match=r"generations \[5, 6\]"):
        check_generation(outputs, generation_of)


def test_a_vacancy_counts_while_somebody_could_end_it() -> None:
    """Not before one and the same process was up, nor while the brokers do not answer."""
    vacancies = Vacancies(2)
    vacancies.check(0.0, [], [])
    vacancies.check(100.0, [1], ["a"])
    assert vacancies.longest == (0.0, 0)
    vacancies.check(110.0, [1], ["a"])
    assert vacancies.longest == (10.0, 0)
    vacancies.check(112.0, [1], ["b"])
    vacancies.check(117.0, [1], ["b"])
    assert vacancies.longest == (10.0, 0)
    vacancies.check(140.0, None, ["b"])
    vacancies.check(150.0, [1], ["b"])
    assert vacancies.longest == (10.0, 0)
    vacancies.check(171.0, [0, 1], ["b"])
    vacancies.check(300.0, [0], ["b"])
    vacancies.check(321.0, [0], ["b"])
    assert vacancies.longest == (21.0, 1)
    assert vacancies.vacant == {1}


def test_a_worker_that_is_up_for_long_is_not_excused_by_a_new_one() -> None:
    """The oldest of the processes that are up counts."""
    vacancies = Vacancies(1)
    vacancies.check(0.0, [], ["a"])
    vacancies.check(20.0, [], ["a", "b"])
    assert vacancies.longest == (20.0, 0)


def test_the_signs_that_acts_wait_for_are_in_the_log() -> None:
    """Acts go on without a sign that does not come: one that was renamed would blind them."""
    assert set(STEPS) <= {step.value for step in GroupState}
    sources = [path.read_text() for path in (REPOSITORY / "kstash/runtime").rglob("*.py")]
    for sign in (MOVE_SIGN, "recovery step"):
        assert any(f'"{sign}"' in source for source in sources), sign
    assert CLAIM_SIGN in encode_value(Claim(bytes(16), "w0"))
    assert RUN_SIGN in encode_value(BoundedRun(NO_INCARNATION, 1, (("left", 0, 5),)))


def test_every_scenario_has_acts() -> None:
    """And numbers of acts are given for scenarios that exist."""
    assert set(ACT_COUNTS) <= set(SCENARIOS)
    assert all(SCENARIOS.values())

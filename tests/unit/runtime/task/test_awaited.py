"""Which inputs a task that merges waits for. Source: protocol, section 3."""

from __future__ import annotations

from kstash.runtime.task.awaited import WAIT_FOR_NONE, Awaited


def awaited(idle_ms: int, at_end: set[int]) -> Awaited:
    """Of two inputs, of which some are at their ends; live since 100 s."""
    return Awaited(idle_ms=idle_ms, is_at_end=at_end.__contains__, now=100.0, inputs=(0, 1))


def test_an_input_that_has_more_is_waited_for_without_limit() -> None:
    """Also where inputs at their ends are not."""
    at_end: set[int] = {1}
    waits = awaited(0, at_end)
    assert waits.look([0], 100.0)
    assert waits.look([0], 100_000.0)
    assert waits.since == {0: 100.0}
    assert waits.will_have(0)
    assert waits.will_bring(0)
    assert not waits.will_have(1)
    at_end.add(0)
    assert not waits.look([0], 100_001.0)
    assert waits.since == {}
    assert not waits.will_have(0)


def test_an_input_at_its_end_is_waited_for_a_little_longer() -> None:
    """Since its last record, or since the task went live."""
    waits = awaited(2_000, {0, 1})
    assert waits.look([1], 101.9)
    assert not waits.look([1], 102.0)
    assert not waits.will_bring(1)  # as far as is known
    assert waits.will_have(1)  # a batch ends with its last record: then the wait begins
    waits.took(1, 103.0)
    assert waits.look([1], 104.9)
    assert waits.since == {1: 104.9}
    assert not waits.look([1], 105.0)
    assert not waits.look([], 104.0)


def test_nothing_is_waited_for_where_that_is_asked() -> None:
    """Batches are of what is there."""
    waits = awaited(WAIT_FOR_NONE, set())
    assert not waits.look([0, 1], 100.0)
    assert not waits.will_have(0)


def test_a_bounded_run_knows_what_is_to_come() -> None:
    """An input at the end of the run is not waited for, another one is, whether it comes or not."""
    has_more = {0}
    waits = Awaited(
        idle_ms=2_000,
        is_at_end=lambda _: True,
        now=100.0,
        inputs=(0, 1),
        run_has_more=has_more.__contains__,
    )
    assert waits.look([0], 1_000.0)
    assert waits.will_have(0)
    assert waits.will_bring(0)
    assert not waits.look([1], 100.0)
    assert not waits.will_have(1)
    has_more.clear()
    assert not waits.look([0], 1_000.0)
    assert not Awaited(
        idle_ms=WAIT_FOR_NONE,
        is_at_end=lambda _: True,
        now=0.0,
        inputs=(0,),
        run_has_more=lambda _: True,
    ).look([0], 0.0)


def test_a_wait_for_time_is_no_stall() -> None:
    """Of an input that has records which do not come it is."""
    at_end = {0, 1}
    waits = awaited(2_000, at_end)
    assert waits.look([0, 1], 100.0)
    assert waits.is_patient
    at_end.remove(1)
    assert waits.look([0, 1], 100.0)
    assert not waits.is_patient

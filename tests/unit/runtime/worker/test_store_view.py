"""Stores by the keys that users know: over the tasks of one worker, and changed by no look."""

from __future__ import annotations

import pytest

import kstash
from kstash.errors import ConfigError
from kstash.runtime.worker.final_state import GroupsFinalState
from kstash.runtime.worker.store_view import StoreView
from kstash.testing import TestDriver


def counting() -> kstash.App:
    """Counts words by themselves."""
    app = kstash.App("look", checkpoint_interval_ms=1_000)
    words = app.stream("words", key=kstash.text, value=kstash.text)
    words.count("seen").to("counts", value=kstash.int_text)
    return app


def view(driver: TestDriver, groups: set[int] | None = None) -> StoreView:
    """The store of `counting`, of all groups of the driver's worker or of some."""
    worker = driver.rig.worker
    held = {n: group for n, group in worker.groups.items() if groups is None or n in groups}
    return StoreView(worker.context.layout, held, "seen")


def test_a_view_finds_each_key_in_the_task_that_has_it() -> None:
    """Over three tasks, keys are found by their own values, and all entries are listed once."""
    with TestDriver(counting(), partitions=3) as driver:
        for number in range(20):
            driver.send("words", "x", key=f"k{number % 10}")
        assert {f"k{n}": view(driver).get(f"k{n}") for n in range(10)} == driver.state("seen")
        assert sorted(view(driver).items()) == [(f"k{n}", 2) for n in range(10)]
        assert view(driver).get("never") is None


def test_a_view_knows_what_is_not_here() -> None:
    """A key of another worker's task is not owned and has no value; one never seen is owned."""
    with TestDriver(counting(), partitions=3) as driver:
        for number in range(10):
            driver.send("words", "x", key=f"k{number}")
        parts = [view(driver, {group}) for group in range(3)]
        for key in [*(f"k{n}" for n in range(10)), "never"]:
            assert [part.owns(key) for part in parts].count(True) == 1
        owners = [part for part in parts if part.owns("k3")]
        assert [part.get("k3") for part in parts if part.owns("k3")] == [1]
        assert [part.get("k3") for part in parts if part not in owners] == [None, None]


def test_a_look_changes_nothing() -> None:
    """What was only looked at is not written again with the next checkpoint."""
    with TestDriver(counting()) as driver:
        driver.send("words", "x", key="k")
        driver.advance(2)
        view(driver).get("k")
        (task,) = driver.rig.worker.groups[0].tasks.values()
        state = task.state
        assert [store.changes().keys for store in state.cached_stores()] == [[]]  # type: ignore[attr-defined]


def test_the_final_state_answers_by_the_view() -> None:
    """A default stands for what was never seen; a store of no such name is a mistake."""
    with TestDriver(counting(), partitions=2) as driver:
        driver.send("words", "x", key="k")
        worker = driver.rig.worker
        final = GroupsFinalState(worker.context.layout, worker.groups)
        assert final.get("seen", "k") == 1
        assert final.get("seen", "never", 0) == 0
        assert final.owns("seen", "never")
        with pytest.raises(ConfigError, match=r"no store 'lost'.*'seen'"):
            final.get("lost", "k")

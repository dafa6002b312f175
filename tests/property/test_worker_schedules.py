"""Real workers over `MemoryKafka`: whatever fails when, one history, seen once by every reader.

`KSTASH_FLEET_SEEDS=20000 pytest tests/property/test_worker_schedules.py` runs more schedules. A
failure names its seed; `run(seed, MOVES)` repeats it.
"""

from __future__ import annotations

import os

import pytest

from kstash.core.stash import Stash
from kstash.errors import KstashError
from tests.property.fleet import MOVES_OF_STORES, Fleet, run

SEEDS = int(os.environ.get("KSTASH_FLEET_SEEDS", "200"))
BLOCKS = 4
MOVES = 150
FOUND = {
    2071: "a shared producer fails while groups are handed over",
    2131: "a sink is fenced while its group is handed over",
    2280: "a commit is fenced while its group is handed over",
}
"""Schedules that found a fault once."""


def checked(
    seed: int,
    without: frozenset[str] = frozenset(),
    *,
    is_mixed: bool = True,
    is_slow: bool = False,
) -> Fleet:
    """Run one schedule; a failure prints the seed."""
    try:
        return run(
            *(seed, MOVES),
            without=without,
            is_mixed=is_mixed,
            is_slow=is_slow,
            checkpoint_interval_ms=1_000,
        )
    except (AssertionError, KstashError) as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize(
    "block",
    [0, *(pytest.param(block, marks=pytest.mark.prove) for block in range(1, BLOCKS))],
)
def test_random_schedules_keep_one_history(block: int) -> None:
    """Crashes, zombies, lost and late requests, failing producers, rebalances, compaction."""
    for seed in range(block, SEEDS, BLOCKS):
        checked(seed)


def test_slow_functions_get_done() -> None:
    """H58: records that take up to 40 s, on a cluster with time-outs: faults or not, all is done.

    It comes to rest within as many turns as that of quick functions.
    """
    for seed in range(SEEDS // 10):
        checked(seed, is_slow=True)


@pytest.mark.parametrize("seed", FOUND)
def test_schedules_that_found_a_fault(seed: int) -> None:
    """They stay found."""
    checked(seed, MOVES_OF_STORES, is_mixed=False)


def test_schedules_do_what_they_are_for() -> None:
    """Recoveries replay and suppress, incarnations are fenced, checkpoints are published."""
    totals: dict[str, float] = {}
    for seed in range(30):
        for name, count in checked(seed).metrics.counts.items():
            totals[name] = totals.get(name, 0) + count
    names = ("checkpoints_remote", "checkpoint_upload_failures", "restore_bytes")
    for name in (
        *names,
        "replayed_records",
        "suppressed_outputs",
        "fenced",
        "checkpoints",
        "commits",
    ):
        assert totals[name] > 0, name


def test_checks_notice_when_chunks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without lineage in headers some schedule loses its history: the checks are not blind."""
    monkeypatch.setattr(Stash, "chunk", lambda *_: None)
    with pytest.raises((AssertionError, KstashError)):  # noqa: PT012 - any seed may be the one
        for seed in range(60):
            checked(seed)


def test_a_seed_repeats_itself() -> None:
    """The same seed gives the same bytes in every topic."""

    def logs(fleet: Fleet) -> list[tuple[object, ...]]:
        return [
            (record.topic(), record.partition(), record.offset(), record.key(), record.value())
            for topic in fleet.kafka.topics()
            for record in fleet.kafka.read(topic, is_committed=False)
        ]

    assert logs(checked(7)) == logs(checked(7))

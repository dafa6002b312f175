"""Every kind of fault once, over all applications, on three brokers and three workers.

`make chaos` does the same with every kind for every application, for as many rounds as wanted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cluster import Cluster
from tests.chaos.faults import KINDS, plan
from tests.chaos.harness import choose_seed
from tests.chaos.storm import storm
from tests.chaos.subjects import (
    SUBJECTS,
    BothDeliveries,
    KeywordCount,
    Subject,
    Timing,
    Watermark,
    Windows,
    WordCount,
)
from tests.chaos.table import Table

pytestmark = [pytest.mark.chaos, pytest.mark.integration]


SHORT = ("kill", "cut", "lineage", "wipe")
"""Four faults: a crash, a lost connection, a broker that dies, and a crash that costs the disk."""


@pytest.fixture(scope="module")
def seed() -> int:
    """One for all storms of a session, so that together they have every fault."""
    return choose_seed()


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """Adds up what the storms did."""
    table = Table()
    yield table
    print(f"\n{table.text()}")


PLACES: dict[str, tuple[type[Subject], ...]] = {
    "counts": (WordCount, KeywordCount),
    "both deliveries": (BothDeliveries, Timing),
    "windows": (Windows,),
    "watermark": (Watermark,),
}
"""Of each place one has its storm, by the seed."""


def hand(seed: int, place: str) -> list[str]:
    """The kinds of faults that fall to an application: dealt like cards."""
    deck = sorted(KINDS)
    random.Random(seed).shuffle(deck)
    return deck[list(PLACES).index(place) :: len(PLACES)]


@pytest.mark.parametrize("place", PLACES)
def test_exactly_once_in_a_storm(
    cluster: Cluster, tmp_path: Path, seed: int, table: Table, place: str
) -> None:
    """Outputs, state, assignment and processes are as if nothing had happened."""
    subject = PLACES[place][seed % len(PLACES[place])]
    storm(cluster, tmp_path, subject, hand(seed, place), table, seed=seed)


def test_a_short_storm(cluster: Cluster, tmp_path: Path, seed: int, table: Table) -> None:
    """The same under four faults only, for sinks of both deliveries that show the inputs' order."""
    storm(cluster, tmp_path, BothDeliveries, SHORT, table, seed=seed)


def test_a_seed_repeats_its_plan() -> None:
    """The same seed gives the same faults at the same times, and every fault has its turn."""
    kinds = sorted(KINDS)
    one, other = (plan(random.Random(7), kinds, 3) for _ in range(2))
    assert one == other
    assert one != plan(random.Random(8), kinds, 3)
    assert sorted(kind for place in PLACES for kind in hand(7, place)) == kinds


def test_all_applications_have_their_turn() -> None:
    """Each that `make chaos` goes over has a storm under some seed."""
    assert {subject for subjects in PLACES.values() for subject in subjects} == set(SUBJECTS)


def test_a_victim_has_one_fault_at_a_time() -> None:
    """Faults of one worker never overlap, nor do those of brokers; others do."""
    hits = plan(random.Random(7), sorted(KINDS) * 5, 3)
    spans: dict[tuple[str, int], float] = {}
    overlaps = 0
    for hit in hits:
        assert spans.get(hit.place, 0.0) <= hit.at_s
        overlaps += any(end > hit.at_s for end in spans.values())
        spans[hit.place] = hit.at_s + hit.lasts_s
    assert overlaps > 10

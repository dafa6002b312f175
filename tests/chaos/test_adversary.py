"""One short round of the adversary with a fixed seed; `make adversary` plays more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.adversary import play
from tests.chaos.cluster import Cluster, running_cluster

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

SEED = 9


@pytest.fixture(scope="module")
def lone_cluster() -> Iterator[Cluster]:
    """One broker with lanes, which a round may kill; all rounds share it."""
    with running_cluster(1) as cluster:
        yield cluster


def test_a_tower_stands(lone_cluster: Cluster, tmp_path: Path) -> None:
    """Every stage has each output once, in one history for all readers, and nothing hangs."""
    run = play(lone_cluster, tmp_path, SEED, "mixed")
    assert not run.violations, "\n".join([*run.violations, run.chaos.report()])

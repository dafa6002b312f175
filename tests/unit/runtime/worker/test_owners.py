"""When a worker sees to it that every task group has an owner, and when it lets well alone (H60).

The worker is the real one, Kafka is in memory; what the cluster says of the group is the test's.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import kstash
from kstash import App
from kstash.ports.kafka import Census
from kstash.testing import TestDriver

SECONDS = 40
"""Longer than the looks that must find the same, and the turn of the last member."""


@pytest.fixture
def driver() -> TestDriver:
    """A worker of two task groups, live."""
    app = App("owned", shutdown_timeout_ms=200_000)
    app.stream("in", value=kstash.text).to("out", value=kstash.text)
    return TestDriver(app, partitions=2)


def done(driver: TestDriver, census: Callable[[str], Census]) -> set[str]:
    """What a worker does for the group while the cluster says so: `share out`, `rejoin`.

    `census` is told the worker's own member id.
    """
    acts: set[str] = set()
    member = driver.rig.worker.context.clients.membership
    real = member.census()
    assert real is not None
    vars(member).update(
        census=lambda: census(real.own),
        share_out=lambda _: acts.add("share out"),
        rejoin=lambda: acts.add("rejoin"),
    )
    driver.advance(SECONDS)
    return acts


@pytest.mark.parametrize(("is_settled", "expected"), [(True, {"rejoin"}), (False, set())])
def test_a_group_that_shares_out_just_now_is_let_alone(
    driver: TestDriver, is_settled: bool, expected: set[str]
) -> None:
    """A rebalance that takes long looks like groups of nobody's, and members without any."""
    acts = done(driver, lambda own: Census(is_settled, frozenset({own}), {0: own}, own))
    assert acts == expected


@pytest.mark.parametrize(("is_settled", "expected"), [(True, {"share out"}), (False, set())])
def test_h60_what_is_nobodys_is_shared_out_when_the_group_is_settled(
    driver: TestDriver, is_settled: bool, expected: set[str]
) -> None:
    """H60: no other rebalance would come then; while one is under way it does that itself."""
    driver.rig.worker._groups._drop(1)
    acts = done(driver, lambda own: Census(is_settled, frozenset({own}), {0: own}, own))
    assert acts == expected


@pytest.mark.parametrize("owners", [{0}, {0, 1}], ids=["nobody's", "still its own"])
def test_h60_what_a_worker_gives_up_has_an_owner_until_then(
    driver: TestDriver, owners: set[int]
) -> None:
    """H60: it was asked for the group and drains it: all is well, whatever the cluster calls it."""
    group = driver.rig.worker.groups[1]
    vars(group)["tick"] = lambda *_, **__: None  # it takes long to drain
    driver.rig.worker._groups._revoked([1])
    acts = done(
        driver, lambda own: Census(True, frozenset({own, "z"}), dict.fromkeys(owners, own), own)
    )
    assert driver.rig.worker._groups.leaving == {1}
    assert acts == set()

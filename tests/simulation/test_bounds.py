"""What does not depend on how long a run is, or on how outputs are delivered (I8, I12)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kstash.core.records import Claim
from tests.simulation.knobs import Knobs, Mutations
from tests.simulation.schedule import Schedule
from tests.simulation.shapes import RECORDS_ONLY
from tests.simulation.sim_kafka import Record
from tests.simulation.world import World

QUIET: dict[str, object] = {
    "rate_crash": 0.0,
    "rate_move": 0.0,
    "rate_release": 0.0,
    "rate_pause": 0.0,
    "rate_fail": 0.0,
    "rate_recreate": 0.0,
    "rate_lead": 0.0,
    "has_loss": False,
    "has_finale": False,
    "starts_twice": False,
    "is_bounded": False,
}


RESTARTS: dict[str, float] = {"rate_release": 0.03, "rate_crash": 0.01}


def quiet_world(seed: int, **shape: Any) -> World:
    """Run a world without faults until it is quiet."""
    rng = Random(seed)
    knobs = Knobs(rng)
    for name, value in {**QUIET, **shape}.items():
        setattr(knobs, name, value)
    world = World(rng, knobs, Mutations())
    for _ in range(knobs.steps):
        Schedule(world).step()
    world.settle()
    world.check()
    return world


def live_lineage(world: World) -> int:
    """Count what maximal compaction leaves of the lineage topic, tombstones aside."""
    for log in world.lineage_logs:
        log.compact(log.end, drop_tombstones_below=log.end)
    return sum(len(log.records) for log in world.lineage_logs)


@pytest.mark.parametrize("faults", [{}, RESTARTS])
@pytest.mark.parametrize("seed", range(5))
def test_live_lineage_does_not_grow_with_the_run(seed: int, faults: dict[str, float]) -> None:
    """Eight times the input, and the restarts, leave no more live lineage.

    It flows until the end: who stands still keeps what its last two checkpoints need.
    """
    shape = {
        **RECORDS_ONLY,
        **faults,
        "rate_checkpoint": 0.2,
        "rate_remote": 1.0,
        "rate_follow": 0.6,
        "rate_flush": 0.9,
        "rate_land": 0.9,
        "rate_commit": 0.8,
        "slow_kinds": "",
    }
    short = quiet_world(seed, steps=200, input_count=100, **shape)
    long = quiet_world(seed, steps=1600, input_count=800, **shape)
    assert sum(log.end for log in long.lineage_logs) > 4 * sum(
        log.end for log in short.lineage_logs
    )
    assert live_lineage(long) <= 3 * live_lineage(short)
    if faults:
        assert long.live_count > 20
        left = [record for log in long.lineage_logs for record in log.records]
        assert sum(isinstance(record.meaning, Claim) for record in left) <= 10


@pytest.mark.parametrize("seed", range(5))
def test_delivery_and_cap_do_not_change_outputs(seed: int) -> None:
    """Immediate, transactional, write-first: one input order gives the same outputs."""
    outputs = []
    for sink in ("immediate", "transactional"):
        for header_bytes_max in (0, 4096):
            world = quiet_world(
                seed,
                steps=0,
                input_count=0,
                first_sink=sink,
                header_bytes_max=header_bytes_max,
                programs=((False, False, False, False), (False, False, False, False)),
                calls=(False, False),  # answers come in the order of the outside
            )
            inputs = Random(seed)
            for i in range(40):
                value = int(inputs.random() * 5), int(inputs.random() * 1000)
                world.cluster.append(world.cluster.log("first", i % 2), Record(None, value))
            world.settle()
            world.check()
            plain = {
                (p, task): values
                for p in range(world.groups)
                for task, values in world.checkers.plain["early", p].by_task.items()
            }
            middle = {
                (p, task): values
                for p in range(world.groups)
                for task, values in world.checkers.readers["middle", p].by_task.items()
            }
            outputs.append((plain, middle))
    assert outputs[0][0]
    assert all(found == outputs[0] for found in outputs)

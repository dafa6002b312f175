"""Sinks of both deliveries in one application, whose worker dies or sleeps at random moments.

The readers share no code with kstash (`checkers.py`): the transactional sinks are read by a plain
`read_committed` consumer, which must find nothing of kstash in them.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from tests.chaos.checkers import (
    Outputs,
    check_chains,
    check_counts,
    check_same,
    read_committed,
    read_with_rule,
)
from tests.chaos.harness import (
    Chaos,
    Feeder,
    Worker,
    chaos_run,
    place_of,
    values_by_key,
    wait_for_outputs,
    wait_until,
)

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

PARTITION_COUNT = 2
KILLS = 6
ACK_DELAY_MS = 300
"""So late is lineage stable: a crash always finds some that only the immediate sink carries."""


class Scene:
    """Topics and workers of one test, used by no other."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos = chaos
        mark = uuid4().hex[:8]
        self.application_id = f"app-{mark}"
        self.inputs = tuple(f"{name}-{mark}" for name in ("left", "right"))
        self.output = f"mixed-{mark}"
        self.at_once, self.plain, self.laps = (
            f"{self.output}-{kind}" for kind in ("at-once", "plain", "laps")
        )
        topics = (*self.inputs, self.at_once, self.plain, self.laps)
        chaos.create_topics(PARTITION_COUNT, *topics)
        choice = random.Random(chaos.seed)

        def step(index: int) -> tuple[str, int, str | None, str]:
            number, side = choice.randrange(40), choice.randrange(2)
            # As every client does with a key: the same partition of both topics.
            key = f"key-{number}"
            place = place_of(key.encode(), PARTITION_COUNT)
            return self.inputs[side], place, key, f"{side}-{index}"

        self.feeder = Feeder(chaos.bootstrap, step, rate=400)

    def worker(self, name: str, instance_id: str = "worker") -> Worker:
        """A worker; not started."""
        return self.chaos.worker(
            name,
            "tests.chaos.mixed_sinks_app",
            *("--application-id", self.application_id, "--output", self.output),
            *(option for topic in self.inputs for option in ("--input", topic)),
            *("--checkpoint-interval-ms", "1000", "--instance-id", instance_id),
            environment={"KSTASH_LINEAGE_ACK_DELAY_MS": str(ACK_DELAY_MS)},
        )

    def finish(self, worker: Worker) -> None:
        """Let a worker come to the end of its input, and stop it."""
        self.feeder.finish()
        for topic in (self.at_once, self.plain, self.laps):
            wait_for_outputs(self.chaos.bootstrap, topic, len(self.feeder.sent))
        assert worker.stop() == 0

    def check(self) -> None:
        """Every sink has each output once, of one history; the plain ones nothing else."""
        at_once, plain, laps = (
            read_committed(self.chaos.bootstrap, topic)
            for topic in (self.at_once, self.plain, self.laps)
        )
        for outputs in (plain, laps):
            check_plain(outputs)
        sent = values_by_key(self.feeder.sent)
        inputs = [sent[topic] for topic in self.inputs]
        check_chains(plain, inputs)
        check_same(plain, at_once)
        check_same(plain, read_with_rule(self.chaos.bootstrap, self.at_once))
        lengths = Counter(key for _, _, key, _ in self.feeder.sent)
        check_counts(
            laps,
            Counter(f"lap-{n}" for length in lengths.values() for n in range(1, length + 1)),
        )


def check_plain(outputs: Outputs) -> None:
    """No record has a header: these programs make none."""
    found = [output for records in outputs.values() for output in records if output.headers]
    assert not found, f"{len(found)} records with headers, the first: {found[0]}"


def test_both_deliveries_survive_kills(broker: str, tmp_path: Path) -> None:
    """Each output once in each sink, in one history, after six kills; no header on plain ones."""
    with chaos_run(broker, tmp_path) as chaos:
        scene = Scene(chaos)
        worker = scene.worker("worker")
        worker.start()
        worker.wait_ready()
        scene.feeder.start()
        try:
            chaos.kill_at_random([worker], KILLS, live_s_max=2.0)
        finally:
            scene.feeder.finish()
        scene.finish(worker)
        scene.check()


def test_a_zombie_cannot_commit(broker: str, tmp_path: Path) -> None:
    """A worker that sleeps in a transaction and wakes after its successor adds nothing."""
    with chaos_run(broker, tmp_path) as chaos:
        scene = Scene(chaos)
        zombie, heir = scene.worker("zombie"), scene.worker("heir")
        zombie.start()
        zombie.wait_ready()
        scene.feeder.start()
        # After the first commit there is always an open transaction, or a closed one that waits
        # for its lineage: the input never pauses, and lineage comes later than the interval.
        wait_for_outputs(broker, scene.plain, 100)
        time.sleep(chaos.random.uniform(0.0, 0.5))
        zombie.send(signal.SIGSTOP)
        chaos.note("the zombie sleeps")
        heir.start()
        heir.wait_ready()
        seen = len(scene.feeder.sent)
        wait_until(lambda: len(scene.feeder.sent) > seen + 200, 10, "more input")
        zombie.send(signal.SIGCONT)
        chaos.note("the zombie wakes")
        assert zombie.wait() > 0
        scene.finish(heir)
        scene.check()

"""Windows whose worker is killed at random moments, while many close at once too.

The readers share no code with kstash; what they read must be what `window_checks` makes of the
input alone, each output of each partition in its place.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.chaos import window_checks
from tests.chaos.checkers import check_in_order, read_committed, read_with_rule
from tests.chaos.harness import Chaos, Feeder, Worker, chaos_run, place_of, wait_for_outputs
from tests.chaos.window_checks import KINDS, Click, Sent

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

PARTITION_COUNT = 2
KEYS = 3_000
KILLS = 6
RATE = 1_000
BEGIN_MS = int(time.time() * 1000) - 48 * 3_600_000
"""Results have the times of their windows. Old ones the broker would delete, as of its retention;
much newer ones than its clock it would refuse."""

JUMP_EACH = 4_000
"""Records between two jumps of an hour, which close the windows of all keys at once."""

BACKLOG = 5_000
"""Records of each of two topics, which tell of one day."""

ACK_DELAY_MS = 300
"""So late is lineage stable: a crash always finds some that only outputs carry."""


class Scene:
    """Topics and the worker of one test, used by no other."""

    def __init__(self, chaos: Chaos, *names: str) -> None:
        self.chaos = chaos
        mark = uuid4().hex[:8]
        self.application_id, self.output = f"app-{mark}", f"windows-{mark}"
        self.inputs = [f"{name}-{mark}" for name in names]
        self.topics = {kind: f"{self.output}-{kind}" for kind in KINDS}
        chaos.create_topics(PARTITION_COUNT, *self.inputs, *self.topics.values())
        choice = random.Random(chaos.seed)
        clicks = window_checks.clicks_of(choice, BEGIN_MS, keys=KEYS, jump_each=JUMP_EACH)

        def step(_: int) -> tuple[str, int, str | None, str]:
            key, at, number = next(clicks)
            place = place_of(key.encode(), PARTITION_COUNT)
            return self.inputs[0], place, key, json.dumps({"at": at, "n": number})

        self.feeder = Feeder(chaos.bootstrap, step, rate=RATE)

    def worker(self) -> Worker:
        """The worker; not started."""
        return self.chaos.worker(
            "worker",
            "tests.chaos.windows_app",
            *("--application-id", self.application_id, "--output", self.output),
            *("--input", self.inputs[0], "--second", "".join(self.inputs[1:])),
            *("--checkpoint-interval-ms", "1000", "--instance-id", "worker"),
            environment={"KSTASH_LINEAGE_ACK_DELAY_MS": str(ACK_DELAY_MS)},
        )

    def expected(self) -> dict[str, dict[int, list[Sent]]]:
        """What the input makes, by kind and partition."""
        fed: dict[int, dict[str, list[Click]]] = {}
        for topic, partition, key, value in self.feeder.sent:
            click = json.loads(value)
            assert key is not None
            logs = fed.setdefault(partition, {name: [] for name in self.inputs})
            logs[topic].append((key, click["at"], click["n"]))
        return window_checks.all_kinds(
            {partition: window_checks.merged([*logs.values()]) for partition, logs in fed.items()}
        )


def check_all(broker: str, scene: Scene, worker: Worker) -> None:
    """Wait for all that the input makes, stop, and compare."""
    expected = scene.expected()
    for kind in KINDS:
        assert all(expected[kind].values()), f"the input makes no {kind}"
        count = sum(map(len, expected[kind].values()))
        wait_for_outputs(broker, scene.topics[kind], count)
    assert worker.stop() == 0
    for kind in KINDS:
        is_immediate = kind in ("updates", "late")
        outputs = read_committed(broker, scene.topics[kind])
        check_in_order(outputs, expected[kind], kind)
        if is_immediate:
            check_in_order(
                read_with_rule(broker, scene.topics[kind]), expected[kind], f"{kind} at once"
            )


def test_windows_survive_kills(broker: str, tmp_path: Path) -> None:
    """Each result once and in its place, of windows that close one by one and by the thousand."""
    with chaos_run(broker, tmp_path) as chaos:
        scene = Scene(chaos, "clicks")
        worker = scene.worker()
        worker.start()
        worker.wait_ready()
        scene.feeder.start()
        try:
            chaos.kill_at_random([worker], KILLS, live_s_max=2.0)
        finally:
            scene.feeder.finish()
        check_all(broker, scene, worker)


def test_topics_read_a_day_ahead_of_each_other_survive_kills(broker: str, tmp_path: Path) -> None:
    """Two topics of a day each, of which one is far quicker to read: nothing of the other is late.

    The order is that of their times, whatever was fetched first and whenever the worker died.
    """
    with chaos_run(broker, tmp_path) as chaos:
        scene = Scene(chaos, "large", "small")
        for number in range(BACKLOG):
            for topic, padding in zip(scene.inputs, ("x" * 1_000, ""), strict=True):
                late_ms = chaos.random.randrange(90_000) if number % 17 == 0 else 0
                at = BEGIN_MS + number * (86_400_000 // BACKLOG) - late_ms
                key = f"key-{chaos.random.randrange(50)}"
                value = json.dumps({"at": at, "n": number, "padding": padding})
                scene.feeder.send((topic, place_of(key.encode(), PARTITION_COUNT), key, value))
        scene.feeder.finish()
        worker = scene.worker()
        worker.start()
        chaos.kill_at_random([worker], 2, live_s_max=0.6)
        check_all(broker, scene, worker)

"""Watermark mode on a real Kafka: one partition two days ahead, an outage, and then silence."""

from __future__ import annotations

import pytest

from tests.chaos.harness import wait_until
from tests.integration.scene import WAIT_S_MAX, Scene, Sent

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
FIRST_MS = 1_600_000_000_000 - 1_600_000_000_000 % (24 * HOUR_MS)


def test_a_backfill_loses_nothing(scene: Scene) -> None:
    """All records of both partitions are in the sums of the days, though the worker is killed."""
    source, sink = scene.topic("visits", 2), scene.topic("days")
    worker = scene.worker(
        "backfill",
        [source],
        sink,
        event_time="watermark",
        watermark_interval_ms=50,
        idle_timeout_ms=2_000,
    )
    worker.start_ready()
    for partition in (0, 1):
        times = [FIRST_MS + n * HOUR_MS // 10 + partition for n in range(480)]
        scene.send(source, [Sent(str(at_ms).encode(), None, partition) for at_ms in times])
        if partition == 0:
            worker.kill()
    worker.start_ready()

    def sums() -> list[int]:
        return [int(o.value or b"") for found in scene.outputs(sink).values() for o in found]

    wait_until(lambda: len(sums()) == 2, WAIT_S_MAX, "the sums of both days")
    assert worker.stop() == 0
    assert sums() == [480, 480]

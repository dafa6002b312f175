"""Watermark mode on a real Kafka: one partition two days ahead, an outage, and then silence."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos.harness import wait_until
from tests.integration.scene import WAIT_S_MAX, Scene, Sent
from tests.integration.test_status_page import free_ports

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


def times(*options: str) -> str:
    """What `kstash time` prints."""
    command = [sys.executable, "-m", "kstash.cli.main", "time", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_an_idle_partition_is_named_by_kstash_time(scene: Scene) -> None:
    """Of its own task, and of those that its task writes to; until it goes on."""
    source, sink = scene.topic("visits", 2), scene.topic("days")
    (port,) = free_ports(1)
    worker = scene.worker(
        "backfill",
        [source],
        sink,
        event_time="watermark",
        watermark_interval_ms=50,
        idle_timeout_ms=600_000,
        http_port=port,
    )
    url = f"--url=http://127.0.0.1:{port}"
    worker.start_ready()
    scene.send(source, [Sent(str(FIRST_MS + HOUR_MS).encode(), None, 1)])
    ahead = [FIRST_MS + hour * HOUR_MS for hour in range(30)]
    scene.send(source, [Sent(str(at_ms).encode(), None, 0) for at_ms in ahead])

    def held(stage: str) -> list[dict[str, Any]]:
        """What holds the tasks of a stage back, with their times."""
        rows = json.loads(times(url, "--json"))["tasks"]
        own = [row for row in rows if row["operator"] is None and row["task"].startswith(stage)]
        return [{**(row["held_by"] or {}), "at": row["time"]} for row in own]

    def are_held() -> bool:
        found = held("hours")
        return len(found) == 2 and all(
            (each.get("reason"), each["at"]) == ("writer", FIRST_MS / 1000 + 3600) for each in found
        )

    wait_until(are_held, WAIT_S_MAX, "both tasks wait for the writer")
    writers = {each["writer"] for each in held("hours")}
    assert len(writers) == 1
    writer = writers.pop()
    assert writer.endswith("_1")
    # That nothing comes is known after a second.
    wait_until(
        lambda: [each.get("reason") for each in held(writer)] == ["quiet"],
        WAIT_S_MAX,
        "nothing comes of the partition",
    )
    (quiet,) = held(writer)
    assert (quiet["input"], quiet["time"]) == (f"{source}/1", FIRST_MS / 1000 + 3600)
    table = times(url)
    assert f"nothing comes of {source}/1: after idle_timeout_ms" in table
    assert f"{writer}, which writes " in table
    scene.send(source, [Sent(str(FIRST_MS + 29 * HOUR_MS).encode(), None, 1)])
    last_s = FIRST_MS / 1000 + 29 * 3600
    wait_until(
        lambda: [each["at"] for each in held("hours")] == [last_s] * 2, WAIT_S_MAX, "time goes on"
    )
    assert worker.stop() == 0

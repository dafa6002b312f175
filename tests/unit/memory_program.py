"""What a worker takes at most, for the tests of memory: a process of its own for each case.

    memory_program.py CASE

Prints by how many MB its memory has grown at most. The cluster in memory forgets what is in the
outputs and keeps everything else; the worker is the real one. Cases: see `CASES`.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any

import kstash
from kstash.testing import TestDriver
from kstash.testing.kafka.log import PartitionLog

RECORDS = 40
RECORD_BYTES = 100_000
FAN_OUT = 1_000

_append = PartitionLog._append


def _forget(self: PartitionLog, key: Any, value: Any, *rest: Any, **more: Any) -> Any:
    return _append(self, key, value if self.topic != "out" else b"", *rest, **more)


def peak_mb() -> float:
    """Most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fan_out(*, is_replay: bool = False, is_sudden: bool = False, stages: int = 1) -> None:
    """Large records, each of which becomes a thousand as large as itself: 4 GB."""
    # Without a checkpoint a recovery makes all of it again.
    app = kstash.App("fanning", checkpoint_interval_ms=3_600_000 if is_replay else 10_000)
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    if stages > 1:
        stream = stream.key_by(lambda _: "k", key=kstash.text, value=kstash.text, name="edge")
    stream.flat_map_values(lambda v: [v] * (FAN_OUT if len(v) > 1 else 1)).to(
        "out", value=kstash.text
    )
    PartitionLog._append = _forget  # type: ignore[method-assign]
    with TestDriver(app) as driver:
        if is_sudden:
            for _ in range(5_000):
                driver.kafka.append("in", b"x")
            driver.advance(1)
        for number in range(RECORDS):
            driver.kafka.append("in", bytes([65 + number]) * RECORD_BYTES)
        if is_replay:
            driver.advance(10)
            driver.crash()
            driver.recover()
        driver.advance(10)
        replayed = driver.metrics.counts.get("replayed_records", 0)
        assert replayed == (RECORDS if is_replay else 0), f"{replayed} records were replayed"
        made = len(driver.kafka.read("out"))
    wanted = RECORDS * FAN_OUT + (5_000 if is_sudden else 0)
    assert made == wanted, f"{made} outputs of {wanted}"


CASES: dict[str, Callable[[], None]] = {
    "fan-out": fan_out,
    "fan-out in replay": lambda: fan_out(is_replay=True),
    "fan-out all at once": lambda: fan_out(is_sudden=True),
    "fan-out of frames": lambda: fan_out(stages=2),
}


if __name__ == "__main__":
    before = peak_mb()
    CASES[sys.argv[1]]()
    print(f"{peak_mb() - before:.0f}")

"""Cost of the state backend: loads, spills and checkpoints.

Run with `python -m benchmarks.state`. Prints the best and the median of several rounds; write the
machine beside the numbers when quoting them.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kstash.ports.state import StoreSpec
from kstash.state.rocks import RocksBackend
from kstash.state.rocks_task import RocksTaskState

ROUNDS = 7
BATCH_KEYS = 500
RESIDENT_KEYS = 100_000
SPEC = StoreSpec("words", lambda count: b"%d" % count, int)


def measure(name: str, unit: str, scale: float, run: Callable[[], float]) -> None:
    """Print best and median of `run`'s seconds, times `scale`, in `unit`."""
    seconds = [run() for _ in range(ROUNDS)]
    best, median = min(seconds) * scale, statistics.median(seconds) * scale
    print(f"{name:44} best {best:9.3f}  median {median:9.3f}  {unit}")


def keys_of(numbers: list[int]) -> list[bytes]:
    """Fresh key objects, as after decoding: their hashes are not computed yet."""
    return [b"word-%d" % number for number in numbers]


def assign(state: RocksTaskState, keys: list[bytes]) -> None:
    """Count each key once more, in batches."""
    for start in range(0, len(keys), BATCH_KEYS):
        batch = keys[start : start + BATCH_KEYS]
        live = state.store("words").load(batch)
        for key in batch:
            live[key] = live.get(key, 0) + 1


def load_seconds(state: RocksTaskState) -> float:
    """Seconds a key of `load` alone."""
    numbers = random.choices(range(RESIDENT_KEYS), k=50_000)
    keys = keys_of(numbers)
    batches = [keys[start : start + BATCH_KEYS] for start in range(0, len(keys), BATCH_KEYS)]
    load = state.store("words").load
    started = time.perf_counter()
    for batch in batches:
        load(batch)
    return (time.perf_counter() - started) / len(keys)


def checkpoint_seconds(backend: RocksBackend, state: RocksTaskState, dirty_count: int) -> float:
    """Seconds of a checkpoint after `dirty_count` keys changed, with deletion of the older one."""
    assign(state, keys_of(list(range(dirty_count))))
    label = str(time.monotonic_ns())
    started = time.perf_counter()
    state.checkpoint(label, 1)
    backend.task("bench", 0).retain([label])
    return time.perf_counter() - started


def main() -> None:
    """Run all measurements on a temporary folder."""
    random.seed(7)
    with tempfile.TemporaryDirectory() as folder:
        backend = RocksBackend(Path(folder), "bench", topology_hash="bench", memory_bytes=256 << 20)
        state = backend.task("bench", 0).open([SPEC], base=None)
        assign(state, keys_of(list(range(RESIDENT_KEYS))))
        measure("load, resident, never spilled", "us/key", 1e6, lambda: load_seconds(state))
        deque(state.spilling(), maxlen=0)
        state.store("words").load(keys_of(list(range(RESIDENT_KEYS))))
        measure("load, resident, after a spill", "us/key", 1e6, lambda: load_seconds(state))
        for dirty_count in (0, 100, 10_000, 100_000):
            measure(
                f"checkpoint, {dirty_count} dirty keys, and retain",
                "ms",
                1e3,
                partial(checkpoint_seconds, backend, state, dirty_count),
            )
        state.checkpoint("last", 1)
        state.close()

        def reopen() -> float:
            started = time.perf_counter()
            backend.task("bench", 0).open([SPEC], base="last").close()
            return time.perf_counter() - started

        measure(f"open of a checkpoint of {RESIDENT_KEYS} keys, close", "ms", 1e3, reopen)
        backend.close()
        spilling = RocksBackend(Path(folder), "spill", topology_hash="bench", memory_bytes=4 << 20)
        state = spilling.task("bench", 0).open([SPEC], base=None)

        def spill_round() -> float:
            keys = keys_of(random.choices(range(5 * RESIDENT_KEYS), k=50_000))
            started = time.perf_counter()
            assign(state, keys)
            return (time.perf_counter() - started) / len(keys)

        measure("load and count, 20 times more keys than fit", "us/key", 1e6, spill_round)
        spilling.close()


if __name__ == "__main__":
    main()

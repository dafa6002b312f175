"""A state far larger than memory: time, memory and disk of millions of keys in one task.

Run with `python -m benchmarks.large_state KEYS [--updates N] [--memory-mib N]`: every key is
counted once, in an order that touches all of the key space; then some keys again, at random; then a
checkpoint, and a start from it. One line for each part, and a sum of counts that must be right.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kstash.ports.state import StoreSpec
from kstash.state.rocks import RocksBackend
from kstash.state.rocks_task import RocksTaskState

BATCH_KEYS = 500
CHECKPOINT_EVERY_KEYS = 1_000_000
STEP = 7_919_777
"""Prime, so that `number * STEP` modulo any count of keys below it goes through all of them."""

SPEC = StoreSpec("words", lambda count: b"%d" % count, int)


def main() -> None:
    """Measure on a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_state", description=__doc__)
    parser.add_argument("keys", type=int, help="how many; a multiple of 500")
    parser.add_argument("--updates", type=int, default=1_000_000, help="of random keys (1000000)")
    parser.add_argument("--memory-mib", type=int, default=64, help="state_memory_bytes (64)")
    parser.add_argument("--folder", type=Path, help="for the state (a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run(Path(folder), options.keys, options.updates, options.memory_mib << 20)


def run(folder: Path, count: int, updates: int, memory_bytes: int) -> None:
    """Write, update, checkpoint and open `count` keys; prints what each took."""
    random.seed(7)
    backend = RocksBackend(folder, "large", topology_hash="large", memory_bytes=memory_bytes)
    state = backend.task("count", 0).open([SPEC], base=None)
    started = time.monotonic()
    for done in range(0, count, BATCH_KEYS):
        count_once(state, [n * STEP % count for n in range(done, done + BATCH_KEYS)])
        if done and done % CHECKPOINT_EVERY_KEYS == 0:
            checkpoint(backend, state, str(done))
        if done and done % (10 * CHECKPOINT_EVERY_KEYS) == 0:
            report(f"{done} keys", started, folder)
    report(f"all {count} keys new", started, folder)
    started = time.monotonic()
    for _ in range(0, updates, BATCH_KEYS):
        count_once(state, random.sample(range(count), BATCH_KEYS))
    report(f"{updates} random updates", started, folder)
    started = time.monotonic()
    checkpoint(backend, state, "last")
    report("checkpoint", started, folder)
    state.close()
    started = time.monotonic()
    state = backend.task("count", 0).open([SPEC], base="last")
    report("open", started, folder)
    started = time.monotonic()
    total = sum(sum(part) for part in parts(state, count))
    report(f"all read again: sum {total}", started, folder)
    backend.close()
    if total != count + updates:
        raise SystemExit(f"the counts sum up to {total}, not to {count + updates}")


def count_once(state: RocksTaskState, numbers: list[int]) -> None:
    """Count each key once more, as one batch."""
    keys = keys_of(numbers)
    live = state.store("words").load(keys)
    for key in keys:
        live[key] = live.get(key, 0) + 1


def keys_of(numbers: list[int]) -> list[bytes]:
    """Keys of 20 bytes."""
    return [b"word-%015d" % number for number in numbers]


def checkpoint(backend: RocksBackend, state: RocksTaskState, label: str) -> None:
    """Take one; the older ones are given up, as a worker does."""
    state.checkpoint(label, 1)
    backend.task("count", 0).retain([label])


def parts(state: RocksTaskState, count: int) -> Iterator[list[int]]:
    """All counts, in batches."""
    for start in range(0, count, BATCH_KEYS):
        keys = keys_of(list(range(start, start + BATCH_KEYS)))
        live = state.store("words").load(keys)
        yield [live.get(key, 0) for key in keys]


def report(what: str, started: float, folder: Path) -> None:
    """Print one line: seconds, peak memory of the process, bytes on disk."""
    seconds = time.monotonic() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    inodes = {}
    for path in folder.rglob("*"):
        found = path.stat()
        inodes[found.st_ino] = found.st_blocks * 512
    disk_mib = sum(inodes.values()) >> 20
    print(f"{what:32} {seconds:9.1f} s  peak {peak_mib} MiB  disk {disk_mib} MiB", flush=True)


if __name__ == "__main__":
    main()

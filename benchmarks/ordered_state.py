"""Cost of ordered stores and timers: pending timers on the disk, windows that roll over it.

Run with `python -m benchmarks.ordered_state [--timers N] [--memory-mib N]`. One line for each part,
with the time of one operation, and peak memory where that is bounded.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kstash.ports.state import StoreKind, StoreSpec
from kstash.serdes import int_text
from kstash.state.rocks import RocksBackend
from kstash.state.rocks_task import RocksTaskState

SPECS = [
    StoreSpec("timers", bytes, bytes, StoreKind.TIMERS),
    StoreSpec("windows", int_text.serialize, int_text.deserialize, StoreKind.ORDERED),
]
STEP = 7_919_777
"""Prime: times of timers come in no order."""

FIRED_AT_ONCE = 1000
WINDOWS = 100
WINDOW_KEYS = 5000


def timed(name: str, count: int, run: Callable[[], object]) -> None:
    """Print the time of one of `count` operations, and peak memory so far."""
    started = time.perf_counter()
    run()
    each_us = (time.perf_counter() - started) / count * 1e6
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{name:52} {each_us:12.2f} us  peak {peak_mib} MiB")


def measure_timers(backend: RocksBackend, count: int) -> None:
    """Set many timers, restart, and let half of them fire."""
    state = backend.task("timers", 0).open(SPECS, base=None)

    def set_all() -> None:
        timers = state.timers("timers")
        for number in range(count):
            timers.set(b"key-%d" % number, "idle", number * STEP % count)

    def fire_half() -> None:
        timers = state.timers("timers")
        while due := timers.due(count // 2, limit=FIRED_AT_ONCE):
            for timer in due:
                timers.cancel(timer.key, timer.name)

    def ask_early() -> None:
        timers = state.timers("timers")
        for _ in range(10_000):
            timers.due(count // 2, limit=1)

    timed(f"{count} timers: set one", count, set_all)
    timed("checkpoint", 1, lambda: state.checkpoint("1", 1))
    state.close()
    state = reopened(backend, "timers", "1")
    timed("next due time after it, first", 1, lambda: state.timers("timers").next_due())
    timed("half of them fire: one", count // 2, fire_half)
    timed("ask while nothing is due", 10_000, ask_early)
    timed("next due time, in front what fired", 1, lambda: state.timers("timers").next_due())
    timed("checkpoint", 1, lambda: state.checkpoint("2", 1))
    state.close()
    state = reopened(backend, "timers", "2")
    timed("next due time after it, first", 1, lambda: state.timers("timers").next_due())
    state.close()


def reopened(backend: RocksBackend, stage: str, label: str) -> RocksTaskState:
    """Open a checkpoint, and print what that took."""
    opened: list[RocksTaskState] = []
    timed("open", 1, lambda: opened.append(backend.task(stage, 0).open(SPECS, base=label)))
    return opened[0]


def measure_windows(backend: RocksBackend) -> None:
    """Windows of many keys come, are read in order and expire, with a checkpoint for each."""
    state = backend.task("windows", 0).open(SPECS, base=None)

    def roll(first: int, last: int) -> None:
        store = state.ordered("windows")
        for window in range(first, last):
            keys = [b"%08d-%06d" % (window, number) for number in range(WINDOW_KEYS)]
            for at in range(0, WINDOW_KEYS, 500):
                live = store.load(keys[at : at + 500])
                live.update(dict.fromkeys(keys[at : at + 500], 1))
            bound = b"%08d" % (window - 2)
            left = True
            while left:
                store.range(b"", bound, limit=1000)
                left = store.expire_below(bound, limit=1000)
            state.checkpoint(f"w{window}", 1)
            backend.task("windows", 0).retain([f"w{window}"])

    entries = WINDOWS // 2 * WINDOW_KEYS
    timed("windows: an entry from its put to its end", entries, lambda: roll(0, WINDOWS // 2))
    timed("the same again", entries, lambda: roll(WINDOWS // 2, WINDOWS))
    state.close()
    state = reopened(backend, "windows", f"w{WINDOWS - 1}")
    timed("first entry after it", 1, lambda: state.ordered("windows").range(b"", None, limit=1))
    timed("first entry, again", 1, lambda: state.ordered("windows").range(b"", None, limit=1))
    print(f"{'entries left':52} {len(state.ordered('windows').items()):12}")
    print(f"{'bytes on the disk':52} {state.sizes()['windows'].size_bytes:12}")
    state.close()


def main() -> None:
    """Measure on a temporary folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ordered_state", description=__doc__)
    parser.add_argument("--timers", type=int, default=1_000_000, help="how many (1000000)")
    parser.add_argument("--memory-mib", type=int, default=64, help="state_memory_bytes (64)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        backend = RocksBackend(
            Path(folder), "ordered", topology_hash="h", memory_bytes=options.memory_mib << 20
        )
        measure_timers(backend, options.timers)
        measure_windows(backend)
        backend.close()


if __name__ == "__main__":
    main()

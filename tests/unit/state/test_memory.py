"""A state that is far larger than its memory, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KEYS = 1_000_000
MEMORY_MIB = 32
ROCKS_MIB = 16
BYTES_PER_KEY = 15

TIMERS = 200_000
TIMERS_MEMORY_MIB = 16
ENTRIES_PER_TIMER = 2

BASE = """
import resource
import benchmarks.large_state, benchmarks.ordered_state
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


def output(*arguments: str) -> str:
    """Of a Python process that ends well."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.prove
def test_a_million_keys_within_the_documented_bound() -> None:
    """Peak memory is that of docs/operating: state, RocksDB, and a part for each key."""
    base = int(output("-c", BASE))
    printed = output(
        *("-m", "benchmarks.large_state", str(KEYS)),
        *("--updates", "100000", "--memory-mib", str(MEMORY_MIB)),
    )
    peaks = [int(peak) for peak in re.findall(r"peak (\d+) MiB", printed)]
    bound = MEMORY_MIB * 3 / 2 + ROCKS_MIB + KEYS * BYTES_PER_KEY / 2**20
    assert max(peaks) - base <= bound, printed


@pytest.mark.prove
def test_pending_timers_within_the_documented_bound() -> None:
    """Timers take what two keys each would: set, restarted over, fired, and windows after them."""
    base = int(output("-c", BASE))
    printed = output(
        *("-m", "benchmarks.ordered_state"),
        *("--timers", str(TIMERS), "--memory-mib", str(TIMERS_MEMORY_MIB)),
    )
    peaks = [int(peak) for peak in re.findall(r"peak (\d+) MiB", printed)]
    entries_mib = TIMERS * ENTRIES_PER_TIMER * BYTES_PER_KEY / 2**20
    assert max(peaks) - base <= TIMERS_MEMORY_MIB * 3 / 2 + ROCKS_MIB + entries_mib, printed

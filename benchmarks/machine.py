"""The machine: pinned cores, and all that a figure depends on.

The benchmark itself, the broker, the feeder and the readers share core 0; the worker under test
has core 1 for itself. Where cores cannot be pinned, the result notes it.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import libversion

REPOSITORY = Path(__file__).parents[1]
BENCH_CORE, WORKER_CORE = 0, 1


def can_pin() -> bool:
    """Whether this machine lets the worker have a core of its own."""
    return hasattr(os, "sched_setaffinity") and {BENCH_CORE, WORKER_CORE} <= os.sched_getaffinity(0)


@contextlib.contextmanager
def on_core(core: int, *, is_pinned: bool) -> Iterator[None]:
    """Start processes from within to have them on a core: they inherit it from this thread."""
    if not is_pinned:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine(*, is_pinned: bool) -> dict[str, Any]:
    """All that a figure depends on: machine, versions, date, commit."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        processor = models[0] if models else processor
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD") or "unknown",
        "is_modified": bool(git("status", "--porcelain", "--untracked-files=no")),
        "processor": processor,
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "is_pinned": is_pinned,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "confluent_kafka": importlib.metadata.version("confluent-kafka"),
        "librdkafka": libversion()[0],
    }

"""The clock of this machine, and the age of this process."""

from __future__ import annotations

import os
import time
from pathlib import Path

_IMPORTED = time.monotonic()


class SystemClock:
    """`kstash.ports.process.Clock` of the operating system."""

    def monotonic(self) -> float:
        """Seconds; they never go back."""
        return time.monotonic()

    def time_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000


def process_age_s() -> float:
    """Seconds since this process began; what it executed before it executed itself again counts."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except OSError:  # this system has no /proc
        return time.monotonic() - _IMPORTED

"""The process under test, and what can be seen of it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import REPOSITORY, WORKER_CORE, on_core

READY_S_MAX = 60.0
STOP_S_MAX = 30.0
LOG_LINES_SHOWN = 30


class BenchError(Exception):
    """A measurement that failed: the reason, with the end of the worker's log."""


class Worker:
    """The process under test, and what can be seen of it from outside.

    Args:
        command: program and options.
        environment: added to this process's.
        log: file that its standard error goes to.
        is_pinned: whether it gets the core `WORKER_CORE`.

    Attributes:
        log: its standard error, of all its lives.
        started, ready: Unix nanoseconds of the start of the process and of its READY; 0: not yet.
    """

    def __init__(
        self, command: list[str], environment: Mapping[str, str], log: Path, *, is_pinned: bool
    ) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}
        self.log = log
        self._is_pinned = is_pinned
        self._process: subprocess.Popen[bytes] | None = None
        self.started = self.ready = 0

    def start(self) -> None:
        """Start the process; it may be started again after `kill`."""
        self.ready = 0
        with self.log.open("ab") as log, on_core(WORKER_CORE, is_pinned=self._is_pinned):
            self.started = time.time_ns()
            self._process = subprocess.Popen(
                self._command,
                cwd=REPOSITORY,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        threading.Thread(target=self._follow, args=(self._process,), daemon=True).start()

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                if line.strip() == b"READY":
                    self.ready = time.time_ns()

    def wait_ready(self, seconds_max: float = READY_S_MAX) -> None:
        """Wait for READY.

        Raises:
            BenchError: the process ended, or was not ready in time.
        """
        deadline = time.monotonic() + seconds_max
        while not self.ready:
            self.check(time.monotonic() < deadline, f"not READY within {seconds_max:g} s")
            time.sleep(0.005)

    def check(self, condition: bool, what: str) -> None:
        """Raise `BenchError` when the process has ended or the condition is false."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            what = f"ended with exit code {code}"
        if code is not None or not condition:
            end = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            raise BenchError("\n".join([f"worker {what}: {' '.join(self._command)}", *end]))

    def children(self) -> list[int]:
        """Processes that a supervisor runs, by age: the worker, then the one that stands by."""
        assert self._process is not None
        pid = self._process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def crash(self) -> int:
        """SIGKILL for the worker of a supervisor; returns when, in Unix nanoseconds.

        Call `wait_standby` before: the supervisor keeps a process for the place of this one.
        """
        (victim, *_) = self.children()
        killed = time.time_ns()
        os.kill(victim, signal.SIGKILL)
        return killed

    def wait_standby(self) -> None:
        """Wait until the supervisor of a ready worker has a standby process."""
        deadline = time.monotonic() + READY_S_MAX
        while len(self.children()) < 2:
            self.check(time.monotonic() < deadline, f"nobody stands by within {READY_S_MAX:g} s")
            time.sleep(0.05)

    def cpu_s(self, pid: int | None = None) -> float:
        """CPU seconds that the process (or a child) has used, all its threads together."""
        assert self._process is not None
        try:
            stat = Path(f"/proc/{pid or self._process.pid}/stat").read_text()
        except OSError:  # no such file system here
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S_MAX)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL if that takes too long."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

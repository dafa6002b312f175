"""The word count as a process of its own, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

MODULE = "kstash.apps.word_count"
STOP_S_MAX = 20
METRICS_S_MAX = 0.5


class Worker:
    """One worker process after the other, under one name and state folder.

    Attributes:
        log_path: standard error of all of them.
        ready_at: when the current process said READY (`time.monotonic`), or None.
    """

    def __init__(self, arguments: list[str], *, folder: Path, http_port: int) -> None:
        self.log_path = folder / "worker.log"
        self.ready_at: float | None = None
        self._http_port = http_port
        self._command = [
            *(sys.executable, "-m", MODULE),
            *arguments,
            *("--http-port", str(http_port), "--state-dir", str(folder / "state")),
        ]
        # With the seed that kstash pins, it need not execute itself again: a faster start.
        # Nobody's settings: the demo has a broker of its own.
        kept = {name: text for name, text in os.environ.items() if not name.startswith("KSTASH_")}
        self._environment = {**kept, "PYTHONHASHSEED": "0"}
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start a process; it is live once `ready_at` is set."""
        assert not self.is_running()
        self.ready_at = None
        with self.log_path.open("a") as log:
            # A process group of its own: Ctrl-C reaches the demo alone, which stops the worker.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
        threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "READY" and process is self._process:
                self.ready_at = time.monotonic()

    def is_running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the current or last process."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM: drain and leave. Returns the exit code; kills after a deadline."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        self.ready_at = None
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(STOP_S_MAX)
        finally:
            if process.stdout:
                process.stdout.close()

    def metrics(self) -> dict[str, float]:
        """Sum of each metric over its labels; empty while the worker does not answer."""
        url = f"http://127.0.0.1:{self._http_port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=METRICS_S_MAX) as response:
                text = response.read().decode()
        except OSError:
            return {}
        sums: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                labelled, _, value = line.rpartition(" ")
                name = labelled.partition("{")[0]
                sums[name] = sums.get(name, 0.0) + float(value)
        return sums

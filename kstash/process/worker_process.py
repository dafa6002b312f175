"""One seat of a supervisor, and the process that has it now."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections import deque

from kstash.ports.status import SupervisedWorker
from kstash.process.seat import STANDBY, Failure, socket_name

LINES_KEPT = 20

READS_MAX = 16

END_S = 0.05
"""How long a process may take from closing its files to its end."""


class WorkerProcess:
    """One seat, and the process that has it now."""

    def __init__(self, index: int, count_max: int) -> None:
        self.index = index
        self.name = f"worker-{index}" if index != STANDBY else "standby"
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket | None = None
        self.is_ready = False
        self.group_count = count_max
        self.is_over = False
        self.exit_code: int | None = None
        self.started = self.due = 0.0
        self.restarts = self.quick_deaths = 0
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.failure: Failure | None = None
        self._rest = self._link_rest = b""

    @property
    def member(self) -> SupervisedWorker:
        """What the HTTP server shows of this worker."""
        return SupervisedWorker(self.name, socket_name(self.index), self.restarts, self.is_over)

    def read_log(self) -> tuple[list[str], bool]:
        """Lines that the process has logged since the last call, and whether more may come."""
        assert self.process is not None
        assert self.process.stderr is not None
        data, is_open = self._rest, True
        # Bounded: one that logs without end must not keep the others waiting.
        for _ in range(READS_MAX):
            try:
                more = os.read(self.process.stderr.fileno(), 65_536)
            except BlockingIOError:
                break
            if not more:
                is_open = False
                data += b"\n" if data and not data.endswith(b"\n") else b""
                break
            data += more
        *lines, self._rest = data.split(b"\n")
        found = [line.decode(errors="replace") for line in lines]
        self.lines.extend(found)
        return found, is_open

    def take(self, standby: WorkerProcess) -> None:
        """Take over the process that stood by."""
        assert standby.link is not None
        self.process, self.link, self._rest = standby.process, standby.link, standby._rest
        self.failure, self._link_rest = standby.failure, standby._link_rest
        # Should it have died meanwhile, this counts as the worker's death.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.link.sendall(b"%d\n" % self.index)

    def read_link(self) -> bool:
        """Learn whether the process is ready, or why it ends; returns whether it holds its end."""
        assert self.process is not None
        assert self.link is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            received = self.link.recv(65_536)
            if not received:
                # It is about to end: wait for that here, not until the next turn.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(END_S)
                return False
            *lines, self._link_rest = (self._link_rest + received).split(b"\n")
            for line in lines:
                if line.isdigit():
                    self.is_ready, self.group_count = True, int(line)
                else:
                    self.failure = Failure.decode(line)
        return True


def described_exit(code: int | None) -> str:
    """How a process ended, for people."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"

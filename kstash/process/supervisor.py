"""Several workers on one machine: starts a process for each, and starts a dead one again.

The supervisor has no Kafka client and no state. Each process runs the whole program again, since
lambdas cannot be sent to another process, and finds its seat in the environment. One more process
stands by: it has imported the program and run it up to `App.run`, and waits for a seat.

Invariants:

- a worker never outlives its supervisor: it holds one end of a socket pair, and ends when the other
  end is closed, for whatever reason;
- a seat has one process at a time: the next process starts after the `wait` for the last one, and
  so finds the lock of the state folder free;
- every wait has a deadline: a worker that does not stop is killed.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

import structlog

from kstash.errors import ConfigError, WorkerFailedError
from kstash.ports.status import SupervisedWorker
from kstash.process.main_program import HASH_SEED, SEED_VARIABLE
from kstash.process.seat import SEAT_VARIABLE, STANDBY, Seat
from kstash.process.worker_lines import line_of_console, line_of_json
from kstash.process.worker_process import WorkerProcess, described_exit
from kstash.settings.config import Config

EXIT_FENCED = 3
"""Exit code of a worker whose membership was taken: it must not be started again."""

QUICK_LIFE_S = 10.0
"""A process that ends sooner than this after its start died quickly."""

QUICK_DEATHS_MAX = 5
"""Quick deaths in a row after which a worker is given up."""

BACKOFF_S = 0.5
"""Pause before the start that follows a second quick death, doubled by each further one."""

STOP_GRACE_S = 10.0
"""What a worker may need beyond `shutdown_timeout_ms` to close its clients."""

STANDBY_PAUSE_S = 10.0
"""Pause after the end of a standby process, until the next one starts."""

TURN_S = 0.1
"""Longest turn of the loop, so that signals and due starts are seen soon."""

log = structlog.get_logger("kstash.supervisor")


class StopSignal(Protocol):
    """Whether a run is to stop."""

    @property
    def is_set(self) -> bool:
        """Whether it is to stop now."""


class Supervisor:
    """Keeps a number of workers running.

    Args:
        command: what starts a worker.
        config: settings of the application.
        count: number of workers, 1 or more.
        is_bounded: whether a worker that ends with exit code 0 has done its work.
        on_ready: called once, when all workers that get tasks have reported that they are ready.
        http_folder: where workers make the sockets that they answer HTTP on; empty: none do.
        on_members: called with the workers whenever one of them has changed.

    Raises:
        ConfigError: the count is no positive number.
    """

    def __init__(
        self,
        command: Sequence[str],
        config: Config,
        count: int,
        *,
        is_bounded: bool = False,
        on_ready: Callable[[], None] | None = None,
        http_folder: str = "",
        on_members: Callable[[Sequence[SupervisedWorker]], None] | None = None,
    ) -> None:
        if count < 1:
            raise ConfigError(f"workers is {count}: start 1 or more", "workers")
        self._command = list(command)
        self._config = config
        self._is_bounded = is_bounded
        self._on_ready = on_ready
        self._http_folder = http_folder
        self._on_members = on_members
        self._workers = [WorkerProcess(index, count) for index in range(count)]
        self._standby = WorkerProcess(STANDBY, count)
        self._selector = selectors.DefaultSelector()
        self._shown: dict[str, int] = {}

    def run(self, stop: StopSignal) -> None:
        """Run until `stop` is set, or until all workers are over.

        Raises:
            WorkerFailedError: a worker died again and again, or of an error that a restart does not
                mend; the others were stopped in order.
            SystemExit: with `EXIT_FENCED` when other processes took the memberships of workers.
        """
        try:
            for worker in self._workers:
                self._start(worker)
            while not stop.is_set and not all(worker.is_over for worker in self._workers):
                self._turn()
            if stop.is_set:
                log.info("stopping")
            self._stop_all()
        finally:
            for worker in (*self._workers, self._standby):
                self._kill(worker)
            self._selector.close()
        if any(worker.exit_code == EXIT_FENCED for worker in self._workers):
            raise SystemExit(EXIT_FENCED)
        log.info("stopped")

    # -- one turn --------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._listen(TURN_S)
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                self._ended(worker)
            if worker.process is None and not worker.is_over and time.monotonic() >= worker.due:
                self._start(worker)
        self._keep_standby()
        self._show_status()
        if self._on_ready is not None and self._are_ready:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()

    @property
    def _are_ready(self) -> bool:
        """Whether all workers that get tasks are ready: at most one for each task group."""
        wanted = min(len(self._workers), *(worker.group_count for worker in self._workers))
        return sum(worker.is_ready or worker.is_over for worker in self._workers) >= wanted

    def _listen(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            worker, is_link = key.data
            is_open = worker.read_link() if is_link else self._show(worker)
            if not is_open:
                self._selector.unregister(key.fileobj)  # a closed file is readable for ever

    def _keep_standby(self) -> None:
        """Keep a standby process, but not while workers need the processor to get ready."""
        standby = self._standby
        if standby.process is not None:
            if standby.process.poll() is not None:
                self._forget(standby)
                standby.due = time.monotonic() + STANDBY_PAUSE_S
        elif not self._is_bounded and self._are_ready and time.monotonic() >= standby.due:
            self._spawn(standby)

    def _start(self, worker: WorkerProcess) -> None:
        standby = self._standby
        # `_keep_standby` handles a standby process that has just ended.
        if standby.process is None or standby.process.poll() is not None:
            self._spawn(worker)
        else:
            assert standby.process.stderr is not None
            assert standby.link is not None
            worker.take(standby)
            for file, is_link in ((standby.process.stderr, False), (standby.link, True)):
                if file.fileno() in self._selector.get_map():
                    self._selector.modify(file, selectors.EVENT_READ, (worker, is_link))
            standby.process = standby.link = None
        worker.started = time.monotonic()
        worker.lines.clear()

    def _spawn(self, worker: WorkerProcess) -> None:
        worker.failure = None
        ours, theirs = socket.socketpair()
        seat = Seat(
            worker.index, theirs.fileno(), self._config.application_id, self._http_folder
        ).encode()
        with theirs:
            worker.process = subprocess.Popen(
                self._command,
                # With the pinned seed the program need not execute itself again.
                env={**os.environ, SEAT_VARIABLE: seat, SEED_VARIABLE: HASH_SEED},
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                # Ctrl-C is for the supervisor, which asks each worker once.
                process_group=0,
            )
        assert worker.process.stderr is not None
        os.set_blocking(worker.process.stderr.fileno(), False)
        ours.setblocking(False)
        worker.link = ours
        self._selector.register(worker.process.stderr, selectors.EVENT_READ, (worker, False))
        self._selector.register(ours, selectors.EVENT_READ, (worker, True))

    def _ended(self, worker: WorkerProcess) -> None:
        """Decide what follows the end of a process."""
        self._forget(worker)
        code = worker.exit_code
        if code == EXIT_FENCED:
            worker.is_over = True
            log.error(
                "another process has this worker's membership, it is not started again",
                worker=worker.name,
            )
            return
        if code == 0 and self._is_bounded:
            worker.is_over = True
            return
        if worker.failure is not None:
            self._give_up(
                worker,
                f"{worker.failure.message} ({worker.failure.error} of {worker.name}: a restart "
                "would end with it again, the workers were stopped)",
                worker.failure.error,
            )
        life_s = time.monotonic() - worker.started
        worker.quick_deaths = worker.quick_deaths + 1 if life_s < QUICK_LIFE_S else 0
        if worker.quick_deaths >= QUICK_DEATHS_MAX:
            log.error("worker given up", worker=worker.name, exit=described_exit(code))
            shown = "\n".join(worker.lines) or "(none)"
            self._give_up(
                worker,
                f"{worker.name} ended {worker.quick_deaths} times within {QUICK_LIFE_S:g} s of its "
                f"start, the last time with {described_exit(code)}, and is given up; the other "
                f"workers were stopped; its last lines:\n{shown}",
                described_exit(code),
            )
        # At once, while the group still keeps the membership; later when that did not help.
        pause_s = BACKOFF_S * 2 ** (worker.quick_deaths - 2) if worker.quick_deaths > 1 else 0.0
        worker.due = time.monotonic() + pause_s
        worker.restarts += 1
        log.warning(
            "worker ended, it is started again",
            worker=worker.name,
            exit=described_exit(code),
            after_s=round(life_s, 1),
            pause_s=pause_s,
        )

    def _give_up(self, worker: WorkerProcess, detail: str, ended_with: str) -> NoReturn:
        worker.is_over = True
        self._stop_all()
        raise WorkerFailedError(
            detail, worker=worker.name, ended_with=ended_with, lines=worker.lines
        )

    def _forget(self, worker: WorkerProcess) -> None:
        """Read the last lines of a process that has ended, and close its files."""
        process, link = worker.process, worker.link
        assert process is not None
        assert process.stderr is not None
        assert link is not None
        self._show(worker)
        worker.read_link()  # a last report may have come with its end
        for file in (process.stderr, link):
            if file.fileno() in self._selector.get_map():
                self._selector.unregister(file)
        process.stderr.close()
        link.close()
        worker.exit_code = process.returncode
        worker.process, worker.link, worker.is_ready = None, None, False

    # -- stopping --------------------------------------------------------------------------------

    def _stop_all(self) -> None:
        """Ask all workers to stop in order, and kill those that do not within the deadline."""
        self._kill(self._standby)  # it has nothing to finish
        running = [worker for worker in self._workers if worker.process is not None]
        for worker in running:
            assert worker.process is not None
            worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._config.shutdown_timeout_ms / 1000 + STOP_GRACE_S
        while running and time.monotonic() < deadline:
            self._listen(TURN_S)
            for worker in list(running):
                assert worker.process is not None
                if worker.process.poll() is not None:
                    self._forget(worker)
                    running.remove(worker)
                    log.info(
                        "worker stopped", worker=worker.name, exit=described_exit(worker.exit_code)
                    )
        for worker in running:
            log.warning("worker did not stop in time, it is killed", worker=worker.name)
            self._kill(worker)

    def _kill(self, worker: WorkerProcess) -> None:
        if worker.process is not None:
            worker.process.kill()
            worker.process.wait()  # SIGKILL cannot be refused
            self._forget(worker)

    # -- logs and status -------------------------------------------------------------------------

    def _show(self, worker: WorkerProcess) -> bool:
        """Pass on what a worker has logged; returns whether more may come."""
        lines, is_open = worker.read_log()
        if lines:
            shown = line_of_json if self._config.log_format == "json" else line_of_console
            name = self._config.application_id
            sys.stderr.write("".join(f"{shown(line, worker.name, name)}\n" for line in lines))
            sys.stderr.flush()
        return is_open

    def _show_status(self) -> None:
        """Log one line whenever the numbers change."""
        workers = self._workers
        now = {
            "running": sum(worker.process is not None for worker in workers),
            "ready": sum(worker.is_ready for worker in workers),
            "ended": sum(worker.is_over for worker in workers),
            "restarts": sum(worker.restarts for worker in workers),
        }
        if now != self._shown:
            self._shown = now
            if self._on_members is not None:
                self._on_members([worker.member for worker in workers])
            log.info("workers", application=self._config.application_id, **now)

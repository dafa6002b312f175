"""Several workers on one machine: starts a process for each, and starts a dead one again.

The supervisor has no Kafka client and no state. Each process runs the whole program again, since
lambdas cannot be sent to another process, and finds its place in the environment.

Invariants:

- a worker never outlives its supervisor: it holds one end of a socket pair, and ends when the other
  end is closed, however that came about;
- a place has one process at a time: the next one starts behind the `wait` for the last one, and so
  finds the lock of the state folder free;
- every wait has a deadline: a worker that does not stop is killed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import structlog

from kstash.config import Config
from kstash.errors import ConfigError, WorkerFailedError

PLACE_VARIABLE = "KSTASH_WORKER_PLACE"
"""`index/link/application id`: how a process learns that it is a supervised worker, and which."""

EXIT_FENCED = 3
"""Exit code of a worker whose place was taken: it must not be started again."""

EXIT_ORPHANED = 4
"""Exit code of a worker whose supervisor has gone."""

QUICK_LIFE_S = 10.0
"""A process that ends sooner than this after its start died quickly."""

QUICK_DEATHS_MAX = 5
"""Quick deaths in a row after which a worker is given up."""

BACKOFF_S = 0.5
"""Pause before the start that follows a second quick death, doubled by each further one."""

STOP_GRACE_S = 10.0
"""What a worker may need beyond `shutdown_timeout_ms` to close its clients."""

LINES_KEPT = 20
READS_MAX = 16
END_S = 0.05
"""From the moment that a process closes its files to the one that it can be waited for."""

LOOK_S = 0.1
"""Longest turn of the loop, so that signals and due starts are seen soon."""


log = structlog.get_logger("kstash.supervisor")


class Stop(Protocol):
    """Says when to stop."""

    is_set: bool


@dataclass(frozen=True, slots=True)
class Place:
    """What a supervised process is told.

    Attributes:
        index: number of the worker on this machine, from 0.
        link: file descriptor of its end of the socket pair.
        application_id: of the application that is supervised.
    """

    index: int
    link: int
    application_id: str

    @classmethod
    def of_this_process(cls, application_id: str) -> Self | None:
        """The place of this process; None where nobody supervises it.

        Raises:
            ConfigError: the program runs another application before the supervised one.
        """
        given = os.environ.get(PLACE_VARIABLE)
        if given is None:
            return None
        index, link, supervised = given.split("/", 2)
        if supervised != application_id:
            raise ConfigError(
                f"this process was started as a worker of {supervised!r}, and its program runs "
                f"{application_id!r} before that: give each application a program of its own",
                "workers",
            )
        return cls(int(index), int(link), supervised)

    def settings(self, config: Config) -> Config:
        """The settings of this worker: name, folder and port of its own."""
        base = config.instance_id or socket.gethostname()
        return config.override(
            instance_id=f"{base}-{self.index}",
            state_dir=os.path.join(config.state_dir, f"worker-{self.index}"),  # noqa: PTH118 - stays as it was written
            http_port=config.http_port + self.index if config.http_port else 0,
        )

    def join(self) -> Callable[[int], None]:
        """End with the supervisor from now on.

        Returns:
            What tells it that this worker is ready; to be called with the number of task groups,
            since workers beyond it have nothing to get ready.
        """
        link = socket.socket(fileno=self.link)
        link.set_inheritable(False)  # a child of the program's own must not keep it open

        def watch() -> None:
            while link.recv(1):
                pass
            os._exit(EXIT_ORPHANED)

        threading.Thread(target=watch, name="kstash-supervisor", daemon=True).start()

        def tell(group_count: int) -> None:
            link.sendall(b"%d\n" % group_count)

        return tell


class _Worker:
    """One place, and the process that has it now."""

    def __init__(self, index: int, count_max: int) -> None:
        self.index = index
        self.name = f"worker-{index}"
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket | None = None
        self.is_ready = False
        self.group_count = count_max
        self.is_over = False
        self.exit_code: int | None = None
        self.started = self.due = 0.0
        self.restarts = self.quick_deaths = 0
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._rest = b""

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

    def read_link(self) -> bool:
        """Learn whether the process is ready; returns whether it still holds its end."""
        assert self.process is not None
        assert self.link is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            told = self.link.recv(16)
            if not told:
                # It is about to end, which should be seen now, not at the next look.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(END_S)
                return False
            self.is_ready, self.group_count = True, int(told)
        return True


class Supervisor:
    """Keeps a number of workers running.

    Args:
        command: what starts a worker.
        config: settings of the application.
        count: number of workers, 1 or more.
        is_bounded: whether a worker that ends with exit code 0 has done its work.
        on_ready: called once, when all workers that get tasks have said that they are ready.

    Raises:
        ConfigError: the count is no positive number, or there are not enough ports.
    """

    def __init__(
        self,
        command: Sequence[str],
        config: Config,
        count: int,
        *,
        is_bounded: bool = False,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        if count < 1:
            raise ConfigError(f"workers is {count}: start 1 or more", "workers")
        if config.http_port and config.http_port + count > 65_536:
            raise ConfigError(
                f"http_port {config.http_port} leaves no ports for {count} workers: each takes the "
                "next one",
                "http_port",
            )
        self._command = list(command)
        self._config = config
        self._is_bounded = is_bounded
        self._on_ready = on_ready
        self._workers = [_Worker(index, count) for index in range(count)]
        self._selector = selectors.DefaultSelector()
        self._shown: dict[str, int] = {}

    def run(self, stop: Stop) -> None:
        """Run until told to stop, or until all workers are over.

        Raises:
            WorkerFailedError: a worker died again and again; the others were stopped in order.
            SystemExit: with `EXIT_FENCED` when other processes took the places of workers.
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
            for worker in self._workers:
                self._kill(worker)
            self._selector.close()
        if any(worker.exit_code == EXIT_FENCED for worker in self._workers):
            raise SystemExit(EXIT_FENCED)
        log.info("stopped")

    # -- one turn --------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._listen(LOOK_S)
        for worker in self._workers:
            if worker.process is not None:
                if worker.process.poll() is not None:
                    self._ended(worker)
            elif not worker.is_over and time.monotonic() >= worker.due:
                self._start(worker)
        self._show_status()
        if self._on_ready is not None and self._are_ready:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()

    @property
    def _are_ready(self) -> bool:
        """Whether all workers are that can be: those beyond the number of groups have no task."""
        wanted = min(len(self._workers), *(worker.group_count for worker in self._workers))
        return sum(worker.is_ready or worker.is_over for worker in self._workers) >= wanted

    def _listen(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            worker, is_link = key.data
            is_open = worker.read_link() if is_link else self._show(worker)
            if not is_open:
                self._selector.unregister(key.fileobj)  # it would be readable for ever

    def _start(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        place = f"{worker.index}/{theirs.fileno()}/{self._config.application_id}"
        with theirs:
            worker.process = subprocess.Popen(
                self._command,
                # With the pinned seed the program need not execute itself again.
                env={**os.environ, PLACE_VARIABLE: place, "PYTHONHASHSEED": "0"},
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
        worker.started = time.monotonic()
        worker.lines.clear()
        self._selector.register(worker.process.stderr, selectors.EVENT_READ, (worker, False))
        self._selector.register(ours, selectors.EVENT_READ, (worker, True))

    def _ended(self, worker: _Worker) -> None:
        """Decide what follows the end of a process."""
        self._forget(worker)
        code = worker.exit_code
        if code == EXIT_FENCED:
            worker.is_over = True
            log.error(
                "another process has this worker's place, it is not started again",
                worker=worker.name,
            )
            return
        if code == 0 and self._is_bounded:
            worker.is_over = True
            return
        life_s = time.monotonic() - worker.started
        worker.quick_deaths = worker.quick_deaths + 1 if life_s < QUICK_LIFE_S else 0
        if worker.quick_deaths >= QUICK_DEATHS_MAX:
            worker.is_over = True
            log.error("worker given up", worker=worker.name, exit=_described(code))
            self._stop_all()
            raise WorkerFailedError(
                worker.name,
                _described(code),
                deaths=worker.quick_deaths,
                quick_life_s=QUICK_LIFE_S,
                lines=worker.lines,
            )
        # At once, so that its place in the group is still free; unless that did not help.
        pause_s = BACKOFF_S * 2 ** (worker.quick_deaths - 2) if worker.quick_deaths > 1 else 0.0
        worker.due = time.monotonic() + pause_s
        worker.restarts += 1
        log.warning(
            "worker ended, it is started again",
            worker=worker.name,
            exit=_described(code),
            after_s=round(life_s, 1),
            pause_s=pause_s,
        )

    def _forget(self, worker: _Worker) -> None:
        """Take leave of a process that has ended: its last lines, its files."""
        process, link = worker.process, worker.link
        assert process is not None
        assert process.stderr is not None
        assert link is not None
        self._show(worker)
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
        running = [worker for worker in self._workers if worker.process is not None]
        for worker in running:
            assert worker.process is not None
            worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._config.shutdown_timeout_ms / 1000 + STOP_GRACE_S
        while running and time.monotonic() < deadline:
            self._listen(LOOK_S)
            for worker in list(running):
                assert worker.process is not None
                if worker.process.poll() is not None:
                    self._forget(worker)
                    running.remove(worker)
                    log.info(
                        "worker stopped", worker=worker.name, exit=_described(worker.exit_code)
                    )
        for worker in running:
            log.warning("worker did not stop in time, it is killed", worker=worker.name)
            self._kill(worker)

    def _kill(self, worker: _Worker) -> None:
        if worker.process is not None:
            worker.process.kill()
            worker.process.wait()  # SIGKILL cannot be refused
            self._forget(worker)

    # -- what people see -------------------------------------------------------------------------

    def _show(self, worker: _Worker) -> bool:
        """Pass on what a worker has logged; returns whether more may come."""
        lines, is_open = worker.read_log()
        if lines:
            prefix = "" if self._config.log_format == "json" else f"{worker.name} | "
            sys.stderr.write("".join(f"{prefix}{line}\n" for line in lines))
            sys.stderr.flush()
        return is_open

    def _show_status(self) -> None:
        """One line whenever the numbers change."""
        workers = self._workers
        now = {
            "running": sum(worker.process is not None for worker in workers),
            "ready": sum(worker.is_ready for worker in workers),
            "ended": sum(worker.is_over for worker in workers),
            "restarts": sum(worker.restarts for worker in workers),
        }
        if now != self._shown:
            self._shown = now
            log.info("workers", application=self._config.application_id, **now)


def program_command() -> list[str]:
    """What runs this program again.

    Raises:
        ConfigError: it was typed into an interpreter, or came from standard input.
    """
    main = sys.modules["__main__"]
    is_inline = "-c" in sys.orig_argv
    if not is_inline and getattr(main, "__file__", None) is None:
        raise ConfigError(
            "workers run the program again, and this one was not started from a file: put it into "
            "one",
            "workers",
        )
    return [sys.executable, *sys.orig_argv[1:]]


def _described(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"

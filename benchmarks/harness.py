"""Needed by every measurement: pinned cores, topics, a worker process, the machine's description.

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
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from confluent_kafka import KafkaException, TopicPartition, libversion
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported, not listed
    AdminClient,
    OffsetSpec,
)
from confluent_kafka.cimpl import NewTopic

from kstash.broker import DevBroker

REPOSITORY = Path(__file__).parents[1]
PARTITIONS = 4
BENCH_CORE, WORKER_CORE = 0, 1
READY_S_MAX = 60.0
STOP_S_MAX = 30.0
LOG_LINES_SHOWN = 30
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]

GUARANTEES = ("exactly_once", "write_first", "at_least_once", "none")
WINDOWED = ("tumbling count", "hopping count", "session count")
"""The word count by windows; the first word is the kind of these."""

BARE = "bare client"


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        program: `word count`, one of `WINDOWED`, `rolling hash` or `hops`.
        guarantee: one of `GUARANTEES`, or `BARE`: a loop over the client, no fault tolerance.
        ack_delay_ms: by which the worker sees acknowledgements of lineage late.
    """

    program: str
    guarantee: str
    ack_delay_ms: int = 0

    def __str__(self) -> str:
        delay = f" +{self.ack_delay_ms} ms" if self.ack_delay_ms else ""
        return f"{self.program}, {self.guarantee}{delay}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input topics, before a suffix."""
        return ("sentences",) if self.counts_words else ("left", "right")

    @property
    def counts_words(self) -> bool:
        """Whether it reads sentences."""
        return self.program == "word count" or self.program in WINDOWED


class BenchError(Exception):
    """A measurement that failed: the reason, with the end of the worker's log."""


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


class Worker:
    """The process under test, and what can be seen of it from outside.

    Args:
        command: module and options, as after `python -m`.
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
        self._command = [sys.executable, "-m", *command]
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


class Bench:
    """A broker, its topics, and a folder for state and logs; a context manager.

    Args:
        bootstrap: a broker that runs already; None: one of its own.

    Attributes:
        bootstrap: the broker.
        is_pinned: whether the worker has a core of its own.
    """

    def __init__(self, bootstrap: str | None = None) -> None:
        self.is_pinned = can_pin()
        self._running = bootstrap
        self._stack = contextlib.ExitStack()
        self._run = 0
        # A broker that is shared remembers the applications of others for a while.
        self._tag = time.time_ns() // 1_000_000 & 0xFFFF_FFFF

    def __enter__(self) -> Bench:
        folder = tempfile.TemporaryDirectory(prefix="kstash-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._stack.enter_context(folder))
        self._stack.enter_context(on_core(BENCH_CORE, is_pinned=self.is_pinned))
        settings = {
            "log.segment.delete.delay.ms": 1000,
            # A controller that is starved of CPU must not fence its own broker.
            "broker.session.timeout.ms": 60_000,
        }
        self.bootstrap = (
            self._running
            or self._stack.enter_context(DevBroker(config=settings, heap_mb=1024)).bootstrap_servers
        )
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap})
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def run(
        self,
        case: Case,
        inputs: list[str],
        *,
        linger_ms: int,
        partitions: int = PARTITIONS,
        settings: Mapping[str, str] = MappingProxyType({}),
        is_supervised: bool = False,
    ) -> Iterator[tuple[Worker, Any]]:
        """A worker with an application of its own, not started; its topics are deleted at the end.

        Args:
            case: what to run.
            inputs: topics that it reads.
            linger_ms: of its producers.
            partitions: of its output topic.
            settings: more of its environment.
            is_supervised: the process started is a supervisor, and the worker its child.

        Yields:
            The worker, and a function that returns the metrics it serves.
        """
        self._run += 1
        self.create_topics([self.output], partitions)
        worker, port = self._worker(case, inputs, linger_ms, settings, "", is_supervised)
        try:
            yield worker, lambda: {} if case.guarantee == BARE else _scrape(port)
        finally:
            worker.kill()
            self.delete_topics(self._name)

    @contextlib.contextmanager
    def second_worker(
        self, case: Case, inputs: list[str], *, linger_ms: int, settings: Mapping[str, str]
    ) -> Iterator[Worker]:
        """Another worker, not started, of the application of the current run."""
        worker, _ = self._worker(case, inputs, linger_ms, settings, "-second", False)
        try:
            yield worker
        finally:
            worker.kill()

    def _worker(
        self,
        case: Case,
        inputs: list[str],
        linger_ms: int,
        settings: Mapping[str, str],
        suffix: str,
        is_supervised: bool,
    ) -> tuple[Worker, int]:
        port = _free_port()
        command = _command(case, self._name, inputs, self.output, self.bootstrap)
        if case.guarantee != BARE:
            command += ["--guarantee", case.guarantee, "--http-port", str(port)]
            command += ["--instance-id", f"bench{suffix}"]
            command += ["--state-dir", str(self.folder / f"{self._name}{suffix}")]
            command += ["--workers", "1"] if is_supervised else []
        environment = {
            "KSTASH_LINGER_MS": str(linger_ms),
            "KSTASH_LINEAGE_ACK_DELAY_MS": str(case.ack_delay_ms),
            **settings,
        }
        if case.program in WINDOWED:
            environment["BENCH_WINDOW"] = case.program.split()[0]
        log = self.folder / f"{self._name}{suffix}.log"
        return Worker(command, environment, log, is_pinned=self.is_pinned), port

    @property
    def state_dir(self) -> Path:
        """Folder of the current run's state."""
        return self.folder / self._name

    @property
    def output(self) -> str:
        """Output topic of the current run."""
        return f"{self._name}-out"

    @property
    def _name(self) -> str:
        return f"bench-{self._tag:x}-{self._run}"

    def create_topics(self, names: list[str], partitions: int = PARTITIONS) -> None:
        """Create topics and wait for them."""
        made = self._admin.create_topics([NewTopic(name, partitions, 1) for name in names])
        for future in made.values():
            future.result(timeout=30)

    def delete_topics(self, prefix: str) -> None:
        """Delete all topics of an application, so that the next run finds an idle broker."""
        names = [t for t in self._admin.list_topics(timeout=30).topics if t.startswith(prefix)]
        for future in self._admin.delete_topics(names).values() if names else ():
            future.result(timeout=30)

    def end_offsets(self, topic: str, partitions: int = PARTITIONS) -> int:
        """Sum of the end offsets of a topic, open transactions included."""
        asked = {TopicPartition(topic, p): _LATEST for p in range(partitions)}
        for attempt in range(3):
            found = self._admin.list_offsets(asked, request_timeout=10)
            try:
                return sum(future.result().offset for future in found.values())
            except KafkaException:  # the client's knowledge of the leader was out of date
                if attempt == 2:
                    raise
                time.sleep(0.1)
        raise AssertionError


def _command(case: Case, name: str, inputs: list[str], output: str, bootstrap: str) -> list[str]:
    module = {
        "word count": "kstash.apps.word_count",
        "rolling hash": "tests.chaos.rolling_hash_app",
        "hops": "benchmarks.hops_app",
        **dict.fromkeys(WINDOWED, "benchmarks.windows_app"),
    }
    command = ["benchmarks.bare_loop" if case.guarantee == BARE else module[case.program]]
    command += ["--bootstrap-servers", bootstrap, "--application-id", name, "--output", output]
    for topic in inputs:
        command += ["--input", topic]
    return command


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _scrape(port: int) -> dict[str, float]:
    """Metrics of a worker by name, summed over their labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{[^}]*\})? ([-+.\deE]+)", line)
        if match:
            found[match[1]] = found.get(match[1], 0.0) + float(match[2])
    return found


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


Say = Callable[[str], None]

"""A broker of measurements: its topics, its workers, and what these say of themselves."""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported, not listed
    AdminClient,
    OffsetSpec,
)
from confluent_kafka.cimpl import NewTopic

from benchmarks import peers
from benchmarks.case import BARE, PARTITIONS, PEER, WATERMARK, WINDOWED, Case
from benchmarks.machine import BENCH_CORE, can_pin, on_core
from benchmarks.worker import BenchError, Worker
from kstash.broker import DevBroker

ANSWER_S_MAX = 10
"""Within which the broker says where a topic ends."""

_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]


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
            yield worker, lambda: {} if case.guarantee in (BARE, PEER) else _scrape(port)
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
        log = self.folder / f"{self._name}{suffix}.log"
        port = _free_port()
        if case.guarantee == PEER:
            state_dir = self.folder / f"{self._name}{suffix}"
            state_dir.mkdir()
            options = [self.bootstrap, self._name, *inputs, self.output, str(state_dir)]
            command = peers.command(state_dir, [*options, str(linger_ms), case.program.split()[0]])
            return Worker(command, {}, log, is_pinned=self.is_pinned), port
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
        if case.program == WATERMARK:
            environment["BENCH_EVENT_TIME"] = "watermark"
        return Worker(
            [sys.executable, "-m", *command], environment, log, is_pinned=self.is_pinned
        ), port

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
        """Sum of the end offsets of a topic, open transactions included.

        Raises:
            BenchError: nobody answered.
        """
        asked = {TopicPartition(topic, p): _LATEST for p in range(partitions)}
        for attempt in range(3):
            found = self._admin.list_offsets(asked, request_timeout=ANSWER_S_MAX)
            done, open_ = concurrent.futures.wait(found.values(), 2 * ANSWER_S_MAX)
            if open_:
                raise BenchError(f"no answer to the question for the end of {topic}")
            try:
                return sum(future.result().offset for future in done)
            except KafkaException as error:  # the client did not know the leader of today
                if attempt == 2:
                    raise BenchError(f"no end of {topic}: {error}") from error
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

"""The demo's story: play a book, kill the worker halfway, bring it back, check every count."""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from .player import Player
from .reader import LiveReader, Verdict, judge, kstash_reader, plain_consumer, read_all
from .screen import Screen, Snapshot
from .worker import Worker

APPLICATION_ID = "demo"
INPUT, OUTPUT = "sentences", "word-counts"
PARTITION_COUNT = 2
READY_S_MAX = 40
DRAIN_S_MAX = 40
LOOK_EVERY_S = 0.2
RATE_WINDOW_S = 1.0
TOP_COUNT = 10
LOG_LINES_SHOWN = 20


class DemoFailedError(Exception):
    """The demo could not be played to its end."""


class Demo:
    """One run against a broker that is there already.

    Args:
        bootstrap_servers: of the broker.
        folder: for the worker's state and log; exists.
        screen: what a person sees.
        play_s: seconds that the book takes; the worker is killed halfway.
    """

    def __init__(
        self, bootstrap_servers: str, *, folder: Path, screen: Screen, play_s: float
    ) -> None:
        text = resources.files("kstash.apps.demo").joinpath("book.txt").read_text("utf-8")
        # Counted over the whole text at once, and played line by line.
        self._expected = Counter(text.split())
        self._total = self._expected.total()
        self._bootstrap = bootstrap_servers
        self._screen = screen
        self._play_s = play_s
        self._start = time.monotonic()
        self._played_from = self._start
        self._state = "starting"
        self._marks: deque[tuple[float, int]] = deque([(self._start, 0)])
        arguments = [
            *("--bootstrap-servers", bootstrap_servers),
            *("--application-id", APPLICATION_ID, "--instance-id", "demo-1"),
            *("--input", INPUT, "--output", OUTPUT, "--checkpoint-interval-ms", "2000"),
        ]
        self._worker = Worker(arguments, folder=folder, http_port=_free_port())
        self._reader = LiveReader(plain_consumer(bootstrap_servers, OUTPUT, PARTITION_COUNT))
        self._at_once = LiveReader(kstash_reader(bootstrap_servers, OUTPUT))
        lines = [line for line in text.splitlines() if line.strip()]
        self._player = Player(
            bootstrap_servers, INPUT, lines, partition_count=PARTITION_COUNT, play_s=play_s
        )

    def run(self) -> tuple[Verdict, Verdict]:
        """Play, kill, recover, drain, check. Leaves no process behind, whatever happens.

        Returns:
            What a plain reader found after the end, and what kstash's reader saw on the way.

        Raises:
            DemoFailedError: a step failed or took longer than it may; says which.
        """
        with ExitStack() as cleanup:
            cleanup.callback(self._worker.kill)
            cleanup.callback(self._reader.stop)
            cleanup.callback(self._at_once.stop)
            cleanup.callback(self._player.stop)
            _create_topics(self._bootstrap)
            self._reader.start()
            self._at_once.start()
            self._worker.start()
            with self._screen:
                self._begin()
                self._watch_until(self._played_from + self._play_s / 2)
                self._kill_and_restart()
                self._finish()
            code = self._worker.stop()
            if code != 0:
                raise DemoFailedError(f"the worker left with exit code {code}{self._log()}")
        outputs = read_all(self._bootstrap, OUTPUT, PARTITION_COUNT, deadline_s=DRAIN_S_MAX)
        return judge(outputs, self._expected), judge(self._at_once.outputs, self._expected)

    def _begin(self) -> None:
        self._wait_for("the worker's READY", lambda: self._worker.ready_at is not None)
        self._played_from = time.monotonic()
        self._state = "live"
        self._look()
        self._event(f"worker live (process {self._worker.pid}); the book begins", "bold green")
        self._player.start()

    def _kill_and_restart(self) -> None:
        pid = self._worker.pid
        self._reader.watch_gap()
        killed_at = time.monotonic()
        self._worker.kill()
        self._state = "killed"
        self._look()
        self._event(f"SIGKILL: worker process {pid} is gone", "bold red")
        self._worker.start()
        self._state = "recovering"
        self._wait_for("READY after the kill", lambda: self._worker.ready_at is not None)
        ready_at = self._worker.ready_at or time.monotonic()
        self._state = "live"
        self._event(
            f"process {self._worker.pid} has recovered: READY {ready_at - killed_at:.2f} s "
            "after the kill",
            "bold yellow",
        )
        self._wait_for("an output after the kill", lambda: self._reader.last_seen_at > ready_at)
        self._event(
            f"counts flow again: a plain reader saw nothing for {self._reader.longest_gap_s:.2f} s",
            "bold green",
        )

    def _finish(self) -> None:
        self._watch_until(self._played_from + self._play_s)
        self._wait_for("the last line of the book", lambda: self._player.is_done)
        self._wait_for("the last count", lambda: self._reader.seen >= self._total)
        self._wait_for("the last count at once", lambda: self._at_once.seen >= self._total)
        self._state = "done"
        self._look()
        self._event("the book is over, every word of it has been counted", "bold cyan")

    def _watch_until(self, moment: float) -> None:
        while time.monotonic() < moment:
            self._look()
            time.sleep(LOOK_EVERY_S)

    def _wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while not condition():
            self._look()
            if self._player.error:
                raise DemoFailedError(f"the book cannot be played: {self._player.error}")
            if not self._worker.is_running():
                raise DemoFailedError(f"the worker ended before {what}{self._log()}")
            if time.monotonic() > deadline:
                raise DemoFailedError(f"{what} did not come in {READY_S_MAX} s{self._log()}")
            time.sleep(LOOK_EVERY_S / 4)

    def _event(self, message: str, style: str) -> None:
        self._screen.event(message, style)

    def _look(self) -> None:
        now = time.monotonic()
        seen = self._reader.seen
        self._marks.append((now, seen))
        while len(self._marks) > 2 and self._marks[0][0] < now - RATE_WINDOW_S:
            self._marks.popleft()
        since, seen_then = self._marks[0]
        metrics = self._worker.metrics()
        self._screen.show(
            Snapshot(
                elapsed_s=now - self._start,
                state=self._state,
                sent=self._player.sent_words,
                seen=seen,
                rate=(seen - seen_then) / max(now - since, 0.001),
                latency_ms=self._reader.latency_ms(),
                at_once_ms=self._at_once.latency_ms(),
                lineage_bytes=metrics.get("kstash_lineage_appended_bytes_total"),
                header_bytes=metrics.get("kstash_header_bytes_total"),
                top=self._reader.top(TOP_COUNT),
            )
        )

    def _log(self) -> str:
        lines = self._worker.log_path.read_text(errors="replace").splitlines()
        return "".join(f"\n    {line}" for line in [":", *lines[-LOG_LINES_SHOWN:]])


def _create_topics(bootstrap_servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    topics = [NewTopic(name, PARTITION_COUNT, 1) for name in (INPUT, OUTPUT)]
    for future in admin.create_topics(topics).values():
        future.result(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""Runs real workers and hurts them: SIGKILL at random moments, SIGSTOP and SIGCONT.

Every wait has a deadline, every random choice comes from one seed, and a failure shows the seed,
what was done to whom and when, and the end of each worker's log.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka.partitioner.default import murmur2

Record = tuple[str, int, str | None, str]
"""Topic, partition, key, value."""

REPOSITORY = Path(__file__).parents[2]
READY_S_MAX = 45
STOP_S_MAX = 30
LOG_LINES_SHOWN = 40
SEED_VARIABLE = "KSTASH_CHAOS_SEED"

MORTAL = {"broker.session.timeout.ms": 3_000}
"""Settings of a broker that a test kills: it is let in again when its last session has ended.

Kafka's 9 s are for all others: a busy machine may hold heartbeats up for more than 3 s, and a
broker whose controller misses them leads nothing for a while.
"""


def processes_of(application_id: str) -> list[int]:
    """Ids of the processes whose command line has this application."""
    return [
        process.info["pid"]
        for process in psutil.process_iter(["pid", "cmdline"])
        if application_id in (process.info["cmdline"] or [])
    ]


def wait_until(condition: Callable[[], bool], deadline_s: float, what: str) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: it did not become true in time; says what was waited for.
    """
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {deadline_s:g} s"
        time.sleep(0.02)


class Worker:
    """A worker under one name: one process after the other.

    Args:
        name: of the log file.
        command: module and options, as after `python -m`.
        folder: where the log goes.
        environment: added to that of the test.
        has_log_by_pipe: the test writes the log file, not the process, so that a full disk of the
            process does not silence it.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
        *,
        has_log_by_pipe: bool = False,
    ) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        self._command = [sys.executable, "-m", *command]
        # With the seed that kstash pins, it need not execute itself again: a faster start.
        self._environment = {**os.environ, "PYTHONHASHSEED": "0", **environment}
        self._has_log_by_pipe = has_log_by_pipe
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self.output: list[str] = []

    def start(self) -> None:
        """Start a process."""
        assert not self.is_running(), f"{self.name} runs already"
        self._ready = threading.Event()
        self.output = []
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=REPOSITORY,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if self._has_log_by_pipe else log,
                process_group=0,
            )
        threading.Thread(
            target=self._follow, args=(self._process, self._ready, self.output), daemon=True
        ).start()
        if self._has_log_by_pipe:
            threading.Thread(target=self._copy_log, args=(self._process,), daemon=True).start()

    def _copy_log(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stderr, self.log_path.open("ab", buffering=0) as log:
            for line in stderr:
                log.write(line)

    @staticmethod
    def _follow(
        process: subprocess.Popen[bytes], ready: threading.Event, output: list[str]
    ) -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                output.append(line.decode().rstrip("\n"))
                if output[-1] == "READY":
                    ready.set()

    def is_running(self) -> bool:
        """Whether a process is there, stopped ones included."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the current or last process."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def is_ready(self) -> bool:
        """Whether the current process has said READY."""
        return self._ready.is_set()

    def wait_ready(self) -> None:
        """Wait for READY; an early end of the process is a failure."""

        def is_ready_or_gone() -> bool:
            return self.is_ready() or not self.is_running()

        wait_until(is_ready_or_gone, READY_S_MAX, f"READY of {self.name}")
        assert self.is_ready(), f"{self.name} ended before READY with {self.exit_code()}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. One that is gone already is left alone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S_MAX)

    def stop(self) -> int:
        """SIGTERM, and wait for the end within the deadline. Returns the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def wait(self, deadline_s: float = STOP_S_MAX) -> int:
        """Wait for the end of the process. Returns the exit code."""
        wait_until(lambda: not self.is_running(), deadline_s, f"the end of {self.name}")
        code = self.exit_code()
        assert code is not None
        return code

    def exit_code(self) -> int | None:
        """Exit code of the last process, negative for a signal; None while it runs."""
        return self._process.poll() if self._process else None


class Feeder(threading.Thread):
    """Sends records at a steady rate until it is stopped, and remembers what it sent.

    Args:
        bootstrap: brokers.
        make: called with 0, 1, 2 …; gives the next record.
        rate: records a second.
    """

    def __init__(
        self,
        bootstrap: str,
        make: Callable[[int], Record],
        *,
        rate: int,
    ) -> None:
        super().__init__(name="feeder", daemon=True)
        self._make = make
        self._rate = rate
        self._stopping = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                # More may lose the first records of a partition (decision 0020).
                "max.in.flight.requests.per.connection": 1,
                "linger.ms": 0,
                "log_level": 2,
            }
        )
        self.sent: list[Record] = []

    def run(self) -> None:
        """Send until `finish`."""
        start = time.monotonic()
        while not self._stopping.wait(0.005):
            due = int((time.monotonic() - start) * self._rate)
            while len(self.sent) < due:
                self.send(self._make(len(self.sent)))
            self._producer.poll(0)

    def send(self, record: Record) -> None:
        """Send one record; the thread must not run beside it."""
        topic, partition, key, value = record
        self._producer.produce(topic, value.encode(), key.encode() if key else None, partition)
        self.sent.append(record)

    def finish(self) -> None:
        """Stop and wait until all is acknowledged."""
        self._stopping.set()
        if self.is_alive():
            self.join(10)
        assert self._producer.flush(30) == 0, "the broker does not take the test's input"


class Chaos:
    """One run: a seed, a diary, topics, workers.

    Attributes:
        random: every choice comes from here.
        kills: processes killed so far.
    """

    def __init__(self, bootstrap: str, folder: Path, seed: int) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.seed = seed
        self.random = random.Random(seed)
        self.kills = 0
        self.workers: list[Worker] = []
        self._start = time.monotonic()
        self._diary: list[str] = []

    def note(self, what: str) -> None:
        """Write into the diary that a failure shows."""
        self._diary.append(f"{time.monotonic() - self._start:7.2f} s  {what}")

    def create_topics(self, partition_count: int, *topics: str, replicas: int = 1) -> None:
        """Create user topics."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        # The client drops what it asked at a bootstrap address once it knows the nodes.
        admin.list_topics(timeout=30)
        made = admin.create_topics([NewTopic(topic, partition_count, replicas) for topic in topics])
        for future in made.values():
            future.result(timeout=30)

    def state_folder(self, name: str) -> Path:
        """The state folder of the worker of that name."""
        return self.folder / f"state-{name}"

    def worker(
        self,
        name: str,
        *command: str,
        bootstrap: str | None = None,
        environment: Mapping[str, str] | None = None,
        has_log_by_pipe: bool = False,
    ) -> Worker:
        """A worker with a state folder of its own; not started."""
        options = ["--bootstrap-servers", bootstrap or self.bootstrap]
        options += ["--state-dir", str(self.state_folder(name)), "--http-port", "0"]
        worker = Worker(
            name,
            [*command, *options],
            self.folder,
            dict(environment or {}),
            has_log_by_pipe=has_log_by_pipe,
        )
        self.workers.append(worker)
        return worker

    def kill_at_random(self, workers: list[Worker], kills: int, *, live_s_max: float) -> None:
        """Kill and restart workers: mostly some time after READY, every fourth while recovering."""
        for _ in range(kills):
            victim = self.random.choice(workers)
            if self.random.random() < 0.25:
                pause_s = self.random.uniform(0.2, 2.5)
                moment = f"{pause_s:.2f} s after its start"
            else:
                victim.wait_ready()
                pause_s = self.random.uniform(0.0, live_s_max)
                moment = f"{pause_s:.2f} s after it was seen READY"
            time.sleep(pause_s)
            assert victim.is_running(), f"{victim.name} ended by itself with {victim.exit_code()}"
            self.note(f"kill {victim.name} {moment}{'' if victim.is_ready() else ', not READY'}")
            victim.kill()
            self.kills += 1
            victim.start()
        for worker in workers:
            worker.wait_ready()
        self.note("all workers READY again")

    def diary(self) -> str:
        """The seed, and what was done to whom and when."""
        repeat = f"{SEED_VARIABLE}={self.seed}"
        return "\n".join([f"seed {self.seed}: repeat its choices with {repeat}", *self._diary])

    def report(self) -> str:
        """What a failure shows."""
        lines = [self.diary()]
        for worker in self.workers:
            if worker.log_path.exists():
                log = worker.log_path.read_text(errors="replace").splitlines()
                lines += [f"--- {worker.log_path.name}", *log[-LOG_LINES_SHOWN:]]
        return "\n".join(lines)


def choose_seed() -> int:
    """The seed that the environment asks for, else any."""
    return int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(10**9))


@contextmanager
def chaos_run(bootstrap: str, folder: Path, *, seed: int | None = None) -> Iterator[Chaos]:
    """A run that ends with all its processes gone, and prints its story if it fails."""
    chaos = Chaos(bootstrap, folder, choose_seed() if seed is None else seed)
    try:
        yield chaos
        print(chaos.diary())
    except AssertionError as error:
        raise AssertionError(f"{error}\n{chaos.report()}") from error
    finally:
        for worker in chaos.workers:
            worker.kill()


def wait_for_outputs(bootstrap: str, topic: str, count: int, *, deadline_s: float = 60) -> None:
    """Wait until a `read_committed` consumer has seen that many records of a topic.

    Raises:
        AssertionError: they did not come in time; says how many did.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "chaos-counter",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        seen = 0
        deadline = time.monotonic() + deadline_s
        while seen < count:
            missing = f"{seen} of {count} outputs of {topic} within {deadline_s:g} s"
            assert time.monotonic() < deadline, missing
            messages = consumer.consume(5000, 0.2)
            seen += sum(message.error() is None for message in messages)
    finally:
        consumer.close()


def place_of(key: bytes, partitions: int) -> int:
    """The partition in which Java clients put a key, by another client's hash."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions


def values_by_key(sent: list[Record]) -> dict[str, dict[str, list[str]]]:
    """What was sent: per topic, the values of each key in order."""
    topics: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for topic, _, key, value in sent:
        assert key is not None
        topics[topic][key].append(value)
    return topics

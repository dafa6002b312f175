"""What a real worker on a real broker shows: metrics, readiness, the page, and after a crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from kstash.broker import DevBroker
from kstash.observe.catalog import METRIC_PREFIX, METRICS
from kstash.process.seat import SEAT_VARIABLE
from kstash.testing.fixtures import TopicFactory

BY_TIME = {
    "input_awaited_seconds",
    "operator_time_delay_seconds",
    "operator_time_seconds",
    "time_held_seconds",
    "timers_pending",
    "wall_timers_late_seconds",
    "wall_timers_pending",
    "windows_open",
}
"""Metrics of operators that go by time, and of topics taken in its order: a word count has none."""

SENTENCES = 200
WORDS = 5 * SENTENCES
WAIT_S_MAX = 60.0


class Worker:
    """A program in a process of its own, with HTTP on a port of its own.

    Attributes:
        sentences: the topic that it reads.
    """

    def __init__(self, command: list[str], port: int, log: Path, sentences: str) -> None:
        self.sentences = sentences
        self._command = command
        self._port = port
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start the process; it is ready later."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*self._command, *options], stdout=log, stderr=log)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def end(self) -> None:
        """Kill what runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def get(self, path: str) -> tuple[int, str]:
        """Status code and text; code 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as got:
                return got.status, got.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def value(self, name: str) -> float:
        """A metric's value now, summed over its labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == name
        )

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until something is so; a process that ends meanwhile fails the test."""
        deadline = time.monotonic() + WAIT_S_MAX
        while not condition():
            assert self.process is not None
            tail = self._log.read_text()[-3_000:]
            assert self.process.poll() is None, f"the worker ended: {tail}"
            assert time.monotonic() < deadline, f"{what} did not come: {tail}"
            time.sleep(0.1)

    def wait_value(self, name: str, least: float) -> None:
        """Wait until a metric is high enough."""
        self.wait(f"{name} >= {least:g}", lambda: self.value(name) >= least)


@pytest.fixture
def worker(
    kafka_broker: DevBroker, kafka_topics: TopicFactory, application_id: str, tmp_path: Path
) -> Iterator[Worker]:
    """A worker with input waiting; killed at the end."""
    sentences = kafka_topics("sentences", partitions=2)
    counts = kafka_topics("counts", partitions=2)
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap_servers})
    for number in range(SENTENCES):
        producer.produce(sentences, b"a bb a ccc %d" % number, partition=number % 2)
    assert producer.flush(30) == 0
    port = _free_port()
    command = [
        *(sys.executable, "-m", "kstash.apps.word_count"),
        *("--bootstrap-servers", kafka_broker.bootstrap_servers),
        *("--application-id", application_id, "--instance-id", "one"),
        *("--input", sentences, "--output", counts),
        *("--state-dir", str(tmp_path / "state"), "--http-port", str(port)),
        *("--checkpoint-interval-ms", "500"),
    ]
    made = Worker(command, port, tmp_path / "worker.log", sentences)
    yield made
    made.end()


@pytest.fixture
def timed(
    worker: Worker,
    kafka_broker: DevBroker,
    kafka_topics: TopicFactory,
    application_id: str,
    tmp_path: Path,
) -> Iterator[Worker]:
    """One of a program with windows and timers, over the same input."""
    port = _free_port()
    settings = {
        "application_id": application_id,
        "bootstrap_servers": kafka_broker.bootstrap_servers,
        "state_dir": str(tmp_path / "state"),
        "http_port": port,
    }
    output = kafka_topics("by-hour", partitions=2)
    given = {"inputs": [worker.sentences], "output": output, "settings": settings}
    command = [sys.executable, "-m", "tests.integration.programs", "timed", json.dumps(given)]
    made = Worker(command, port, tmp_path / "worker.log", worker.sentences)
    yield made
    made.end()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _found(worker: Worker) -> dict[str, Metric]:
    text = worker.get("/metrics")[1]
    families = text_string_to_metric_families(text)
    return {family.name.removeprefix(METRIC_PREFIX): family for family in families}


def _missing(worker: Worker) -> set[str]:
    families = _found(worker)
    return {s.name for s in METRICS if not getattr(families.get(s.name), "samples", 0)}


def _check_kinds(worker: Worker, names: Collection[str]) -> None:
    families = _found(worker)
    for spec in METRICS:
        if spec.name in names:
            assert families[spec.name].type == spec.kind, spec.name
            for sample in families[spec.name].samples:
                assert set(sample.labels) - {"le"} == set(spec.labels), spec.name


def test_each_metric_of_the_table_has_a_value(worker: Worker) -> None:
    """Under its name, of its kind and with its labels, as others than kstash read it."""
    worker.start()
    # The client's statistics, and the margin of retention, are ten seconds apart.
    worker.wait("a value of each", lambda: _missing(worker) == BY_TIME)
    _check_kinds(worker, {spec.name for spec in METRICS} - BY_TIME)
    assert worker.value("kstash_build_info") == 1
    worker.wait_value("kstash_state_entries", 3)
    assert worker.value("kstash_broker_connections") >= 3
    assert worker.value("kstash_commit_seconds_count") > 0
    _check_with_promtool(worker.get("/metrics")[1])


def test_metrics_of_time(timed: Worker) -> None:
    """The same of a program with windows and timers."""
    timed.start()
    timed.wait("a value of each", lambda: not _missing(timed) & BY_TIME)
    _check_kinds(timed, BY_TIME)
    timed.wait_value("kstash_windows_open", 4)
    timed.wait_value("kstash_timers_pending", 4)
    timed.wait_value("kstash_wall_timers_pending", 4)
    assert timed.value("kstash_operator_dropped_records_total") == 0
    assert timed.value("kstash_operator_time_seconds") > 0
    _check_with_promtool(timed.get("/metrics")[1])


def test_transactions_of_others_leave_no_lag(worker: Worker, kafka_broker: DevBroker) -> None:
    """Markers, aborted records and open transactions are nothing that a task is behind."""
    worker.start()
    worker.wait_value("kstash_records_out_total", 2 * WORDS)
    settings = {"bootstrap.servers": kafka_broker.bootstrap_servers, "transactional.id": "other"}
    other = Producer(settings)
    other.init_transactions(30)
    for end in (other.commit_transaction, other.abort_transaction):
        other.begin_transaction()
        for partition in (0, 1):
            other.produce(worker.sentences, b"a b c", partition=partition)
        other.flush(30)
        end(30)
    other.begin_transaction()
    other.produce(worker.sentences, b"a b c", partition=0)
    assert other.flush(30) == 0
    worker.wait_value("kstash_records_out_total", 2 * (WORDS + 2 * 3))
    # Longer than an end is good for.
    time.sleep(5)
    assert worker.value("kstash_input_lag_records") == 0
    assert worker.value("kstash_input_lag_seconds") == 0
    assert worker.value("kstash_task_stalled_seconds") == 0
    other.commit_transaction(30)
    worker.wait_value("kstash_records_out_total", 2 * (WORDS + 3 * 3))


def _of_place(worker: Worker, index: int) -> psutil.Process:
    assert worker.process is not None
    children = psutil.Process(worker.process.pid).children()
    (found,) = [c for c in children if c.environ()[SEAT_VARIABLE].startswith(f"{index}/")]
    return found


def test_one_port_for_all_workers_of_a_supervisor(worker: Worker, tmp_path: Path) -> None:
    """Two that have tasks and a spare one: ready together, distinct, and alive after a kill."""
    worker.start("--workers", "3")
    worker.wait("all three", lambda: worker.get("/readyz")[0] == 200)
    worker.wait_value("kstash_records_out_total", 2 * WORDS)
    samples = [
        sample
        for family in text_string_to_metric_families(worker.get("/metrics")[1])
        for sample in family.samples
    ]
    assert {s.labels["worker"] for s in samples} == {"worker-0", "worker-1", "worker-2"}
    counted = {s.labels["worker"] for s in samples if s.name == "kstash_task_live" and s.value}
    assert len(counted) == 2
    status = json.loads(worker.get("/status")[1])
    assert (status["state"], len(status["tasks"])) == ("live", 4)
    assert all(edge["lag_records"] is not None for edge in status["edges"] if edge["to"])
    entries = json.loads(worker.get("/workers")[1])["workers"]
    assert [e["status"]["worker"] for e in entries] == ["one-0", "one-1", "one-2"]
    assert list((tmp_path / "state").glob(".http-*"))
    _of_place(worker, 0).kill()
    worker.wait_value("kstash_worker_restarts_total", 1)
    assert worker.get("/livez")[0] == 200
    worker.wait("its successor", lambda: worker.get("/readyz")[0] == 200)
    assert worker.value("kstash_worker_up") == 3
    assert worker.stop(signal.SIGTERM) == 0
    assert worker.get("/livez")[0] == 0
    assert not list((tmp_path / "state").glob(".http-*"))


def test_a_crash_shows_as_recovery_and_replay(worker: Worker) -> None:
    """After SIGKILL the successor takes the port back and says where its recovery's time went."""
    worker.start()
    worker.wait_value("kstash_records_out_total", 2 * WORDS)
    worker.stop(signal.SIGKILL)
    worker.start()
    worker.wait("/readyz", lambda: worker.get("/readyz")[0] == 200)
    worker.wait_value("kstash_recoveries_total", 2)
    seconds = worker.value("kstash_recovery_seconds_sum")
    text = worker.get("/metrics")[1]
    for phase in ("detect", "claim", "fence", "scan", "restore", "start", "replay"):
        assert f'kstash_recovery_phase_seconds_count{{phase="{phase}"}} 2.0' in text
    assert worker.value("kstash_recovery_phase_seconds_sum") == pytest.approx(seconds, rel=0.01)
    # Since the process began: no interpreter starts and imports this within a tenth of a second.
    assert seconds > 2 * 0.1
    replayed = worker.value("kstash_replayed_records_total")
    assert replayed <= worker.value("kstash_records_in_total") <= SENTENCES + WORDS


def _check_with_promtool(text: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is missing: install the prometheus package"
        return
    check = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")

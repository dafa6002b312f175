"""The log count as a batch job on a real broker: who prints the number, and when."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kstash.broker import DevBroker

pytestmark = pytest.mark.integration

RUN_S_MAX = 60
ATTACKS = (
    "GET /?q=%3C%73%63%72%69%70%74%3E",
    "name=bobby_tables",
    "bobby_tables %3C%73%63%72%69%70%74%3E",
)


class Job:
    """One application on topics of its own; any number of workers run it to the end."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        mark = uuid.uuid4().hex[:8]
        self._folder = folder
        self._topics = f"log-{mark}", f"attacks-{mark}"
        self._command = [
            *(sys.executable, "-m", "kstash.apps.log_count", "--until", "end"),
            *("--bootstrap-servers", bootstrap, "--application-id", f"job-{mark}"),
            *("--input", self._topics[0], "--output", self._topics[1]),
        ]
        admin = AdminClient({"bootstrap.servers": bootstrap})
        topics = [NewTopic(self._topics[0], 3, 1), NewTopic(self._topics[1], 2, 1)]
        for future in admin.create_topics(topics).values():
            future.result(timeout=30)
        self._producer = Producer({"bootstrap.servers": bootstrap})

    def log(self, *lines: str) -> None:
        """Append lines to the server log, over all its partitions."""
        for index, line in enumerate(lines):
            self._producer.produce(self._topics[0], line.encode(), partition=index % 3)
        assert self._producer.flush(30) == 0

    def run(self, *names: str) -> list[str]:
        """Run a worker of each name to the end; all numbers that they printed."""
        workers = [
            subprocess.Popen(
                [*self._command, "--state-dir", str(self._folder / name)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        try:
            lines = []
            for worker in workers:
                output, _ = worker.communicate(timeout=RUN_S_MAX)
                assert worker.returncode == 0
                lines += output.splitlines()
        finally:
            for worker in workers:
                worker.kill()
        return [line for line in lines if line != "READY"]


@pytest.fixture
def job(kafka_broker: DevBroker, tmp_path: Path) -> Job:
    """A fresh job without any input."""
    return Job(kafka_broker.bootstrap_servers, tmp_path)


def test_the_number_is_printed_once(job: Job) -> None:
    """One worker owns the counting task and prints the number; the others print none."""
    job.log(*(["harmless"] * 50 + list(ATTACKS)) * 10)
    assert job.run("one", "two") == ["Number of attacks: 40"]


def test_without_attacks_the_number_is_zero(job: Job) -> None:
    """A log without attacks, or without any line, gives 0."""
    assert job.run("one") == ["Number of attacks: 0"]
    job.log("harmless", "more of it")
    assert job.run("one") == ["Number of attacks: 0"]


def test_the_next_run_goes_on(job: Job) -> None:
    """A second run reads what came since, and counts on; a third finds nothing new."""
    job.log(*ATTACKS)
    assert job.run("one") == ["Number of attacks: 4"]
    job.log(*ATTACKS)
    assert job.run("one") == ["Number of attacks: 8"]
    assert job.run("one") == ["Number of attacks: 8"]

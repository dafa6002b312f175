"""A real Prometheus watches three workers on a real Kafka: it reports what goes wrong, no more.

The rules are those that are shipped, with shorter times. One worker has a supervisor. Each test
begins and ends with no alert raised.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.panels import ROWS
from kstash.broker import DevBroker
from tests.chaos.harness import MORTAL
from tests.integration.prometheus_server import Prometheus, shortened
from tests.integration.scene import WAIT_S_MAX, Process, Scene, lines

pytestmark = [pytest.mark.integration, pytest.mark.prove]

RULES = Path(__file__).parents[2] / "helm" / "kstash" / "files" / "alerts.yaml"
PARTITIONS = 3
JOB = "word-count"

SELDOM = {
    "Restore will take": "a restore of some kilobytes is over before it is scraped",
    "Restore still to come": "likewise",
    "Records dropped, errors": "nothing is dropped and nothing fails",
}
"""Panels that need not have data, and why."""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(slots=True)
class Watched:
    """What a test works with.

    Attributes:
        ports: of the workers, by name.
        workers: the three.
        since: Unix time at which all were live.
    """

    scene: Scene
    broker: DevBroker
    prometheus: Prometheus
    source: str
    sink: str
    ports: dict[str, int]
    workers: dict[str, Process] = field(default_factory=dict)
    since: float = 0.0

    def start(self) -> None:
        """Start all three, and wait until they are live: one after the other would move groups."""
        for worker in self.workers.values():
            worker.start()
        for worker in self.workers.values():
            worker.wait_ready()

    def worker(self, name: str, **settings: object) -> Process:
        """One of the three, not started."""
        return self.scene.worker(
            "timed",  # it has windows and timers, which panels are of too
            [self.source],
            self.sink,
            name=name,
            http_port=self.ports[name],
            checkpoint_interval_ms=500,
            session_timeout_ms=6000,
            **settings,  # type: ignore[arg-type] # of the scene, or of the application
        )

    def address(self, name: str) -> str:
        """How Prometheus calls a worker."""
        return f"127.0.0.1:{self.ports[name]}"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Broker, workers, load and Prometheus, of this module's own."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is missing: install the package prometheus")
    folder = tmp_path_factory.mktemp("watched")
    ports = {name: free_port() for name in "abc"}
    with ExitStack() as stack:
        broker = stack.enter_context(DevBroker(config=MORTAL))
        scene = Scene(broker.bootstrap_servers, folder)
        stack.callback(scene.close)
        source, sink = scene.topic("sentences", PARTITIONS), scene.topic("counts", PARTITIONS)
        targets = {JOB: [f"127.0.0.1:{port}" for port in ports.values()]}
        rules = shortened(RULES.read_text(encoding="utf-8"))
        prometheus = stack.enter_context(Prometheus(folder, free_port(), targets, rules))
        made = Watched(scene, broker, prometheus, source, sink, ports)
        made.workers = {name: made.worker(name) for name in "ab"}
        made.workers["c"] = made.worker("c", workers=1)
        made.start()
        load = ("deploy.load", "--bootstrap-servers", scene.bootstrap, "--topic", source)
        scene.process("load", [*load, "--rate", "100"]).start()
        prometheus.wait_quiet()
        made.since = time.time()
        yield made


@pytest.fixture
def workers(watched: Watched) -> Iterator[dict[str, Process]]:
    """All three, live, with nothing to complain about; before and after."""
    watched.prometheus.wait_scraped([watched.address(name) for name in watched.workers])
    watched.prometheus.wait_quiet()
    yield watched.workers
    watched.prometheus.wait_quiet()


def test_a_kill(watched: Watched, workers: dict[str, Process]) -> None:
    """The worker that is gone is named; back on an empty disk it is well again."""
    workers["a"].kill()
    watched.prometheus.wait_firing("KstashWorkerDown", watched.address("a"))
    assert ("KstashNotRunning", "") not in watched.prometheus.firing()
    shutil.rmtree(watched.scene.folder / "state-a")
    workers["a"].start_ready()


def test_a_worker_that_hangs(watched: Watched, workers: dict[str, Process]) -> None:
    """One that is stopped in the middle does not answer; when it goes on all is well."""
    workers["b"].send(signal.SIGSTOP)
    try:
        watched.prometheus.wait_firing("KstashWorkerDown", watched.address("b"))
    finally:
        workers["b"].send(signal.SIGCONT)


def test_a_full_disk(watched: Watched, workers: dict[str, Process]) -> None:
    """A worker that cannot write a checkpoint ends, and is missed; with room it goes on."""
    assert workers["a"].stop() == 0
    # A limit on the size of files stands for the disk: it needs no privileges.
    full = watched.worker("a", file_bytes_max=100_000)
    full.start()
    chance = random.Random(1)  # what cannot be compressed
    texts = [f"{chance.randbytes(100).hex()} {chance.randbytes(100).hex()}" for _ in range(9000)]
    watched.scene.send(watched.source, lines(*texts, partitions=PARTITIONS))
    try:
        assert full.wait(2 * WAIT_S_MAX) == 1
        assert "StateError" in full.log()
        watched.prometheus.wait_firing("KstashWorkerDown", watched.address("a"))
    finally:
        full.kill()
        workers["a"].start_ready()


def test_a_broker_outage(watched: Watched, workers: dict[str, Process]) -> None:  # noqa: ARG001 - they run
    """Nothing is processed while the broker is away: that is reported, and not afterwards."""
    watched.broker.pause()
    try:
        watched.prometheus.wait_firing("KstashNotRunning")
    finally:
        watched.broker.resume()


def test_all_are_gone(watched: Watched, workers: dict[str, Process]) -> None:
    """An application without a worker is reported, and is well when they are back."""
    for worker in workers.values():
        assert worker.stop() == 0
    watched.prometheus.wait_firing("KstashNotRunning")
    watched.start()


def test_every_panel_has_had_data(watched: Watched, workers: dict[str, Process]) -> None:  # noqa: ARG001 - they run
    """Each query of the dashboard gave something at some time of this run."""
    empty = [
        f"{panel.title}: {query.expression}"
        for row in ROWS
        for panel in row.panels
        for query in panel.queries
        if panel.title not in SELDOM
        and not watched.prometheus.has_had(_filled(query.expression), watched.since, time.time())
    ]
    assert not empty, "\n".join(empty)


def _filled(expression: str) -> str:
    """With values in place of Grafana's variables, without the bound of what is not well."""
    expression = re.sub(r" [<>] \d+$", "", expression)
    expression = expression.replace("$__rate_interval", "10s").replace("$job", JOB)
    return expression.replace("$instance", ".*").replace("$namespace", ".*")

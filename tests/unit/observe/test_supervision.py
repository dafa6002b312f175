"""One HTTP port for several workers, over real sockets and no Kafka."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

import kstash
from kstash import Config, ConfigError
from kstash.observe import asking, endpoint_of, schema, supervision
from kstash.observe.access import Access
from kstash.observe.listening import listen_at
from kstash.observe.names import own_address
from kstash.observe.server import HttpServer
from kstash.observe.supervision import LOCKED_WITHIN_S, Endpoint
from kstash.ports.status import SupervisedWorker
from kstash.process.seat import socket_name
from kstash.topology.model import Topology
from tests.unit.http_source import STATUS, FakeSource

READY = schema.Verdict(ok=True)
STALLED = schema.Verdict(ok=False, reasons=("task words_0 has made no progress for 301 s",))


def _topology() -> Topology:
    app = kstash.App("a")
    app.stream("in").to("out")
    return app.topology()


class Workers:
    """Servers of workers, and the endpoint that asks them."""

    now = 100.0

    def __init__(self, stack: ExitStack, state_dir: Path) -> None:
        self._stack = stack
        config = Config.load(application_id="a", state_dir=str(state_dir), stall_ms_max=60_000)
        self.endpoint = Endpoint(config, _topology(), monotonic=lambda: self.now)
        stack.callback(self.endpoint.__exit__, None, None, None)
        self.endpoint.serve(0)
        self.sources: dict[int, FakeSource] = {}
        self.servers: dict[int, HttpServer] = {}

    def start(self, index: int, **says: Any) -> None:
        """Have a worker answer."""
        status = msgspec.structs.replace(STATUS, worker=f"host-{index}")
        text = f"# HELP m some\n# TYPE m gauge\nm {index}\n".encode()
        source = FakeSource(ready=READY, found=status, text=lambda: text)
        for name, value in says.items():
            setattr(source, name, value)
        self.sources[index] = source
        listening = listen_at(self.endpoint.folder / socket_name(index))
        self.servers[index] = HttpServer(listening, source, access=Access())
        self._stack.callback(self.servers[index].close)

    def report(self, *restarts: int, over: tuple[int, ...] = ()) -> None:
        """Say which workers there are."""
        self.endpoint.show(
            [
                SupervisedWorker(f"worker-{i}", socket_name(i), count, i in over)
                for i, count in enumerate(restarts)
            ]
        )

    def get(self, path: str) -> tuple[int, Any]:
        """Code and content of an answer."""
        url = f"http://127.0.0.1:{self.endpoint.http_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                code, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                code, text = error.code, error.read().decode()
        return code, text if path == "/metrics" else json.loads(text)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """None at first."""
    with ExitStack() as stack:
        yield Workers(stack, tmp_path)
    structlog.reset_defaults()


def test_metrics_of_all_with_a_label(workers: Workers) -> None:
    """And which of them answer, and how often they were started again."""
    workers.start(0)
    workers.start(1)
    workers.report(0, 2, 1)
    text = workers.get("/metrics")[1]
    found = {
        (sample.name, sample.labels.get("worker")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["m", "worker-0"] == 0
    assert found["m", "worker-1"] == 1
    assert [found["kstash_worker_up", f"worker-{i}"] for i in range(3)] == [1, 1, 0]
    assert [found["kstash_worker_restarts_total", f"worker-{i}"] for i in range(3)] == [0, 2, 1]
    workers.report(0, 5, 1)
    assert 'kstash_worker_restarts_total{worker="worker-1"} 5.0' in workers.get("/metrics")[1]


def test_ready_when_all_are(workers: Workers) -> None:
    """One that is not, or does not answer, or was not started, is named."""
    assert workers.get("/readyz") == (
        503,
        {"ok": False, "reasons": ["no worker was started yet"]},
    )
    workers.start(0)
    workers.start(1, ready=schema.Verdict(ok=False, reasons=("words_1 is recovering",)))
    workers.report(0, 0, 0)
    code, found = workers.get("/readyz")
    assert code == 503
    assert found["reasons"][0] == "worker-1: words_1 is recovering"
    assert found["reasons"][1].startswith("worker-2: ")
    workers.sources[1].ready = READY
    workers.report(0, 0, 0, over=(2,))
    assert workers.get("/readyz") == (200, {"ok": True, "reasons": []})


def test_alive_while_those_that_run_are(workers: Workers) -> None:
    """One that has died is started again by the supervisor; one that stands still is reported."""
    workers.start(0)
    workers.report(0, 0)
    assert workers.get("/livez")[0] == 200, "worker-1 starts"
    workers.now += 59
    assert workers.get("/livez")[0] == 200
    workers.now += 2
    assert workers.get("/livez") == (
        503,
        {"ok": False, "reasons": ["worker-1: no answer for 61 s"]},
    )
    workers.start(1, live=STALLED)
    code, found = workers.get("/livez")
    assert (code, found["reasons"]) == (503, [f"worker-1: {STALLED.reasons[0]}"])
    workers.sources[1].live = READY
    assert workers.get("/livez")[0] == 200
    workers.servers[1].close()
    workers.now += 3600
    assert workers.get("/livez")[0] == 200, "it has just answered"


def test_status_and_workers_of_all(workers: Workers) -> None:
    """`/status` is one for all, `/workers` has each; one that does not answer is reported."""
    workers.start(0)
    workers.start(1)
    workers.report(0, 0)
    assert workers.get("/status")[1]["state"] == "live"
    entries = workers.get("/workers")[1]["workers"]
    assert [entry["status"]["worker"] for entry in entries] == ["host-0", "host-1"]
    workers.servers[1].close()
    assert workers.get("/status")[1]["state"] == "starting"
    _, silent = workers.get("/workers")[1]["workers"]
    assert (silent["is_reachable"], silent["status"]) == (False, None)
    assert silent["error"].startswith("worker-1: ")
    assert workers.get("/topology")[1]["application_id"] == "a"
    assert workers.get("/config")[0] == 200


def test_who_does_not_answer_in_time_is_not_waited_for(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stands still holds up no answer of the others."""
    monkeypatch.setattr(asking, "ANSWER_S", 0.3)
    workers.start(0)
    with listen_at(workers.endpoint.folder / socket_name(1)):
        workers.report(0, 0)
        _, silent = workers.get("/workers")[1]["workers"]
        assert silent["error"] == "worker-1: no answer within 0.3 s"


@pytest.mark.parametrize("sent", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n{}"])
def test_who_answers_otherwise_is_reported(workers: Workers, sent: bytes) -> None:
    """Whatever comes from there: it does no harm."""
    with listen_at(workers.endpoint.folder / socket_name(0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        workers.report(0)
        (entry,) = workers.get("/workers")[1]["workers"]
        assert not entry["is_reachable"]
        thread.join()


def test_sockets_are_the_supervisors_alone(tmp_path: Path) -> None:
    """In a folder that nobody else can enter, and that goes with it; the path is not too long."""
    for name in ("short", "l" * 90):
        config = Config.load(application_id="a", state_dir=str(tmp_path / name))
        endpoint = Endpoint(config, _topology())
        assert stat.S_IMODE(endpoint.folder.stat().st_mode) == 0o700
        listen_at(endpoint.folder / socket_name(10)).close()
        listen_at(endpoint.folder / socket_name(10)).close()  # what the last process left
        endpoint.__exit__(None, None, None)
        assert not endpoint.folder.exists()


def test_a_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state_dir") as caught:
        Endpoint(Config.load(application_id="a", state_dir=str(tmp_path / "file")), _topology())
    assert caught.value.setting == "state_dir"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Is refused before any worker starts, and leaves no folder."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = Config.load(application_id="a", http_port=port, state_dir=str(tmp_path))
        with (
            pytest.raises(ConfigError, match=f"http_port {port}"),
            endpoint_of(config, _topology()),
        ):
            pass
    assert not list(tmp_path.iterdir())


def test_without_a_port_there_is_nothing(tmp_path: Path) -> None:
    """Neither a thread nor a folder."""
    config = Config.load(application_id="a", state_dir=str(tmp_path))
    with endpoint_of(config, _topology()) as endpoint:
        assert endpoint is None
    assert not list(tmp_path.iterdir())


PROGRAM = """
import sys
import kstash
settings = {"state_dir": sys.argv[1], "http_port": int(sys.argv[2])}
app = kstash.App("away", bootstrap_servers="127.0.0.1:1", **settings)
app.stream("in").to("out")
app.run(workers=2)
"""


def test_a_program_with_workers(tmp_path: Path) -> None:
    """From the start on, also while they wait for Kafka: they answer through the supervisor."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, str(program), str(tmp_path / "state"), str(port)],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + 120
            text = ""
            while text.count("kstash_build_info{") < 2:
                assert process.poll() is None
                assert time.monotonic() < deadline, text
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                with suppress(OSError), urllib.request.urlopen(f"{url}/metrics") as answer:
                    text = answer.read().decode()
            assert 'kstash_worker_up{worker="worker-1"} 1.0' in text
            with pytest.raises(urllib.error.HTTPError) as unready:
                urllib.request.urlopen(f"{url}/readyz")
            with unready.value as answer:
                reasons = json.loads(answer.read())["reasons"]
            assert sorted(r.partition(":")[0] for r in reasons) == ["worker-0", "worker-1"]
            with urllib.request.urlopen(f"{url}/livez") as answer:
                assert answer.status == 200
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert not list((tmp_path / "state").glob(".http-*"))


def test_folders_of_supervisors_that_were_killed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next one; not those of who runs, or has just begun."""
    monkeypatch.setattr(supervision, "FOLDER_LENGTH_MAX", 1000)  # no socket is made here
    config = Config.load(application_id="a", state_dir=str(tmp_path))
    running = Endpoint(config, _topology())
    old = time.time() - 2 * LOCKED_WITHIN_S
    killed, fresh, others = (tmp_path / name for name in (".http-k", ".http-f", ".http-o"))
    for folder in (killed, fresh, others):
        folder.mkdir()
        if folder is not others:
            (folder / "lock").touch()
    for folder in (killed, others, running.folder):
        os.utime(folder, (old, old))
    second = Endpoint(config, _topology())
    assert not killed.exists()
    assert fresh.exists()
    assert others.exists(), "nothing says whose it is"
    assert running.folder.exists()
    for endpoint in (second, running):
        endpoint.__exit__(None, None, None)
        assert not endpoint.folder.exists()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("0.0.0.0", f"{socket.gethostname()}:80"),
        ("::", f"{socket.gethostname()}:80"),
        ("fd00::1", "[fd00::1]:80"),
    ],
)
def test_the_own_address_is_one_that_can_be_asked(host: str, address: str) -> None:
    """Nobody can ask 0.0.0.0."""
    assert own_address(Config(application_id="a", http_host=host), 80) == address

"""`kstash status`: what is asked, and what is drawn of the answer."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from kstash import Config
from kstash.cli import main as cli
from kstash.cli.status import address_of, ask_workers
from kstash.cli.status_picture import TASKS_SHOWN, drawn
from kstash.errors import ConfigError
from kstash.observe import schema
from kstash.observe.access import Access, Certificate
from kstash.observe.listening import listen
from kstash.observe.server import HttpServer
from tests.unit.certificates import write_certificate
from tests.unit.http_source import FakeSource


def worker(name: str, *tasks: schema.TaskEntry, **others: Any) -> schema.WorkerEntry:
    """A worker that answers."""
    status = schema.Status(
        application_id="shop",
        guarantee="exactly_once",
        kstash="1.2.3",
        state="live",
        worker=name,
        time=1_700_000_100.0,
        uptime_seconds=3725.0,
        tasks=tasks,
        history=(
            schema.Point(
                time=1.0,
                records_in_per_second=1234.0,
                records_out_per_second=4321.0,
                latency_seconds=0.0125,
                lineage_unacked_bytes=2048,
                state_bytes=3 * 1024 * 1024,
            ),
        ),
        **others,
    )
    return schema.WorkerEntry(address="10.0.0.1:8080", is_reachable=True, status=status)


def task(name: str, state: str = "live", **others: Any) -> schema.TaskEntry:
    """A task."""
    values = {"position": 5000, "checkpointed_position": 4000, "replay_end": 0} | others
    return schema.TaskEntry(name=name, stage="words", partition=0, group=0, state=state, **values)


def answer(*entries: schema.WorkerEntry) -> dict[str, Any]:
    """As it comes over HTTP."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(schema.Workers(workers=entries)))
    return found


def text_of(found: dict[str, Any], problem: str | None = None) -> list[list[str]]:
    """What is drawn, as the words of its lines."""
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(drawn(found, problem))
    return [line.split() for line in console.export_text().splitlines()]


def test_workers_and_their_tasks() -> None:
    """One line each; what is not live first, then the largest lag."""
    lines = text_of(
        answer(
            worker(
                "one",
                task("words_0", lag_records=3, lag_seconds=1.5),
                task("words_1", lag_records=40),
                task("words_2", "recovering", position=10, replay_end=20),
                checkpoints=(
                    schema.CheckpointEntry(task="words_0", position=4000, age_seconds=7.0),
                ),
            )
        )
    )
    flat = [" ".join(line) for line in lines]
    assert flat[0] == "shop exactly_once kstash 1.2.3 1 of 1 workers"
    assert "one live 1 h 02 min 2/3 1,234 4,321 12 ms 43 2 KiB 3 MiB" in flat
    assert [line[0] for line in lines if line and line[0].startswith("words_")] == [
        "words_2",
        "words_1",
        "words_0",
    ]
    assert "words_2 one recovering 10 of 20 - - -" in flat
    assert "words_0 one live 5,000 3 1.5 s 7.0 s" in flat


def test_a_worker_that_cannot_be_reached() -> None:
    """It has a line with the reason, and the others have theirs."""
    gone = schema.WorkerEntry(address="10.0.0.2:8080", is_reachable=False, error="no \x1b[3m way")
    flat = [" ".join(line) for line in text_of(answer(worker("one"), gone))]
    assert flat[0].endswith("1 of 2 workers")
    assert "10.0.0.2:8080 no \\x1b[3m way" in flat


def test_the_latest_of_all_workers() -> None:
    """Recoveries with their time, errors with their place; the newest three of each."""
    recoveries = tuple(
        schema.RecoveryEntry(group=number, ended=number, seconds=1.25, replayed=77, phases={})
        for number in range(5)
    )
    error = schema.LoggedError(
        time=3.0, logger="kstash", event="it failed", error="ValueError: x", place="map at in/0/7"
    )
    found = answer(worker("one", recoveries=recoveries), worker("two", errors=(error,)))
    flat = [" ".join(line) for line in text_of(found, "no answer now")]
    of_groups = [line for line in flat if "recovered in" in line]
    assert [line.split("task group ")[1] for line in of_groups] == [
        f"{number} recovered in 1.2 s, 77 replayed" for number in (2, 3, 4)
    ]
    assert any(line.endswith("two: it failed: ValueError: x: map at in/0/7") for line in flat)
    assert flat[-1] == "no answer now"


def test_what_several_workers_say_is_said_once() -> None:
    """With the names of all of them."""
    same = [schema.LoggedError(time=t, logger="kstash", event="a topic is new") for t in (3.0, 4.0)]
    found = answer(worker("one", errors=tuple(same)), worker("two", errors=(same[0],)))
    flat = [" ".join(line) for line in text_of(found)]
    assert [line for line in flat if "a topic is new" in line] == [
        next(line for line in flat if line.endswith("one, two: a topic is new"))
    ]


def test_many_tasks_are_cut() -> None:
    """A terminal has so many lines; what matters most stands first."""
    found = answer(worker("one", *(task(f"words_{number}") for number in range(TASKS_SHOWN + 7))))
    assert ["and", "7", "more", "tasks"] in text_of(found)


@dataclass
class Served:
    """A server with one answer, and what it was asked."""

    url: str
    body: bytes = b""
    code: int = 200
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    """It listens on a port of its own."""
    found = Served("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(found.code)
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def test_once_where_there_is_no_terminal(served: Served) -> None:
    """A table, or the answer as it is; the port may come from the settings."""
    served.body = msgspec.json.encode(schema.Workers(workers=(worker("w" * 99, task("words_0")),)))
    shown = CliRunner().invoke(cli.app, ["status", "--url", f"{served.url}/"])
    assert shown.exit_code == 0
    assert "…" not in shown.stdout, "it is cut at no edge"
    assert "words_0" in shown.stdout
    variables = {"KSTASH_HTTP_PORT": served.url.rpartition(":")[2]}
    shown = CliRunner().invoke(cli.app, ["status", "--json"], env=variables)
    assert json.loads(shown.stdout)["workers"][0]["status"]["worker"] == "w" * 99
    assert {path for path, _ in served.asked} == {"/workers"}


def test_a_token_is_sent(served: Served) -> None:
    """As a bearer; none where there is none."""
    served.body = b'{"workers": []}'
    ask_workers(served.url, "hush")
    ask_workers(served.url, None)
    assert [token for _, token in served.asked] == ["Bearer hush", None]


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (401, b"", "HTTP 401: give the token in KSTASH_HTTP_TOKEN"),
        (404, b"", "HTTP 404"),
        (200, b"[]", "no worker of kstash"),
        (200, b'{"workers": 1}', "no worker of kstash"),
        (200, b"{", "Expecting"),
        (200, b"\xff", "utf-8"),
    ],
)
def test_an_answer_that_is_none(served: Served, code: int, body: bytes, words: str) -> None:
    """The error has the address and what came; no traceback, no token."""
    served.code, served.body = code, body
    with pytest.raises(ConfigError) as caught:
        ask_workers(served.url, "hush")
    assert served.url in str(caught.value)
    assert words in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "http://127.0.0.1:9", "file://FOLDER"])
def test_an_address_that_is_none(address: str, tmp_path: Path) -> None:
    """Nothing but HTTP is asked: no file is read, whatever is in it."""
    (tmp_path / "workers").write_text('{"workers": []}')
    with pytest.raises(ConfigError, match="no status from") as caught:
        ask_workers(address.replace("FOLDER", str(tmp_path)), None)
    assert ("such as http://127.0.0.1:9" in str(caught.value)) == address.startswith("127")
    assert ("the setting http_port" in str(caught.value)) == address.startswith("http")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fd00::1", "http://[fd00::1]:80"),
        ("worker", "http://worker:80"),
    ],
)
def test_the_address_of_the_settings(host: str, address: str) -> None:
    """All addresses of this machine are asked at its own; without a port it must be given."""
    assert address_of(Config(application_id="a", http_host=host, http_port=80)) == address
    with pytest.raises(ConfigError, match="give --url"):
        address_of(Config(application_id="a", http_host=host))


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[int]:
    """The port of a server with a certificate that it signed itself, in `certificate.pem`."""
    write_certificate(tmp_path, "own")
    certificate = Certificate(str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    server = HttpServer(
        listen("127.0.0.1", 0), FakeSource(), access=Access(certificate=certificate)
    )
    yield server.port
    server.close()


def test_a_certificate_of_the_settings_is_trusted(tmp_path: Path, secured: int) -> None:
    """It is asked over TLS; elsewhere a certificate that nobody signed comes with a hint."""
    file = str(tmp_path / "certificate.pem")
    config = Config(
        application_id="a",
        http_port=secured,
        http_tls_certificate=file,
        http_tls_key=str(tmp_path / "key.pem"),
    )
    address = address_of(config)
    assert address == f"https://127.0.0.1:{secured}"
    assert ask_workers(address, None, file)["workers"]
    with pytest.raises(ConfigError, match="give its file in SSL_CERT_FILE"):
        ask_workers(address, None)
    with pytest.raises(ConfigError, match="http_tls_certificate /none: "):
        ask_workers(address, None, "/none")


def test_the_other_scheme_is_said(secured: int, served: Served) -> None:
    """A port for HTTPS hangs up on HTTP and says nothing, so that is what has to be guessed."""
    with pytest.raises(ConfigError, match=f"; try https://127.0.0.1:{secured}$"):
        ask_workers(f"http://127.0.0.1:{secured}", None)
    port = served.url.rpartition(":")[2]
    with pytest.raises(ConfigError, match=f"; try http://127.0.0.1:{port}$"):
        ask_workers(f"https://127.0.0.1:{port}", None)
    with pytest.raises(ConfigError) as caught:
        ask_workers("http://127.0.0.1:9", None)
    assert "try https" not in str(caught.value), "nobody listens there"

"""Who may ask over HTTP, what is refused, and how every answer is marked; over raw sockets."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import structlog

from kstash import App, Config, ConfigError, text
from kstash.observe import configure_logs, connections, guard
from kstash.observe.access import Access
from kstash.observe.files import page_files
from kstash.observe.guard import CONTENT_POLICY, HEAD_BYTES_MAX, HEADERS_MAX, is_allowed, names_of
from kstash.observe.listening import listen
from kstash.observe.server import HttpServer
from kstash.testing import TestDriver
from tests.unit.http_source import FakeSource

DEADLINE_S = 30.0

MARKS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def _broken() -> bytes:
    raise ZeroDivisionError("inside")


Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server; gives its port."""
    servers: list[HttpServer] = []

    def start(
        *allowed: str, host: str = "127.0.0.1", text: Callable[[], bytes] = lambda: b"m 1\n"
    ) -> int:
        access = Access(names_of(host, allowed))
        servers.append(HttpServer(listen(host, 0), FakeSource(text=text), access=access))
        return servers[-1].port

    yield start
    for server in servers:
        server.close()
    structlog.reset_defaults()


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def _exchanged(port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Code, headers and body of the answer to raw bytes; the server closes the connection."""
    answer = b""
    with _connected(port) as connection:
        connection.sendall(sent)
        while part := connection.recv(65_536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return int(status.split()[1]), {name.lower(): value for name, value in pairs}, body


def _request(
    method: str = "GET", path: str = "/livez", host: str = "localhost", *lines: str
) -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"host: {host}", "connection: close", *lines]
    return "\r\n".join([*head, "", ""]).encode()


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8080", "LOCALHOST", "localhost.", "worker", "worker-1:80"),
        *("127.0.0.1", "127.0.0.1:80", "10.2.3.4:8080", "[::1]", "[::1]:80", "[fe80::1]:80"),
        *("mine.example.com", "MINE.example.com:80", "mine.example.com."),
        *("a.svc.cluster.local", "a.b.svc.cluster.local:80"),
    ],
)
def test_names_that_are_answered(host: str) -> None:
    """Addresses, names without a dot, and what the settings name."""
    assert is_allowed(host, {"mine.example.com", "*.svc.cluster.local"})


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("example.com", "x.mine.example.com", "minexexample.com", "svc.cluster.local"),
        *(
            "",
            ":80",
            ".",
            "[evil.example]",
            "[",
            "[::1",
            "1.2.3",
            "0x7f.1",
            "evil.example#localhost",
        ),
    ],
)
def test_names_that_are_not(host: str) -> None:
    """A page can give away only a name that somebody has registered: all of these have a dot."""
    expected = host == "[::1"  # an address all the same
    assert is_allowed(host, {"mine.example.com", "*.svc.cluster.local"}) == expected


def test_any_name_where_that_is_wanted() -> None:
    """`*`, as after a proxy that checks names itself."""
    assert is_allowed("evil.example", {"*"})


def test_a_page_of_somebody_else_gets_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is refused with the setting that would allow it, and is not repeated."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Host.example.com")
    port = serve("shop.example.com")
    code, headers, body = _exchanged(port, _request(host="evil.example:80"))
    assert (code, headers["connection"]) == (421, "close")
    assert b"http_hosts_allowed" in body
    assert b"evil" not in body
    for host in ("localhost:1", "127.0.0.1", "shop.example.com", "host.example.com"):
        assert _exchanged(port, _request(host=host))[0] == 200


def test_the_address_that_it_listens_on_is_its_name(serve: Serve) -> None:
    """Also where that is all addresses."""
    port = serve(host="0.0.0.0")
    assert _exchanged(port, _request(host="10.0.0.1:9"))[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_request_without_a_name_is_refused(serve: Serve, host: str) -> None:
    """HTTP/1.0 allows it, and the name rule has nothing to compare; with one it is answered."""
    port = serve("*", host=host)
    for version in (b"1.0", b"1.1"):
        code, headers, _ = _exchanged(port, b"GET /livez HTTP/%b\r\n\r\n" % version)
        assert (code, headers["connection"]) == (400, "close")
    body = _exchanged(port, b"GET /livez HTTP/1.0\r\n\r\n")[2]
    assert b"Host header" in body
    assert _exchanged(port, b"GET /livez HTTP/1.0\r\nhost: localhost\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, []),
        ("a.b", ["a.b"]),
        ("a.b, *.c.d ,*", ["a.b", "*.c.d", "*"]),
        (["a.b", "c"], ["a.b", "c"]),
    ],
)
def test_the_setting(given: Any, names: list[str]) -> None:
    """Names with commas between them, or a list."""
    config = Config.load(application_id="a", http_hosts_allowed=given)
    assert list(config.http_hosts_allowed) == names


@pytest.mark.parametrize("given", ["", "a.b:80", "http://a.b", "a b", "a.*", "**", "a,,b", "[::1]"])
def test_what_is_no_name_is_refused(given: str) -> None:
    """A port, a URL, a pattern in the middle: nothing that would never match."""
    with pytest.raises(ConfigError, match="setting http_hosts_allowed: "):
        Config.load(application_id="a", http_hosts_allowed=given)


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (_request(), 200),
        (_request(path="/metrics"), 200),
        (_request(path="/"), 200),
        (_request("HEAD", "/"), 200),
        (_request(path="/readyz"), 503),
        (_request(path="/nope"), 404),
        (_request(path="/livez/"), 404),
        (_request("POST"), 405),
        (_request("OPTIONS"), 405),
        (_request("DELETE", "/"), 405),
        (_request("GET", "/livez", "localhost", "content-length: 5"), 413),
        (_request("POST", "/livez", "localhost", "transfer-encoding: chunked"), 413),
        (_request(host="evil.example"), 421),
        (_request("GET", "/livez", "localhost", *["x: y"] * HEADERS_MAX), 431),
        (_request("GET", "/livez", "localhost", "x: " + "y" * HEAD_BYTES_MAX), 431),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    ],
)
def test_every_answer_is_marked(sent: bytes, code: int, serve: Serve) -> None:
    """Not to be embedded, guessed at, kept or passed on, whatever the answer is."""
    found, headers, body = _exchanged(serve(), sent)
    assert found == code
    assert {name: headers.get(name) for name in MARKS} == MARKS
    assert headers["content-security-policy"] == CONTENT_POLICY
    assert "server" not in headers
    assert "location" not in headers
    assert set(headers.get("allow", "GET, HEAD").split(", ")) == {"GET", "HEAD"}
    assert bool(body) == (b"HEAD " not in sent)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_what_is_refused_is_not_kept(
    sent: bytes, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed with the answer; what would follow is not waited for."""
    monkeypatch.setattr(connections, "REQUEST_S", 3600.0)
    code, headers, _ = _exchanged(serve(), sent)
    assert code in (400, 413, 421)
    assert headers["connection"] == "close"


def test_the_policy_allows_the_page_and_nothing_else(serve: Serve) -> None:
    """Files of the own origin; no style and no script within the page, which it would refuse."""
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in CONTENT_POLICY
    assert "frame-ancestors 'none'" in CONTENT_POLICY
    assert "unsafe" not in CONTENT_POLICY
    port = serve()
    for name, (content, media_type) in page_files().items():
        path = "/" if name == "index.html" else f"/static/{name}"
        code, headers, body = _exchanged(port, _request(path=path))
        assert (code, headers["content-type"], body) == (200, media_type, content)
        assert not re.search(rb"<style|<script>|style=\"|onload|https?://(?!www\.w3\.org/)", body)
    for path in ("/static/", "/static/../server.py", "/static/%2e%2e/server.py", "/index.html"):
        assert _exchanged(port, _request(path=path))[0] == 404


def test_a_failure_of_ours_is_reported_to_the_log_alone(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who asks sees that it failed; the traceback is in the worker's log, once."""
    configure_logs("console", "info")
    code, headers, body = _exchanged(serve(text=_broken), _request(path="/metrics"))
    assert (code, body) == (500, b"Internal Server Error\n")
    assert headers["content-security-policy"] == CONTENT_POLICY
    shown = "".join(capfd.readouterr())
    assert shown.count("an HTTP request failed") == 1
    assert shown.count("in _broken") == 1


# --- slow and many ------------------------------------------------------------------------------


def _letters() -> App:
    app = App("slow")
    app.stream("in", value=text).map_values(str.upper).to("out", value=text)
    return app


def test_slow_clients_hold_up_nobody(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients send a header line now and then: probes are answered, and a task goes on.

    They are closed in spite of what they send, and leave no thread and no file.
    """
    monkeypatch.setattr(connections, "REQUEST_S", 2.0)
    port = serve()
    assert _exchanged(port, _request())[0] == 200
    process, threads = psutil.Process(), threading.active_count()
    files = process.num_fds()
    slow = [_connected(port) for _ in range(150)]
    with TestDriver(_letters()) as driver:
        for turn in range(3):
            for connection in slow:
                _drip(connection, b"GET / HTTP/1.1\r\n" if turn == 0 else b"x: y\r\n")
            assert _exchanged(port, _request())[0] == 200
            driver.send("in", f"turn {turn}")
        assert [record.value for record in driver.read("out")] == ["TURN 0", "TURN 1", "TURN 2"]
        assert threading.active_count() == threads
    while slow:
        connection = slow.pop()
        while _drip(connection, b"x: y\r\n"):
            assert _exchanged(port, _request())[0] == 200
        connection.close()
    assert _exchanged(port, _request())[0] == 200
    assert process.num_fds() <= files + 1


def _drip(connection: socket.socket, part: bytes) -> bool:
    """Send some bytes; whether the connection is still open."""
    try:
        connection.sendall(part)
    except OSError:
        return False
    return True


def test_who_does_not_read_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that nobody takes are kept for a while only, and in bounded number."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)
    port = serve(text=lambda: b"p" * 1_000_000)
    before = psutil.Process().memory_info().rss
    with _connected(port) as connection:
        while _drip(connection, b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n" * 100):
            pass
    assert psutil.Process().memory_info().rss < before + 64 * 1024 * 1024
    assert _exchanged(port, _request())[0] == 200


def test_the_limits_are_small() -> None:
    """What one connection may hold of the worker's memory, and how many there are."""
    assert guard.HEAD_BYTES_MAX * connections.CONNECTIONS_MAX <= 1024 * 1024

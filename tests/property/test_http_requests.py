"""Whatever somebody sends to the HTTP port: an answer of 4xx or a closed connection, no harm."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstash.observe import schema
from kstash.observe.access import Access
from kstash.observe.listening import listen
from kstash.observe.server import HttpServer
from tests.unit.http_source import FakeSource

ASKED = b"GET /livez HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\nconnection: close\r\n\r\n"
ANSWERS = {200, 400, 404, 405, 413, 421, 431}
ANSWER_S = 30.0

METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI"]
TARGETS = [
    b"/",
    b"/livez",
    *(b"/metrics", b"/status", b"/workers?peers=2", b"/static/page.js", b"/static/../x"),
    b"/livez/",
    b"//x",
    b"*",
    b"http://a.b/",
    b"/%00%ff",
    b"",
]
NAMES = [
    *(b"host", b"Host", b"content-length", b"transfer-encoding", b"connection", b"upgrade"),
    *(b"expect", b"te", b"trailer", b"x", b"", b" x", b"x\0", b"cookie"),
]
VALUES = [
    *(b"localhost", b"10.0.0.1:80", b"evil.example", b"[::1]:1", b"[", b"", b"0", b"5", b"-1"),
    *(b"9" * 40, b"chunked", b"gzip, chunked", b"close", b"keep-alive", b"upgrade", b"websocket"),
    *(b"100-continue", b"a" * 3000, b"\xff\xfe", b"x\r\n y", b"\0"),
]


def _one_of(known: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.sampled_from(known), st.sampled_from(known), st.binary(max_size=8))


@st.composite
def _made(draw: st.DrawFn) -> bytes:
    """Something like a request, or several in one go."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        version = draw(_one_of([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"]))
        head = [b" ".join((draw(_one_of(METHODS)), draw(_one_of(TARGETS)), version))]
        pairs = draw(st.lists(st.tuples(_one_of(NAMES), _one_of(VALUES)), max_size=6))
        head += [name + b": " + value for name, value in pairs]
        if draw(st.booleans()):
            head.append(b"host: localhost")
        body = draw(
            st.one_of(st.just(b""), st.sampled_from([b"5\r\nabcde\r\n0\r\n\r\n", b"ZZ\r\n"]))
        )
        parts.append(b"\r\n".join(head) + b"\r\n\r\n" + body)
    return b"".join(parts)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A request with some of its bytes changed, doubled or gone."""
    request = bytearray(ASKED * draw(st.integers(1, 2)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(request)))
        request[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(request)


SENT = st.one_of(_made(), _damaged(), st.binary(max_size=200))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server that knows one word."""
    server = HttpServer(
        listen("127.0.0.1", 0), FakeSource(ready=schema.Verdict(ok=True)), access=Access()
    )
    yield server.port
    server.close()


def _answer(port: int, sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answer += part
        except TimeoutError:
            pytest.fail("neither answered nor closed")
        except OSError:  # closed while we were sending
            pass
    return answer


def _check(port: int, sent: bytes) -> None:
    answer = _answer(port, sent)
    assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:100]
    codes = {int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z][a-z]+", answer)}
    assert codes <= ANSWERS, answer
    assert b"Traceback" not in answer


def _is_alive(port: int) -> bool:
    return b" 200 OK" in _answer(port, ASKED)


@given(sent=SENT)
@settings(deadline=None, max_examples=150)
def test_what_is_no_request_does_no_harm(port: int, sent: bytes) -> None:
    """Answered by what is in `ANSWERS` or closed; no 5xx, no redirect, nothing of our inside."""
    _check(port, sent)


def test_the_server_is_alive_afterwards(
    port: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A request is answered after any of these, and nothing was written for them."""
    for sent in (
        b"\0" * 5000,
        b"GET / HTTP/1.1\r\n\r\n",
        ASKED + b"\xff" * 100,
        b"POST / HTTP/9\r\n",
    ):
        _check(port, sent)
        assert _is_alive(port)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.prove
def test_many_of_them_leave_nothing(
    port: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither memory nor threads nor files grow with what was sent."""
    assert _is_alive(port)
    process = psutil.Process()
    threads, files = threading.active_count(), process.num_fds()
    memory: list[int] = []

    @given(sent=SENT)
    @settings(deadline=None, max_examples=1500, database=None)
    def send(sent: bytes) -> None:
        _check(port, sent)
        if not memory:
            memory.append(process.memory_info().rss)

    send()
    assert _is_alive(port)
    assert threading.active_count() == threads
    assert process.num_fds() <= files + 70
    assert process.memory_info().rss < memory[0] + 64 * 1024 * 1024
    assert capfd.readouterr() == ("", "")
    assert not caplog.records

"""The token and the certificate of the HTTP port, over real sockets."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from kstash import Config, ConfigError
from kstash.observe import connections
from kstash.observe.access import Access, Certificate
from kstash.observe.listening import listen
from kstash.observe.server import HttpServer
from tests.unit.certificates import write_certificate
from tests.unit.http_source import FakeSource

TOKEN = "a-token-that-is-long-enough"
DEADLINE_S = 30.0


@pytest.fixture
def serve(logs: None) -> Iterator[Callable[[Access], int]]:  # noqa: ARG001 - for its effect
    """Start a server; gives its port."""
    servers: list[HttpServer] = []

    def start(access: Access) -> int:
        servers.append(HttpServer(listen("127.0.0.1", 0), FakeSource(), access=access))
        return servers[-1].port

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def logs() -> Iterator[None]:
    """Put structlog's settings back afterwards."""
    yield
    structlog.reset_defaults()


def _get(
    url: str, tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S, context=tls) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


# --- token --------------------------------------------------------------------------------------

CLOSED = ("/metrics", "/status", "/workers", "/topology", "/config", "/sd", "/nothing")
OPEN = ("/livez", "/", "/static/page.js")


def test_nothing_is_reported_without_the_token(serve: Callable[[Access], int]) -> None:
    """What says something of the application is 401, whatever else was given; probes are open."""
    url = f"http://127.0.0.1:{serve(Access(token=TOKEN.encode()))}"
    wrong = ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN]
    for path in CLOSED:
        for given in wrong:
            code, headers, body = _get(url + path, authorization=given)
            assert code == 401, (path, given)
            assert headers["www-authenticate"] == 'Bearer realm="kstash"'
            assert b"http_token" in body
            assert TOKEN.encode() not in body
    for path in CLOSED[:-1]:
        assert _get(url + path, authorization=f"Bearer {TOKEN}")[0] == 200, path
    assert _get(f"{url}/metrics", authorization=f"bearer  {TOKEN}")[0] == 200
    for path in OPEN:
        assert _get(url + path)[0] == 200, path
    assert _get(f"{url}/readyz")[0] == 503


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the function that is made for it."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("kstash.observe.access.hmac.compare_digest", compare)
    access = Access(token=TOKEN.encode())
    assert access.is_admitted(b"Bearer " + TOKEN.encode())
    assert not access.is_admitted(b"Bearer x")
    assert [one for one, _ in compared] == [TOKEN.encode(), b"x"]


def test_without_a_token_all_is_open() -> None:
    """As by default, on a loopback."""
    assert Access.of(Config.load(application_id="a")).token is None
    assert Access().is_admitted(b"")


@pytest.mark.parametrize("given", ["brief", "with a space in the middle", "täken" * 5, "a" * 513])
def test_a_token_that_cannot_be_one_is_refused(given: str) -> None:
    """By the name of the setting, without the value."""
    text = "setting http_token: must be 16 to 512 letters, digits and "
    with pytest.raises(ConfigError, match=text) as caught:
        Config.load(application_id="a", http_token=given)
    assert given not in str(caught.value)


def test_the_token_is_in_no_dump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It comes by the environment or from a file, and is masked wherever settings are shown."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("KSTASH_HTTP_TOKEN_FILE", str(path))
    config = Config.load(application_id="a")
    assert Access.of(config).token == TOKEN.encode()
    assert TOKEN not in f"{config!r} {config} {config.model_dump()}"


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A certificate and its key."""
    write_certificate(tmp_path, "first")
    return str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")


def _subject(port: int, certificate: Certificate) -> str:
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE_S) as raw,
        certificate.client_context().wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        found = secured.getpeercert()
    assert found is not None
    return str(dict(pair[0] for pair in found["subject"])["commonName"])  # type: ignore[misc]


def test_https(serve: Callable[[Access], int], files: tuple[str, str]) -> None:
    """With a certificate there is HTTPS, from TLS 1.2 on, and nothing else."""
    access = Access.of(
        Config.load(application_id="a", http_tls_certificate=files[0], http_tls_key=files[1])
    )
    assert access.certificate is not None
    port = serve(access)
    tls = access.certificate.client_context()
    assert _get(f"https://127.0.0.1:{port}/livez", tls)[0] == 200
    with pytest.raises(OSError):
        _get(f"http://127.0.0.1:{port}/livez")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):
        _get(f"https://127.0.0.1:{port}/livez", old)


def test_a_renewed_certificate_is_taken_up(
    serve: Callable[[Access], int],
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without a restart; one that cannot be used is reported, and the old one stays."""
    certificate = Certificate(*files)
    monkeypatch.setattr("kstash.observe.server.RENEW_S", 0)
    port = serve(Access(certificate=certificate))
    assert _subject(port, certificate) == "first"
    (tmp_path / "key.pem").write_text("nonsense")
    while "the renewed certificate cannot be used, the old one stays" not in capfd.readouterr().out:
        pass
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    assert _get(f"https://127.0.0.1:{port}/livez", old)[0] == 200
    write_certificate(tmp_path, "second")
    while "certificate renewed" not in capfd.readouterr().out:
        pass
    assert _subject(port, certificate) == "second"


@pytest.mark.parametrize("lacking", ["certificate", "key", "pair", "passphrase"])
def test_a_certificate_that_cannot_be_used(
    lacking: str, files: tuple[str, str], tmp_path: Path
) -> None:
    """Is refused at the start, by the name of the setting, and no terminal is asked."""
    certificate, key = files
    if lacking == "passphrase":
        write_certificate(tmp_path, "other", passphrase=b"secret")
    elif lacking == "pair":
        (tmp_path / "b").mkdir()
        write_certificate(tmp_path / "b", "other")
        key = str(tmp_path / "b" / "key.pem")
    else:
        (tmp_path / f"{lacking}.pem").unlink()
    setting = "http_tls_key" if lacking == "key" else "http_tls_certificate"
    with pytest.raises(ConfigError, match=r"PEM") as caught:
        Certificate(certificate, key)
    assert caught.value.setting == setting


@pytest.mark.parametrize("name", ["http_tls_certificate", "http_tls_key"])
def test_certificate_and_key_belong_together(name: str) -> None:
    """One without the other is refused."""
    with pytest.raises(ConfigError, match="set both"):
        Config.load(application_id="a", **{name: "x"})


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_who_begins_no_handshake_is_closed(
    sent: bytes,
    serve: Callable[[Access], int],
    files: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In time, and it takes no place from others."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)
    certificate = Certificate(*files)
    port = serve(Access(certificate=certificate))
    idle = [socket.create_connection(("127.0.0.1", port), DEADLINE_S) for _ in range(20)]
    for connection in idle:
        connection.sendall(sent)
    assert _get(f"https://127.0.0.1:{port}/livez", certificate.client_context())[0] == 200
    for connection in idle:
        with connection, suppress(ConnectionResetError):
            while connection.recv(4096):
                pass


def test_handshakes_count_as_connections(
    serve: Callable[[Access], int], files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connect and do not begin one: the oldest are closed."""
    monkeypatch.setattr(connections, "REQUEST_S", 3600.0)
    port = serve(Access(certificate=Certificate(*files)))
    idle = [
        socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        for _ in range(connections.CONNECTIONS_MAX + 5)
    ]
    for connection in idle[:5]:
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    for connection in idle:
        connection.close()

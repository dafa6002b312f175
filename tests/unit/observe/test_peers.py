"""What a worker says of the others: over real sockets, by addresses and names."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from kstash import Config, ConfigError
from kstash.observe import asking, peers, schema
from kstash.observe.access import Access, Certificate
from kstash.observe.listening import listen
from kstash.observe.peers import Peers
from kstash.observe.server import HttpServer
from kstash.settings import derived
from tests.unit.certificates import write_certificate
from tests.unit.http_source import STATUS, FakeSource

TOKEN = b"a-token-that-is-long-enough"


class Group:
    """Servers that know each other."""

    def __init__(self) -> None:
        self.servers: list[HttpServer] = []
        self.asked: list[str] = []

    def start(
        self, name: str, *known: str, access: Access | None = None, answer: str | None = None
    ) -> str:
        """Start one that knows others; gives its address."""
        group = self

        class Source(FakeSource):
            async def own_workers(self) -> tuple[schema.WorkerEntry, ...]:
                group.asked.append(name)
                if answer is not None:
                    return (schema.WorkerEntry(address="x", is_reachable=True, error=answer),)
                return await super().own_workers()

        access = access or Access()
        places = [place.rpartition(":") for place in known]
        others = Peers(
            [(host, int(port)) for host, _, port in places], access.token, access.certificate
        )
        found = msgspec.structs.replace(STATUS, worker=name)
        server = HttpServer(
            listen("127.0.0.1", 0), Source(found=found), access=access, peers=others
        )
        self.servers.append(server)
        return f"127.0.0.1:{server.port}"


@pytest.fixture
def group() -> Iterator[Group]:
    """Nobody at first."""
    made = Group()
    yield made
    for server in made.servers:
        server.close()
    structlog.reset_defaults()


def get(address: str, path: str, certificate: Certificate | None = None) -> tuple[int, Any]:
    """Code and content of an answer."""
    scheme = "http" if certificate is None else "https"
    request = urllib.request.Request(
        f"{scheme}://{address}{path}", headers={"authorization": f"Bearer {TOKEN.decode()}"}
    )
    tls = certificate.client_context() if certificate is not None else None
    try:
        with urllib.request.urlopen(request, timeout=30, context=tls) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_all_workers_whoever_is_asked(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own first, the others by their addresses; itself among them is not listed twice."""
    monkeypatch.setattr(peers, "KEPT_S", 0.0)
    first = group.start("one")
    second = group.start("two", first)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        silent = f"127.0.0.1:{nobody.getsockname()[1]}"
        third = group.start("three", first, second, silent)
        found = get(third, "/workers")[1]["workers"]
        assert [(e["status"] or {}).get("worker") for e in found] == ["three", "one", "two", None]
        assert [e["address"] for e in found[1:]] == [first, second, silent]
        assert (found[3]["is_reachable"], found[3]["error"]) == (False, "Connection refused")
    port = int(third.rpartition(":")[2])
    fourth = group.start("four", f"localhost:{port}", third)
    found = get(fourth, "/workers")[1]["workers"]
    assert [e["status"]["worker"] for e in found] == ["four", "three"], "one address, asked once"
    assert found[1]["address"] == third


def test_one_that_is_named_itself_is_reported_once(group: Group) -> None:
    """As with the name of a headless service, which has all addresses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listening = listen("127.0.0.1", port)
    server = HttpServer(
        listening, FakeSource(), access=Access(), peers=Peers([("127.0.0.1", port)])
    )
    group.servers.append(server)
    found = get(f"127.0.0.1:{port}", "/workers")[1]["workers"]
    assert [entry["status"]["worker"] for entry in found] == ["w"]


def test_nobody_asks_in_circles(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question to the others is for their own workers alone; it can be asked by anybody."""
    monkeypatch.setattr(peers, "KEPT_S", 0.0)
    first = group.start("one")
    second = group.start("two", first)
    third = group.start("three", second)
    group.asked.clear()
    assert len(get(third, "/workers")[1]["workers"]) == 2
    assert sorted(group.asked) == ["three", "two"]
    assert len(get(second, "/workers?peers=false")[1]["workers"]) == 1
    assert len(get(second, "/workers?peers=true")[1]["workers"]) == 2
    for query in ("peers=", "peers=yes", "peers=true&peers=false"):
        assert get(second, f"/workers?{query}")[0] == 400


def test_answers_are_kept_for_a_second(group: Group) -> None:
    """However many pages are open, a worker is asked by another one once a second."""
    first = group.start("one")
    second = group.start("two", first)
    for _ in range(5):
        assert len(get(second, "/workers")[1]["workers"]) == 2
    assert group.asked.count("one") == 1


def test_a_name_without_an_address(group: Group) -> None:
    """Is reported, with the name; the others are there."""
    first = group.start("one")
    second = group.start("two", "nobody.invalid:80", first)
    found = get(second, "/workers")[1]["workers"]
    assert [entry["address"] for entry in found[1:]] == [first, "nobody.invalid:80"]
    assert "has no address" in found[2]["error"]


def test_who_is_no_worker_is_reported(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is too large, or for something else, is none."""
    first = group.start("one", answer="x" * 10_000)
    monkeypatch.setattr(asking, "ANSWER_BYTES_MAX", 1_000)
    found = get(group.start("two", first), "/workers")[1]["workers"]
    assert "has more than 1000 bytes" in found[1]["error"]
    strict = group.start("three", access=Access(token=TOKEN))
    found = get(group.start("four", strict), "/workers")[1]["workers"]
    assert found[1]["error"].startswith("it answers 401")


def test_one_that_has_a_certificate_already(group: Group, tmp_path: Path) -> None:
    """It hangs up on who has none yet and asks by HTTP: that is said, not what a library makes."""
    write_certificate(tmp_path, "mine")
    certificate = Certificate(str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    first = group.start("one", access=Access(certificate=certificate))
    found = get(group.start("two", first), "/workers")[1]["workers"]
    assert found[1]["error"].endswith("as a port with a certificate does when it is asked by HTTP")


def test_token_and_certificate_are_used_for_the_others(group: Group, tmp_path: Path) -> None:
    """Workers of one application have the same ones; another certificate is not trusted."""
    write_certificate(tmp_path, "mine")
    (tmp_path / "other").mkdir()
    write_certificate(tmp_path / "other", "other")

    def certificate(folder: Path) -> Certificate:
        return Certificate(str(folder / "certificate.pem"), str(folder / "key.pem"))

    mine = Access(token=TOKEN, certificate=certificate(tmp_path))
    first = group.start("one", access=mine)
    foreign = group.start(
        "two", access=Access(token=TOKEN, certificate=certificate(tmp_path / "other"))
    )
    third = group.start("three", first, foreign, access=mine)
    found = get(third, "/workers", mine.certificate)[1]["workers"]
    assert found[1]["status"]["worker"] == "one"
    assert "certificate" in found[2]["error"].lower()
    targets = get(third, "/sd", mine.certificate)[1]
    assert targets == [{"targets": [first, foreign], "labels": {"__scheme__": "https"}}]


def test_targets_for_prometheus(group: Group) -> None:
    """Those that are known; without any, the one that was asked, as it was asked."""
    first = group.start("one")
    assert get(first, "/sd")[1] == [{"targets": [first], "labels": {"__scheme__": "http"}}]
    second = group.start("two", first, "[::1]:9")
    targets = get(second, "/sd")[1]
    assert targets == [{"targets": [first, "[::1]:9"], "labels": {"__scheme__": "http"}}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("a:80", [("a", 80)]),
        ("a.b.svc:80, [::1]:8080 ", [("a.b.svc", 80), ("[::1]", 8080)]),
        (["a:1", "b:2"], [("a", 1), ("b", 2)]),
    ],
)
def test_the_setting(given: Any, expected: list[tuple[str, int]]) -> None:
    """Hosts with ports and commas between them, or a list."""
    assert derived.peers(Config.load(application_id="a", http_peers=given)) == expected


@pytest.mark.parametrize("given", ["", "a", "a:", "http://a:80", "a:80/x", "a:80,,b:80", "a:99999"])
def test_what_is_no_peer_is_refused(given: str) -> None:
    """By the name of the setting."""
    with pytest.raises(ConfigError, match="http_peers"):
        Config.load(application_id="a", http_peers=given)

"""Each wrong way to connect gives one line that names its cause, within ten seconds."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import structlog

from kstash.errors import AccessRefusedError, ClusterError, ConfigError, KafkaUnavailableError
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.kafka.console import KafkaConsole
from kstash.kafka.immediate import ImmediateReader
from tests.integration.secured import SecuredBroker, unsigned_token

pytestmark = pytest.mark.integration

LINE_S_MAX = 10.0
PROCESS_S_MAX = 5.0
"""Until a process on a busy machine asks Kafka anything."""


def settings_of(secured: SecuredBroker, case: str) -> tuple[str, dict[str, Any]]:
    """Address and client settings of a case."""
    addresses, tls, scram = secured.addresses, secured.tls, secured.scram
    foreign = str(secured.folder / "nobody.pem")
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "wrong password": ("scram", scram | {"sasl.password": "x"}),
        "unknown user": ("scram", scram | {"sasl.username": "x"}),
        "wrong mechanism": ("scram", scram | {"sasl.mechanism": "PLAIN"}),
        "expired": ("expired", tls),
        "foreign": ("foreign", tls),
        "wrong authority": ("scram", scram | {"ssl.ca.location": foreign}),
        "other host": ("elsewhere", tls),
        "no client certificate": ("mutual", tls),
        "plaintext to TLS": ("mutual", {}),
        "SASL to TLS": ("scram", scram | {"security.protocol": "SASL_PLAINTEXT"}),
        "TLS to plaintext": ("plain", tls),
        "SASL and TLS to plaintext": ("plain", scram),
        "TLS without SASL": ("scram", tls),
        "no SASL": ("tokens", {}),
        "SASL to plaintext": ("plain", scram | {"security.protocol": "SASL_PLAINTEXT"}),
        "SASL where there is none": ("mutual", scram | secured.client_certificate),
    }
    name, settings = cases[case]
    return addresses[name], settings


CAUSES = {
    "wrong password": ("sasl.password", "refuses the user or the password"),
    "unknown user": ("sasl.password", "refuses the user or the password"),
    "wrong mechanism": ("sasl.mechanism", "set sasl.mechanism to SCRAM-SHA-512"),
    "expired": ("ssl.ca.location", "certificate that is out of date"),
    "foreign": ("ssl.ca.location", "authority that is not known here"),
    "wrong authority": ("ssl.ca.location", "authority that is not known here"),
    "other host": ("bootstrap_servers", "certificate for another host name"),
    "no client certificate": ("ssl.certificate.location", "wants a certificate of the client"),
    "plaintext to TLS": ("security.protocol", "as a TLS listener does"),
    "SASL to TLS": ("security.protocol", "as a TLS listener does"),
    "TLS to plaintext": ("security.protocol", "does no TLS"),
    "SASL and TLS to plaintext": ("security.protocol", "does no TLS"),
    "TLS without SASL": ("security.protocol", "wants a user"),
    "no SASL": ("security.protocol", "wants a user"),
    "SASL to plaintext": ("security.protocol", "does no SASL"),
    "SASL where there is none": ("security.protocol", "does no SASL"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_a_client_that_is_refused(secured: SecuredBroker, case: str) -> None:
    """Admin and tools end with the same typed error, which names address, cause and setting."""
    setting, words = CAUSES[case]
    address, settings = settings_of(secured, case)
    for ask in (
        lambda: KafkaAdmin(
            AdminRequests({"bootstrap.servers": address, "client.id": "shop-admin", **settings})
        ).describe(["t"]),
        lambda: KafkaConsole(address, settings).admin.topics(),
        lambda: KafkaConsole(address, settings).groups.members("shop"),
    ):
        started = time.monotonic()
        with pytest.raises(AccessRefusedError) as caught:
            ask()
        assert time.monotonic() - started < LINE_S_MAX
        assert caught.value.setting == setting
        assert f"{address} " in str(caught.value)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ["wrong password", "expired", "plaintext to TLS"])
def test_a_reader_that_is_refused(secured: SecuredBroker, case: str) -> None:
    """A reader of immediate sinks gets the cause from its `poll`, as a worker does."""
    setting, words = CAUSES[case]
    address, settings = settings_of(secured, case)
    reader = ImmediateReader({"bootstrap.servers": address, "group.id": "r", **settings}, ["out"])
    started = time.monotonic()
    with pytest.raises(AccessRefusedError, match=words) as caught:
        reader.poll(3 * LINE_S_MAX)
    assert time.monotonic() - started < LINE_S_MAX
    assert caught.value.setting == setting
    reader.close()


def test_who_has_what_the_listener_wants(secured: SecuredBroker) -> None:
    """User and password, a client's certificate, and tokens of `oauth_cb` each have access."""
    tokens: list[str] = []

    def token(_: str) -> tuple[str, float]:
        made = unsigned_token("ada")
        tokens.append(made[0])
        return made

    oauth = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}
    for name, settings in (
        ("scram", secured.scram),
        ("mutual", secured.tls | secured.client_certificate),
        ("tokens", oauth | {"oauth_cb": token}),
    ):
        with KafkaConsole(secured.addresses[name], settings) as kafka:
            assert kafka.admin.topics() == []  # without rights nothing is listed
    assert len(tokens) == 1


def test_a_token_that_is_none(secured: SecuredBroker) -> None:
    """What `oauth_cb` raises or returns is reported at once, and so is a token that is refused."""
    oauth = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}
    address = secured.addresses["tokens"]

    def fails(_: str) -> tuple[str, float]:
        raise OSError("the token server is away")

    for callback, words in (
        (fails, "OSError: the token server is away"),
        (lambda _: ("x", time.time() - 1), "over already"),
        (lambda _: "x", "a token and the time of its end"),
        (lambda _: ("x", time.time() + 60), "refuses the token"),
    ):
        started = time.monotonic()
        with pytest.raises(AccessRefusedError, match=words) as caught:
            KafkaConsole(address, oauth | {"oauth_cb": callback}).admin.topics()
        assert time.monotonic() - started < LINE_S_MAX
        assert caught.value.setting == "oauth_cb"
    with pytest.raises(ConfigError, match="oauth_cb"):
        KafkaConsole(address, oauth)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "127.0.0.1:1 has nobody listening"),
        ("kafka.nowhere.invalid:9092", "kafka.nowhere.invalid:9092 is not known to the name"),
    ],
)
def test_an_address_without_a_broker(address: str, words: str) -> None:
    """A tool ends within ten seconds; a worker's admin says why it waits by then."""
    started = time.monotonic()
    kafka = KafkaConsole(address)  # its end, after the error, takes the client three seconds
    with pytest.raises(KafkaUnavailableError, match=words):
        kafka.admin.topics()
    assert time.monotonic() - started < LINE_S_MAX
    admin = KafkaAdmin(
        AdminRequests({"bootstrap.servers": address, "client.id": "x"}, deadline_s=5.0)
    )
    with structlog.testing.capture_logs() as logs, pytest.raises(ClusterError, match=words):
        admin.describe(["t"])
    reports = [line for line in logs if line["event"] == "Kafka does not answer, waiting"]
    assert [words in line["reason"] for line in reports] == [True]


def test_a_server_that_says_nothing() -> None:
    """Something listens there, and is no broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(KafkaUnavailableError, match="did not answer within 8 s"):
            KafkaConsole(f"127.0.0.1:{server.getsockname()[1]}").admin.topics()
        assert time.monotonic() - started < LINE_S_MAX


@pytest.mark.parametrize(
    "case", ["wrong password", "wrong mechanism", "expired", "plaintext to TLS"]
)
def test_a_worker_and_the_command_line(secured: SecuredBroker, case: str, tmp_path: Path) -> None:
    """Both end with exit code 1, and write the cause and little else."""
    _, words = CAUSES[case]
    address, kafka = settings_of(secured, case)
    settings = {
        "application_id": "shop",
        "bootstrap_servers": address,
        "kafka": kafka,
        "state_dir": str(tmp_path),
    }
    arguments = {
        "inputs": ["in"],
        "output": "out",
        "settings": settings,
        "until": None,
        "workers": None,
        "options": {},
        "file_bytes_max": None,
    }
    tool = [sys.executable, "-m", "kstash.cli.main", "topics", "list", "-b", address]
    worker = [sys.executable, "-m", "tests.integration.programs", "words", json.dumps(arguments)]
    for command in (tool, worker):
        started = time.monotonic()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": "0", "KSTASH_KAFKA": json.dumps(kafka), "COLUMNS": "500"},
            timeout=60,
            check=False,
        )
        took_s = time.monotonic() - started
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) < 30, done.stderr
        assert took_s < PROCESS_S_MAX + LINE_S_MAX, done.stderr

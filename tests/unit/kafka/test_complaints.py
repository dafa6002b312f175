"""What a client says while it gets no answer: one cause, the setting to mend, and no long wait."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException

from kstash.errors import AccessRefusedError, KafkaUnavailableError
from kstash.kafka import complaints
from kstash.kafka.admin import KafkaAdmin
from kstash.kafka.admin_requests import AdminRequests
from kstash.kafka.causes import cause_of
from kstash.kafka.complaints import Complaints, first_contact
from kstash.kafka.console import KafkaConsole

AT = "127.0.0.1:9093"
SETTINGS = {"bootstrap.servers": AT}

# As librdkafka 2.16 said it of a broker of Kafka 4.2 with one listener of each kind.
WRONG_PASSWORD = (
    f"sasl_ssl://{AT}/bootstrap: SASL authentication error: Authentication failed during "
    "authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 336ms in "
    "state AUTH_REQ)"
)
WRONG_MECHANISM = (
    f"sasl_ssl://{AT}/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL "
    "mechanism: broker's supported mechanisms: SCRAM-SHA-512 (after 303ms in state AUTH_HANDSHAKE)"
)
NO_SASL = (
    f"sasl_ssl://{AT}/bootstrap: SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Request "
    "not valid in current SASL state: broker's supported mechanisms:  (after 16ms in state "
    "AUTH_HANDSHAKE)"
)
BAD_TOKEN = (
    f'sasl_plaintext://{AT}/bootstrap: SASL authentication error: {{"status":"invalid_token"}} '
    "(after 324ms in state AUTH_REQ)"
)
BAD_CERTIFICATE = (
    f"ssl://{AT}/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify "
    "failed: broker certificate could not be verified, verify that ssl.ca.location is correctly "
    "configured or root CA certificates are installed (install ca-certificates package) (after "
    "11ms in state SSL_HANDSHAKE)"
)
NO_CERTIFICATE = (
    f"ssl://{AT}/bootstrap: Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate "
    "required: SSL alert number 116 (after 4ms in state APIVERSION_QUERY)"
)
NO_TLS = (
    f"ssl://{AT}/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer: "
    "connecting to a PLAINTEXT broker listener? (after 20ms in state SSL_HANDSHAKE)"
)
WANTS_TLS = (
    f"{AT}/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 64ms "
    "in state APIVERSION_QUERY)"
)
WANTS_SASL = (
    f"ssl://{AT}/bootstrap: Disconnected: SSL connection closed by peer (after 1ms in state UP)"
)
UNRESOLVED = (
    "kafka.nowhere.invalid:9092/bootstrap: Failed to resolve 'kafka.nowhere.invalid:9092': Name or "
    "service not known (after 5ms in state CONNECT)"
)
NOBODY = (
    f"{AT}/bootstrap: Connect to ipv4#{AT} failed: Connection refused (after 0ms in state CONNECT)"
)
NO_KAFKA = (
    f"{AT}/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): increase "
    "receive.message.max.bytes (after 2ms in state APIVERSION_QUERY)"
)
DYING = (
    f"sasl_ssl://{AT}/bootstrap: SASL authentication error: SaslAuthenticateRequest failed: Local: "
    "Broker transport failure (after 3ms in state AUTH_REQ)"
)


@pytest.mark.parametrize(
    ("words", "setting", "what", "weight"),
    [
        (WRONG_PASSWORD, "sasl.password", "refuses the user or the password", 3),
        (WRONG_MECHANISM, "sasl.mechanism", "set sasl.mechanism to SCRAM-SHA-512", 3),
        (NO_SASL, "security.protocol", "does no SASL", 3),
        (BAD_TOKEN, "oauth_cb", "refuses the token", 3),
        (BAD_CERTIFICATE, "ssl.ca.location", "certificate that does not hold", 3),
        (NO_CERTIFICATE, "ssl.certificate.location", "wants a certificate of the client", 3),
        (NO_TLS, "security.protocol", "does no TLS", 2),
        (WANTS_TLS, "security.protocol", "as a TLS listener does", 2),
        (WANTS_SASL, "security.protocol", "wants a user", 2),
        (UNRESOLVED, "bootstrap_servers", "not known to the name service", 1),
        (NOBODY, "bootstrap_servers", "nobody listening", 1),
        (NO_KAFKA, "bootstrap_servers", "does not answer as Kafka does", 1),
    ],
)
def test_each_kind_of_error_has_its_cause(words: str, setting: str, what: str, weight: int) -> None:
    """What the client says leads to one cause, with what to do and the setting to mend."""
    cause = cause_of(words)
    assert cause is not None
    assert what in f"{cause.what}: {cause.fix}"
    assert cause.setting == setting
    assert cause.weight == weight
    assert setting in cause.fix or setting in ("sasl.password", "oauth_cb", "bootstrap_servers")


def test_a_broker_that_dies_while_it_looks_at_a_password_refuses_none() -> None:
    """The client tells it as an authentication error; it is the end of a connection."""
    assert cause_of(DYING) is None


class Client:
    """An admin client whose errors come when it is polled, and which answers when it is told to."""

    def __init__(self) -> None:
        self.told: Callable[[], None] = lambda: None
        self.future: Future[Any] = Future()

    def poll(self, _: float) -> None:
        """Serve errors."""
        self.told()

    def list_topics(self, **_: object) -> None:
        """Nobody answers."""
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complaints, "LOOK_S", 0.001)


def _seconds() -> Callable[[], float]:
    """A clock that goes on by half a second each time that it is read."""
    ticks: Iterator[float] = itertools.count(0.0, 0.5)
    return lambda: next(ticks)


def _error(words: str, code: int = KafkaError._TRANSPORT) -> KafkaError:
    return KafkaError(code, words)


@pytest.mark.parametrize("words", [WRONG_PASSWORD, WRONG_MECHANISM, NO_SASL, NO_CERTIFICATE])
def test_a_refusal_ends_the_wait_at_once(words: str) -> None:
    """At the first error of the kind, with address, cause, fix, and the client's own words."""
    client = Client()
    told = Complaints(SETTINGS)
    client.told = lambda: told.on_error(_error(words))
    with pytest.raises(AccessRefusedError, match=re.escape(f"no access to Kafka: {AT} ")) as caught:
        told.wait(client, client.future, 60)  # type: ignore[arg-type] # what it needs of one
    cause = cause_of(words)
    assert cause is not None
    assert caught.value.setting == cause.setting
    assert caught.value.is_lasting
    assert "(the client says: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [NO_TLS, WANTS_TLS, WANTS_SASL])
def test_the_wrong_protocol_is_a_refusal_when_it_comes_again_and_again(words: str) -> None:
    """Once it may be a broker that dies; some of these come in the log only."""
    client = Client()
    told = Complaints(SETTINGS, monotonic=_seconds())
    client.told = lambda: told.log(20, "FAIL [rdkafka#producer-1] [thrd:x]: %s", words)
    with pytest.raises(AccessRefusedError) as caught:
        told.wait(client, client.future, 60)  # type: ignore[arg-type]
    assert caught.value.setting == "security.protocol"
    assert not caught.value.is_lasting
    once = Complaints(SETTINGS, monotonic=_seconds())
    once.on_error(_error(words))
    with pytest.raises(TimeoutError):
        once.wait(Client(), Future(), 6)  # type: ignore[arg-type]
    assert once.reason.startswith(AT)


def test_one_dead_broker_of_three_refuses_nobody() -> None:
    """A proxy before a dead broker closes as a TLS listener does; the others answer, if later."""
    servers = f"{AT},PLAINTEXT://127.0.0.1:9094, other"
    clock = itertools.count(0.0, complaints.STUBBORN_S)
    gathered = Complaints({"bootstrap.servers": servers}, monotonic=lambda: next(clock))
    for _ in range(2 * complaints.STUBBORN_COUNT):
        gathered.on_error(KafkaError(KafkaError._TRANSPORT, WANTS_TLS))
        gathered.check()
    assert "security.protocol" in gathered.reason  # told, if there is no answer in the end
    gathered.on_error(KafkaError(KafkaError._TRANSPORT, WANTS_TLS.replace("9093", "9094")))
    gathered.check()
    gathered.on_error(KafkaError(KafkaError._TRANSPORT, WANTS_TLS.replace(AT, "other:9092")))
    with pytest.raises(AccessRefusedError):
        gathered.check()


def test_an_address_that_does_not_answer_is_told_once_and_waited_for() -> None:
    """A broker that starts as well is waited for, and the log says what is missing."""
    client = Client()
    told = Complaints(SETTINGS, monotonic=_seconds())
    client.told = lambda: told.on_error(_error(NOBODY))
    with structlog.testing.capture_logs() as logs, pytest.raises(TimeoutError):
        told.wait(client, client.future, 20)  # type: ignore[arg-type]
    assert [line["event"] for line in logs] == ["Kafka does not answer, waiting"]
    assert "nobody listening (connection refused): start the broker" in logs[0]["reason"]


def test_what_was_answered_once_is_waited_for() -> None:
    """After the first answer an outage is an outage: no error of a connection is a refusal."""
    client = Client()
    told = Complaints(SETTINGS)
    client.future.set_result("here")
    assert told.wait(client, client.future, 1) == "here"  # type: ignore[arg-type]
    told.on_error(_error(WRONG_PASSWORD))
    assert told.reason == ""
    with pytest.raises(TimeoutError):
        told.wait(client, Future(), 0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "is_over"), [(29, True), (KafkaError._TIMED_OUT, False)])
def test_an_error_of_the_broker_is_an_answer(code: int, is_over: bool) -> None:
    """One of the client itself is none."""
    client = Client()
    told = Complaints(SETTINGS)
    client.future.set_exception(KafkaException(KafkaError(code)))
    with pytest.raises(KafkaException):
        told.wait(client, client.future, 1)  # type: ignore[arg-type]
    assert told.is_over == is_over


def test_the_heaviest_cause_is_told() -> None:
    """Of two addresses one of which has nobody, the one that refuses the password counts."""
    told = Complaints(SETTINGS)
    told.on_error(_error(NOBODY))
    told.on_error(_error(WRONG_PASSWORD))
    told.on_error(_error(UNRESOLVED))
    assert "refuses the user or the password" in told.reason


def test_a_tool_waits_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is waited for a little while; then the error names the cause."""
    monkeypatch.setattr(complaints, "CONTACT_S", 0.01)
    client = Client()
    told = Complaints(SETTINGS, monotonic=_seconds())
    client.told = lambda: told.on_error(_error(UNRESOLVED))
    with pytest.raises(
        KafkaUnavailableError, match=r"did not answer within 0\.01 s: kafka\.nowhere"
    ):
        first_contact(client, told, AT, 30.0)  # type: ignore[arg-type]
    assert not told.is_over


@pytest.mark.parametrize(
    "ask",
    [
        lambda: KafkaConsole("127.0.0.1:1", deadline_s=0.4).admin.topics(),
        lambda: KafkaConsole("127.0.0.1:1", deadline_s=0.4).admin.stable_ends([("t", 0)]),
        lambda: KafkaConsole("127.0.0.1:1", deadline_s=0.4).groups.existing(["g"]),
        lambda: KafkaConsole("127.0.0.1:1", deadline_s=0.4).groups.members("g"),
        lambda: KafkaAdmin(
            AdminRequests({"bootstrap.servers": "127.0.0.1:1", "client.id": "x"}, deadline_s=0.4)
        ).describe(["t"]),
    ],
    ids=["topics", "offsets", "groups", "members", "admin"],
)
def test_who_asks_first_says_why_there_is_no_answer(
    ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real clients, on a port where nobody listens."""
    monkeypatch.setattr(complaints, "CONTACT_S", 0.4)
    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1 has nobody listening"):
        ask()

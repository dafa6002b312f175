"""Errors of a client that gets no answer, turned into one cause with the setting to mend.

A client that cannot connect tries for ever, each time with an error, and most of these say less
than the first. So its errors are gathered here until the cluster has answered once:

- a refusal (credentials, mechanism, certificates) ends the wait at once: waiting mends none;
- signs of a wrong `security.protocol` end it when they have come again and again from each of
  `bootstrap_servers`. A broker that dies in a handshake, and a proxy without its broker, give the
  same signs; but then the others of the cluster answer, if later;
- an address that does not answer is reported, and waited for: brokers start as well.

After the first answer nothing here counts any more: an outage is survived.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from kstash.errors import AccessRefusedError
from kstash.kafka import failures
from kstash.kafka.causes import CERTIFICATE, VERIFY_CODES, Cause, cause_of
from kstash.kafka.clients import client_logger

LOOK_S = 0.05
TELL_S = 3.0
"""How long a client has got no answer when the log says why."""
STUBBORN_S = 5.0
STUBBORN_COUNT = 3
CERTIFICATE_TIMEOUT_S = 2.0
OUTLIVE_S = 60.0
ATTEMPT_S = 0.5
ATTEMPT_S_MAX = 2.0
"""How long one request of a tool may take before the client's errors are checked."""
CONTACT_S = 8.0
"""How long a tool waits for the first answer. A worker waits longer: brokers start as well."""

log = structlog.get_logger("kstash.kafka")

T = TypeVar("T")


_ADDRESS = re.compile(r"(?:^|\s|//)(\[[0-9a-f:]+\]|[\w.-]+):(\d+)/")


class Complaints:
    """Gathers what an admin client says of its connections until it is answered.

    Args:
        settings: of the client.
        monotonic: seconds that never go back.

    Attributes:
        is_over: whether the cluster has answered; nothing is gathered any more.
    """

    def __init__(
        self, settings: Mapping[str, Any], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.is_over = False
        self._settings = settings
        self._servers = str(settings.get("bootstrap.servers", ""))
        self._monotonic = monotonic
        self._logger = client_logger(str(settings.get("client.id", "tools")))
        self._found: dict[Cause, tuple[str, str, int, float]] = {}
        self._silent = _addresses(self._servers)
        """Those that have not complained of the protocol: one of them may answer yet."""
        self._certificate: Cause | None = None
        self._since: float | None = None
        self._is_told = False

    def on_error(self, error: KafkaError) -> None:
        """Take an error of the client (`error_cb`)."""
        self._take(error.str())

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Take a line of the client's log: some causes are reported nowhere else."""
        text = message % arguments if arguments else message
        if text.startswith(("FAIL", "SSL")):
            self._take(text)
        if not text.startswith("SSL"):  # reported with each connection, and part of the cause
            self._logger.log(level, message, *arguments)

    def wait(self, client: AdminClient, future: Future[T], timeout_s: float) -> T:
        """Wait for an answer; before the first one the client's errors are checked meanwhile.

        Raises:
            AccessRefusedError: the cluster refuses this client, which waiting does not mend.
            TimeoutError: no answer within `timeout_s`.
        """
        if self.is_over:
            return future.result(timeout_s)
        deadline = self._monotonic() + timeout_s
        self.check()
        try:
            while not wait([future], LOOK_S).done:
                client.poll(0)
                self.check()
                if self._monotonic() >= deadline:
                    raise TimeoutError
        except (AccessRefusedError, TimeoutError):
            _outlive(client, future)
            raise
        try:
            result = future.result(0)
        except KafkaException as error:
            inner = failures.kafka_error(error)
            if inner is not None and inner.code() > 0:  # the client's own are below
                self.answered()
            raise
        self.answered()
        return result

    def check(self, *, is_asking: bool = True) -> None:
        """Check the client's errors until now, and log once that there is no answer.

        Args:
            is_asking: an answer is due; else silence is no news.

        Raises:
            AccessRefusedError: the cluster refuses this client.
        """
        now = self._monotonic()
        if self._since is None:
            self._since = now
        refusal = self._refusal()
        if refusal is not None:
            raise refusal
        is_news = (is_asking or self._found) and not self.is_over and not self._is_told
        if is_news and now - self._since >= TELL_S:
            self._is_told = True
            log.warning("Kafka does not answer, waiting", reason=self.reason or "no answer")

    def answered(self) -> None:
        """The cluster has answered: from now on outages are outages."""
        self.is_over = True
        self._found.clear()

    @property
    def reason(self) -> str:
        """The heaviest cause found, in one line; empty when there is none."""
        if not self._found:
            return ""
        return self._line(max(self._found, key=lambda cause: cause.weight))

    def _line(self, cause: Cause) -> str:
        address, words, _, _ = self._found[cause]
        return f"{address} {cause.what}: {cause.fix} (the client says: {words})"

    def _take(self, words: str) -> None:
        cause = None if self.is_over else cause_of(words)
        if cause is None:
            return
        found = _ADDRESS.search(words)
        address = f"{found[1]}:{found[2]}" if found else self._servers
        if cause is CERTIFICATE and found:
            if self._certificate is None:
                self._certificate = self._look(found[1], int(found[2]))
            cause = self._certificate
        at, first, count, since = self._found.get(
            cause, (address, _short(words), 0, self._monotonic())
        )
        self._found[cause] = at, first or _short(words), count + 1, since
        if cause.weight == 2:
            self._silent.discard(address)

    def _refusal(self) -> AccessRefusedError | None:
        now = self._monotonic()
        for cause, (_, _, count, since) in self._found.items():
            is_stubborn = count >= STUBBORN_COUNT and now - since >= STUBBORN_S
            is_stubborn = is_stubborn and not self._silent
            if cause.weight == 3 or (cause.weight == 2 and is_stubborn):
                return AccessRefusedError(
                    f"no access to Kafka: {self._line(cause)}",
                    cause.setting,
                    is_lasting=cause.weight == 3,
                )
        return None

    def _look(self, host: str, port: int) -> Cause:
        """Why a certificate does not hold: the client says only that."""
        host = host.strip("[]")
        with suppress(OSError, ValueError):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            algorithm = self._settings.get("ssl.endpoint.identification.algorithm", "https")
            context.check_hostname = algorithm != "none"
            file, text = self._settings.get("ssl.ca.location"), self._settings.get("ssl.ca.pem")
            if file or text:
                context.load_verify_locations(cafile=file, cadata=text)
            else:
                context.load_default_certs()
            try:
                with (
                    socket.create_connection((host, port), CERTIFICATE_TIMEOUT_S) as plain,
                    context.wrap_socket(plain, server_hostname=host),
                ):
                    pass
            except ssl.SSLCertVerificationError as error:
                return VERIFY_CODES.get(error.verify_code, CERTIFICATE)
        return CERTIFICATE


def _outlive(client: AdminClient, future: Future[Any]) -> None:
    """Keep a client until its last request is over.

    The end of a request is reported in a thread of the client's own, where Python may collect
    garbage: a client that is destroyed there aborts the process (librdkafka 2.16).
    """

    def hold(_: AdminClient) -> None:
        wait([future], OUTLIVE_S)
        time.sleep(1.0)  # its callbacks run after that

    threading.Thread(target=hold, args=(client,), name="kstash-refused", daemon=True).start()


def first_contact(
    client: AdminClient, complaints: Complaints, bootstrap_servers: str, deadline_s: float
) -> None:
    """Wait until a cluster has answered a client once.

    Raises:
        AccessRefusedError: it refuses this client.
        KafkaUnavailableError: no answer within `deadline_s`, or `CONTACT_S` if that is less; says
            why, where that is known.
    """
    if complaints.is_over:
        return
    deadline_s = min(deadline_s, CONTACT_S)
    deadline = time.monotonic() + deadline_s
    timeout_s = ATTEMPT_S
    while not complaints.is_over:
        complaints.check()
        try:
            # Any broker answers this; other questions wait for the controller.
            left_s = deadline - time.monotonic()
            client.list_topics(timeout=max(LOOK_S, min(timeout_s, left_s)))
            complaints.answered()
        except KafkaException as error:
            inner = failures.kafka_error(error)
            if inner is not None and inner.code() > 0:  # the client's own are below
                complaints.answered()
                return
            client.poll(LOOK_S)
            complaints.check()
            if time.monotonic() >= deadline:
                raise failures.unavailable(
                    bootstrap_servers, "answer", deadline_s, error, complaints.reason
                ) from error
        timeout_s = min(2 * timeout_s, ATTEMPT_S_MAX)


def _addresses(servers: str) -> set[str]:
    """Each `host:port` of `bootstrap.servers`, as the client says it in its errors."""
    names = (name.strip().rpartition("://")[2] for name in servers.split(","))
    return {name if re.search(r":\d+$", name) else f"{name}:9092" for name in names if name}


def _short(words: str) -> str:
    """The client's text without the parts before and after the error."""
    words = re.sub(r"^.*?/(?:bootstrap|\d+): ", "", words.strip(), flags=re.DOTALL)
    return re.sub(r"\s*\(after \d+ms in state .*", "", words, flags=re.DOTALL)

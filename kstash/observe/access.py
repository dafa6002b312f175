"""Who may ask over HTTP, and how the connection is protected: token and TLS."""

from __future__ import annotations

import hmac
import os
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import structlog

from kstash.errors import ConfigError
from kstash.observe.asking import trusting
from kstash.observe.guard import names_of
from kstash.settings.config import Config

RENEW_S = 5
"""How often the files of a certificate are checked."""

log = structlog.get_logger("kstash.http")


class Certificate:
    """A server's certificate and its key; a renewed one is used for the next connections.

    Args:
        certificate: file with the certificate and those of its issuers, in PEM.
        key: file with its key, without a passphrase.

    Attributes:
        context: for servers.

    Raises:
        ConfigError: they cannot be used; names the setting.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._state()
        self._of_client: tuple[object, ssl.SSLContext] | None = None
        if problem := self._load(self.context):
            raise ConfigError(*problem)

    def renew(self) -> None:
        """Load files that have changed; where they cannot be used, log it and keep the old ones."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        # Tried apart: a certificate that does not fit its key would leave the server without one.
        problem = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) or self._load(self.context)
        if problem:
            log.warning(
                "the renewed certificate cannot be used, the old one stays", reason=problem[0]
            )
        else:
            log.info("certificate renewed", file=self._files[0])

    def client_context(self) -> ssl.SSLContext:
        """For questions to other workers; see `kstash.observe.asking.trusting`."""
        if self._of_client is None or self._of_client[0] != self._seen:
            self._of_client = self._seen, trusting(self._files[0])
        return self._of_client[1]

    def _state(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in self._files:
            try:
                status = os.stat(path)  # noqa: PTH116 - Kubernetes changes a link in between
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError as error:
                found.append(error.errno)
        return tuple(found)

    def _load(self, context: ssl.SSLContext) -> tuple[str, str] | None:
        """The error for these files; it names the setting and the fix."""
        for path, setting in zip(
            self._files, ("http_tls_certificate", "http_tls_key"), strict=True
        ):
            if not os.access(path, os.R_OK):
                return f"{setting} {path!r} cannot be read: set the path of a file in PEM", setting
        try:
            # Without this a key with a passphrase would ask for it at the terminal.
            context.load_cert_chain(*self._files, password=lambda: "")
        except (OSError, ValueError) as error:
            detail = getattr(error, "reason", None) or error
            return (
                f"{self._files[0]!r} and {self._files[1]!r} are no certificate and its key "
                f"({detail}): both take a file in PEM, the key without a passphrase",
                "http_tls_certificate",
            )
        return None


@dataclass(frozen=True, slots=True)
class Access:
    """Which requests a server answers.

    Attributes:
        names: host names that are answered (see `kstash.observe.guard`).
        token: required of each request but probes and the page's own files; None: none is.
        certificate: for TLS; None: plain HTTP.
    """

    names: Collection[str] = ("*",)
    token: bytes | None = None
    certificate: Certificate | None = None

    @classmethod
    def of(cls, config: Config) -> Self:
        """The access that the settings allow.

        Raises:
            ConfigError: the certificate cannot be used.
        """
        certificate, key = config.http_tls_certificate, config.http_tls_key
        return cls(
            names_of(config.http_host, config.http_hosts_allowed),
            config.http_token.encode() if config.http_token else None,
            Certificate(certificate, key) if certificate and key else None,
        )

    def is_admitted(self, authorization: bytes) -> bool:
        """Whether the `Authorization` of a request is right, compared in constant time."""
        if self.token is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        is_same = hmac.compare_digest(given.strip(), self.token)
        return scheme.lower() == b"bearer" and is_same

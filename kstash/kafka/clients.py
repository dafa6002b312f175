"""The one place where Kafka clients are made: their log, their errors, and settings they refuse.

Every client gets an `error_cb`, since librdkafka writes what nobody takes to standard error, and a
logger. What is wrong with a setting comes as a `ConfigError` that names it.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from kstash.errors import AccessRefusedError, ConfigError
from kstash.kafka import failures
from kstash.kafka.lines import ClientLines
from kstash.kafka.rotation import ROTATION, Client

OnError = Callable[[KafkaError], None]

_NAMED = re.compile(
    r'property:? "([\w.]+)"|^(?:Failed to create [\w ]+: )?`?([a-z][\w]*(?:\.[\w]+)+)|(oauth_cb)'
)
"""How the client says which setting is wrong."""

_ALIASES = {
    "sasl.mechanisms": "sasl.mechanism",
    "queue.buffering.max.ms": "linger.ms",
    "compression.codec": "compression.type",
}
"""Names that the client uses for settings which the user knows by another."""

_JAVA = {
    "sasl.jaas.config": "sasl.username and sasl.password",
    "ssl.truststore.location": "ssl.ca.location, the CA certificates as a PEM file",
    "ssl.truststore.password": "ssl.ca.location, the CA certificates as a PEM file",
    "ssl.truststore.type": "ssl.ca.location, the CA certificates as a PEM file",
    "ssl.keystore.type": "ssl.certificate.location and ssl.key.location, PEM files",
}
"""Settings of the Java client, and what stands in their place."""

_COMMON = (
    "enable.ssl.certificate.verification",
    "oauth_cb",
    "sasl.mechanism",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
)
"""Settings that are misspelt most: those that a secured cluster needs."""


class ClientLogger(Protocol):
    """What a client's log lines are given to: `ClientLines`, or what passes them on."""

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Take one line."""


C = TypeVar("C", bound=Client)


class _Consumer(Consumer):
    """A client that may get a new password, but not while it closes."""

    __slots__ = ("__weakref__",)

    def close(self) -> None:
        """Leave the group and close; it gets no new password any more."""
        ROTATION.remove(self)
        super().close()


class _Producer(Producer):
    """One that may be referred to weakly; it ends with the last reference."""

    __slots__ = ("__weakref__",)


def client_logger(client: str) -> ClientLogger:
    """What takes a client's log lines: they become events of `kstash.client.<client>`."""
    return ClientLines(client)


def make_admin(
    settings: Mapping[str, Any],
    *,
    logger: ClientLogger | None = None,
    on_error: OnError | None = None,
) -> AdminClient:
    """Make an admin client. Its errors and its log are served by its `poll` alone.

    Args:
        settings: of the client.
        logger: takes its log in the place of its own.
        on_error: takes what the client says of its connections; None: nobody does.

    Raises:
        ConfigError: a setting that the client does not take; named.
    """
    return _make(AdminClient, settings, on_error, logger)


def check_client_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that no client can be made with, without asking a broker or for a token.

    Raises:
        ConfigError: a setting that the client does not take; named.
    """
    if callable(settings.get("oauth_cb")):
        settings = {**settings, "oauth_cb": lambda _: ("", time.time() + 60.0)}
    # Without an address it connects to nobody.
    make_admin({**settings, "log_level": 0})


def make_consumer(
    settings: Mapping[str, Any],
    *,
    logger: ClientLogger | None = None,
    on_error: OnError | None = None,
) -> Consumer:
    """Make a consumer, as `make_admin`."""
    return _make(_Consumer, settings, on_error, logger)


def make_producer(
    settings: Mapping[str, Any],
    *,
    logger: ClientLogger | None = None,
    on_error: OnError | None = None,
) -> Producer:
    """Make a producer, as `make_admin`; `logger` takes its log in the place of its own."""
    return _make(_Producer, settings, on_error, logger)


def _make(
    kind: Callable[[dict[str, Any]], C],
    settings: Mapping[str, Any],
    on_error: OnError | None,
    logger: ClientLogger | None,
) -> C:
    settings = ROTATION.renewed(settings)
    _check_tokens(settings)
    if "oauth_cb" in settings:
        settings = {**settings, "oauth_cb": _Tokens(settings)}
    # Both may be a user's own, in settings of a reader.
    chosen = {"error_cb": on_error or _nobody, **settings}
    if "logger" not in settings:
        chosen["logger"] = logger or client_logger(str(settings.get("client.id", "tools")))
    try:
        client = kind(chosen)
    except (TypeError, ValueError) as error:
        raise _refused(settings, error) from error
    except failures.CLIENT_ERRORS as error:
        raise _refused(settings, error) from error
    ROTATION.add(client, settings)
    return client


class _Tokens:
    """A user's `oauth_cb`, called once before the client is made.

    The client would wait for ten seconds for a token, and then not say why there is none.

    Raises:
        AccessRefusedError: there is no token.
        ConfigError: it is no function.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._callback = settings["oauth_cb"]
        if not callable(self._callback):
            raise ConfigError(f"{_where('oauth_cb')} must be callable", "kafka")
        argument = str(settings.get("sasl.oauthbearer.config", ""))
        try:
            self._first: Any = self._callback(argument)
        except Exception as error:
            raise AccessRefusedError(
                f"no access to Kafka: oauth_cb raised {type(error).__name__}: {error}", "oauth_cb"
            ) from error
        match self._first:
            case (str(), float() | int() as ends, *_) if ends <= time.time():
                wrong = f"a token that is over already ({ends:.0f}, in seconds since 1970)"
            case (str(), float() | int(), *_):
                return
            case _:
                wrong = f"{type(self._first).__name__}, not a token and the time of its end"
        raise AccessRefusedError(f"no access to Kafka: oauth_cb returned {wrong}", "oauth_cb")

    def __call__(self, argument: str) -> Any:
        """A token for the client, from a thread of its own."""
        first, self._first = self._first, None
        return self._callback(argument) if first is None else first


def _check_tokens(settings: Mapping[str, Any]) -> None:
    """Refuse tokens of nobody, for which the client would wait without a word."""
    mechanism = settings.get("sasl.mechanism", settings.get("sasl.mechanisms"))
    has_tokens = (
        "oauth_cb" in settings
        or settings.get("sasl.oauthbearer.method") == "oidc"
        or str(settings.get("enable.sasl.oauthbearer.unsecure.jwt", "")).lower() == "true"
    )
    if mechanism == "OAUTHBEARER" and not has_tokens:
        raise ConfigError(
            f"{_where('sasl.mechanism')} OAUTHBEARER needs oauth_cb, a function that returns a "
            "token and the time of its end in seconds since 1970, or sasl.oauthbearer.method=oidc",
            "kafka",
        )


def _where(name: str) -> str:
    return f"kafka={{{name!r}: ...}}" if name else "kafka={...}"


def _nobody(_: KafkaError) -> None:
    """Take an error that is seen elsewhere: the call that it concerns fails or is tried again."""


def _refused(settings: Mapping[str, Any], error: BaseException) -> ConfigError:
    """The error for settings that no client can be made with, naming the setting and its fix."""
    inner = failures.kafka_error(error)
    words = (str(error) if inner is None else inner.str()).strip()
    found = _NAMED.search(words)
    name = next((group for group in found.groups() if group), "") if found else ""
    if not name and "SASL mechanism" in words:
        name = "sasl.mechanism"
    if words.startswith("Java "):
        name = next((setting for setting in settings if setting in _JAVA), "")
    if name not in settings and _ALIASES.get(name, "") in settings:
        name = _ALIASES[name]
    return ConfigError(
        f"{_where(name)} is refused by the Kafka client: {words}{_fix(name, words, settings)}",
        "kafka",
    )


def _fix(name: str, words: str, settings: Mapping[str, Any]) -> str:
    if name in _JAVA:
        return f"; that is a setting of the Java client: use {_JAVA[name]}"
    if "No such configuration property" in words:
        near = difflib.get_close_matches(name, _COMMON, 1, 0.7)
        return f"; did you mean {near[0]!r}?" if near else "; remove it, or correct its name"
    if name.endswith(".location") and name in settings:
        file = Path(str(settings[name]))
        if not file.exists():
            return f"; there is no file {str(file)!r}"
        return f"; {str(file)!r} must be readable, and hold PEM"
    if "GSSAPI" in words:
        return "; name the mechanism of the cluster in sasl.mechanism, such as SCRAM-SHA-512"
    return ""

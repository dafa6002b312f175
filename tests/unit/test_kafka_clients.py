"""Clients: made in one place, and a setting that they refuse is named with its fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import kstash.kafka
from kstash.errors import ConfigError
from kstash.kafka.clients import make_admin, make_consumer, make_producer
from kstash.kafka.tools import KafkaTools

NOWHERE = "127.0.0.1:1"
SASL = {"security.protocol": "SASL_PLAINTEXT"}

MAKERS: list[Callable[[Mapping[str, Any]], Any]] = [
    make_admin,
    lambda settings: make_consumer({"group.id": "g", **settings}),
    make_producer,
]


@pytest.mark.parametrize("make", MAKERS, ids=["admin", "consumer", "producer"])
@pytest.mark.parametrize(
    ("wrong", "name", "fix"),
    [
        ({"security.protocl": "SSL"}, "security.protocl", "did you mean 'security.protocol'"),
        ({"foo.bar": 1}, "foo.bar", "remove it, or correct its name"),
        ({"security.protocol": "TLS"}, "security.protocol", 'Invalid value "TLS"'),
        ({"linger.ms": "soon"}, "linger.ms", "Invalid value"),
        ({"socket.timeout.ms": 1}, "socket.timeout.ms", "outside allowed range 10"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/no/ca"}, "ssl.ca.location", "no file"),
        (
            {"security.protocol": "SSL", "ssl.certificate.location": __file__},
            "ssl.certificate.location",
            "must be readable, and hold PEM",
        ),
        ({"security.protocol": "SSL", "ssl.key.pem": "x"}, "ssl.key.pem", "not in PEM format"),
        ({"ssl.truststore.location": "a.jks"}, "ssl.truststore.location", "use ssl.ca.location"),
        ({"sasl.mechanism": "SCRAM", **SASL}, "sasl.mechanism", "Unsupported SASL mechanism"),
        ({"sasl.mechanism": "PLAIN", **SASL}, "sasl.username", "must be set"),
        (SASL, "sasl.mechanism", "such as SCRAM-SHA-512"),
        ({"oauth_cb": "token"}, "oauth_cb", "callable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_the_client_refuses(
    make: Callable[[Mapping[str, Any]], Any], wrong: dict[str, Any], name: str, fix: str
) -> None:
    """The error is a `ConfigError` of `kafka`, which names the client's setting and what to do."""
    with pytest.raises(ConfigError, match=re.escape(fix)) as caught:
        make({"bootstrap.servers": NOWHERE, **wrong})
    assert f"kafka={{{name!r}: ...}}" in str(caught.value)
    assert caught.value.setting == "kafka"


def test_the_command_line_says_it_too() -> None:
    """The tools of the command line make their clients in the same place."""
    with pytest.raises(ConfigError, match=r"security\.protocl"):
        KafkaTools(NOWHERE, {"security.protocl": "SSL"})


def test_clients_are_made_in_one_place() -> None:
    """No module of `kstash.kafka` but `clients` calls a class of the client."""
    folder = Path(kstash.kafka.__file__).parent
    made = re.compile(r"(?<![\w.])(?:AdminClient|Consumer|Producer|Client)\((?!Protocol|Admin)")
    found = {file.name for file in folder.glob("*.py") if made.search(file.read_text())}
    assert not found - {"clients.py"}, f"clients are made in {found}"

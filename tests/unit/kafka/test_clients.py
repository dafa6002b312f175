"""Clients: made in one place, and a setting that they refuse is named with its fix."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import kstash.kafka
from kstash.errors import AccessRefusedError, ConfigError
from kstash.kafka import client_settings as settings
from kstash.kafka.clients import make_admin, make_consumer, make_producer
from kstash.kafka.cluster import KafkaCluster
from kstash.kafka.console import KafkaConsole
from kstash.settings.config import Config

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
        KafkaConsole(NOWHERE, {"security.protocl": "SSL"})


def test_clients_are_made_in_one_place() -> None:
    """No module of `kstash.kafka` but `clients` calls a class of the client."""
    folder = Path(kstash.kafka.__file__).parent
    made = re.compile(r"(?<![\w.])(?:AdminClient|Consumer|Producer|Client)\((?!Protocol|Admin)")
    found = {file.name for file in folder.glob("*.py") if made.search(file.read_text())}
    assert not found - {"clients.py"}, f"clients are made in {found}"


def test_a_function_that_gives_tokens() -> None:
    """`oauth_cb` is a setting as others; no other function is, and it must be one."""

    def token(_: str) -> tuple[str, float]:
        return "secret", time.time() + 60

    config = Config.load(application_id="shop", kafka={"oauth_cb": token})
    assert settings.admin(config)["oauth_cb"] is token
    assert config.override(linger_ms=5).kafka["oauth_cb"] is token
    for wrong in ({"oauth_cb": "token"}, {"stats_cb": print}, {"client.rack": print}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Config.load(application_id="shop", kafka=wrong)


def test_each_client_has_its_token_before_it_is_made() -> None:
    """Called once for each, with what `sasl.oauthbearer.config` says; so it is told when it fails.

    The client would wait for ten seconds, and not say why.
    """
    asked: list[str] = []

    def token(argument: str) -> tuple[str, float]:
        asked.append(argument)
        return "secret", time.time() + 3600

    chosen = {
        "bootstrap.servers": NOWHERE,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.config": "scope=all",
    }
    for make in MAKERS:
        asked.clear()
        make({**chosen, "oauth_cb": token})
        assert asked == ["scope=all"]
    for returned, words in ((("x", 1.0), "over already"), ("x", "a token and the time of its end")):
        with pytest.raises(AccessRefusedError, match=words):
            make_admin({**chosen, "oauth_cb": lambda _, made=returned: made})
    with pytest.raises(ConfigError, match="OAUTHBEARER needs oauth_cb"):
        make_admin(chosen)


def test_no_question_of_a_producer_makes_a_topic() -> None:
    """On brokers that make what is asked for (Kafka's default): kstash makes its topics itself."""
    config = Config.load(application_id="shop")
    made = [
        settings.data_producer(config),
        settings.lineage_producer(config),
        settings.marker_producer(config),
        settings.claim_producer(config),
        settings.checkpoint_producer(config),
        settings.sink_producer(config, 0, 0),
    ]
    assert [one["allow.auto.create.topics"] for one in made] == [False] * 6


def test_later_clients_of_a_worker_know_that_there_is_access() -> None:
    """The cluster has answered the first one: for the others an outage is an outage."""
    cluster = KafkaCluster(Config.load(application_id="shop", bootstrap_servers=NOWHERE))
    first = cluster._new_admin()
    assert not first.has_access
    assert not cluster._new_admin().has_access
    first._requests._complaints.answered()
    assert cluster._new_admin().has_access
    cluster.close()

"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kstash.config import Config
from kstash.errors import ConfigError
from kstash.kafka.tools import KafkaTools

BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        "-b",
        metavar="HOST:PORT,...",
        help="Kafka's addresses. [default: KSTASH_BOOTSTRAP_SERVERS or localhost:9092]",
        show_default=False,
    ),
]


def open_tools(bootstrap_servers: str | None) -> KafkaTools:
    """Clients for the given servers, with `KSTASH_*` and the defaults for what is not given.

    Raises:
        ConfigError: a `KSTASH_*` variable is wrong.
    """
    given = {} if bootstrap_servers is None else {"bootstrap_servers": bootstrap_servers}
    config = Config.load(application_id="kstash-tools", **given)
    return KafkaTools(config.bootstrap_servers, config.kafka)


def assignments(values: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` arguments as a dict.

    Raises:
        ConfigError: one has no `=`.
    """
    pairs = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise ConfigError(f"{option} takes NAME=VALUE, not {value!r}", option)
        pairs[name] = text
    return pairs

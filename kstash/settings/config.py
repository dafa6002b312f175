"""Settings: one frozen object, validated once, that knows where each setting came from.

A setting comes from, in this order: the command line (`App.configure`), the variable
`KSTASH_<SETTING>` of the environment, the settings file, the keyword given to `App`, the default.
Settings of the Kafka client are taken one by one, and a variable for one of them goes before
`KSTASH_KAFKA`, which has several. Environment and file are read by `kstash.settings.sources`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import PrivateAttr, ValidationError, model_validator

from kstash.core import names
from kstash.escape import short_repr
from kstash.settings import derived
from kstash.settings.client import MS_MAX, check_client
from kstash.settings.fields import ConfigFields
from kstash.settings.misspellings import refuse_unknown
from kstash.settings.refusal import config_error
from kstash.settings.sources import (
    Layer,
    Origin,
    Sourced,
    find,
    merged,
    read_environment,
    read_file,
)

SETTING_MAX = 1 << 53
"""Of any other number: it may be counted with as a float."""


OWN_MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""`max.message.bytes` of new topics of kstash's own. A frame holds one record at least, and inputs
are as large as Kafka's default lets them be (1 MiB), or what a function made of that."""

NAME_PATTERN = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,100}\Z")
"""What an application id and the name of an operator may be: they become parts of topics and
folders, and `<application id>-<name>-repartition` must fit into Kafka's 249 characters."""


class Config(ConfigFields):
    """All settings of an application, and where each comes from.

    Each setting is described where it is declared, and in `docs/reference.md`.
    """

    _layers: tuple[Layer, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name, value in self:
            # `outage_ms_max` is compared with a topic's retention, which may be any.
            largest = MS_MAX if name.endswith("_ms") else SETTING_MAX
            if isinstance(value, int) and value > largest:
                raise ValueError(f"{name} is {short_repr(value)}, must be {largest} or less")
        if not NAME_PATTERN.match(self.application_id):
            raise ValueError(
                f"application_id {self.application_id!r} is not allowed: 1 to 100 letters, digits, "
                "dots, underscores or hyphens"
            )
        if reason := names.refusal(self.application_id):
            raise ValueError(f"application_id {self.application_id!r} is not allowed: {reason}")
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ValueError(
                f"heartbeat_interval_ms is {self.heartbeat_interval_ms}, more than a third of "
                f"session_timeout_ms ({self.session_timeout_ms}): lower it"
            )
        if self.sink_commit_interval_ms * 2 > self.transaction_timeout_ms:
            raise ValueError(
                f"sink_commit_interval_ms is {self.sink_commit_interval_ms}, more than half of "
                f"transaction_timeout_ms ({self.transaction_timeout_ms}), so that the broker would "
                "abort transactions before they are committed: raise the latter"
            )
        if (self.http_tls_certificate is None) != (self.http_tls_key is None):
            raise ValueError("http_tls_certificate and http_tls_key belong together: set both")
        derived.skipped_places(self)
        check_client(self.kafka)
        return self

    @classmethod
    def load(cls, command_line: Mapping[str, Any] | None = None, /, **settings: Any) -> Self:
        """Settings from a command line, the environment, the file, keywords and defaults.

        Args:
            command_line: what goes before all others.
            settings: what the program says: they count where nothing else is given.

        Raises:
            ConfigError: unknown (names the nearest setting), missing or out of range.
        """
        known = cls.model_fields
        for name in (*(command_line or {}), *settings):
            refuse_unknown(name, name, known)
        layers = [
            Layer("command line", command_line or {}),
            read_environment(os.environ, known),
            read_file(os.environ, known),
            Layer("code", settings),
        ]
        return cls._of([layer for layer in layers if layer.values])

    @classmethod
    def _of(cls, layers: Sequence[Layer]) -> Self:
        try:
            made = cls.model_validate(merged(layers))
        except ValidationError as error:
            raise config_error(error, layers) from None
        made._layers = tuple(layers)
        return made

    def override(self, origin: Origin = "command line", /, **settings: Any) -> Self:
        """A copy with other values, validated; settings of the Kafka client one by one.

        Args:
            origin: who says so.
            settings: they go before all that was given before, wherever it came from.

        Raises:
            ConfigError: unknown or out of range.
        """
        for name in settings:
            refuse_unknown(name, name, type(self).model_fields)
        return self._of([Layer(origin, settings), *layers_of(self)])


def layers_of(config: Config) -> tuple[Layer, ...]:
    """What each source gave, the one that counts first; with secrets."""
    if config._layers:
        return config._layers
    return (Layer("code", {name: getattr(config, name) for name in config.model_fields_set}),)


def sources_of(config: Config) -> list[Sourced]:
    """Each setting, and each of the Kafka client: what it is, and where it comes from.

    Secrets are masked; a list is its items with commas between them, or None.
    """
    layers = layers_of(config)
    found: list[Sourced] = []
    for name, value in config.model_dump(mode="json").items():
        if name == "kafka":
            found += [find(layers, f"kafka.{client}", item) for client, item in value.items()]
            continue
        text = ",".join(value) or None if isinstance(value, list) else value
        found.append(find(layers, name, text))
    return found

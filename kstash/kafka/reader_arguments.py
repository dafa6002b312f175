"""What a reader of immediate sinks may be given, and what it decides by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kstash.errors import ConfigError

DECIDED: Mapping[str, Any] = {
    "isolation.level": "read_uncommitted",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
}


def check_arguments(
    settings: object, topics: object, restore: object, on_revoked: object, bytes_max: object
) -> None:
    """Refuse arguments of another kind, before a client is made."""
    if not isinstance(settings, Mapping):
        raise ConfigError(f"settings is a dict of client settings, not {settings!r}", "settings")
    if isinstance(topics, str | bytes) or not isinstance(topics, Sequence) or not topics:
        raise ConfigError(f"topics is a list of names, one at least, not {topics!r}", "topics")
    for topic in topics:
        if not isinstance(topic, str) or not topic:
            raise ConfigError(f"topics is a list of names, and {topic!r} is none", "topics")
    for name, function in (("restore", restore), ("on_revoked", on_revoked)):
        if function is not None and not callable(function):
            raise ConfigError(f"{name} is a function, not {function!r}", name)
    if type(bytes_max) is not int or bytes_max < 1:
        raise ConfigError(
            f"metadata_bytes_max is a number of bytes, not {bytes_max!r}", "metadata_bytes_max"
        )

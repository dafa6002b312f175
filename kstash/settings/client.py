"""Settings that are handed to the Kafka client: which ones may be, and which may not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

MS_MAX = (1 << 31) - 1
"""Of a time in `_ms`: what the Kafka client takes."""


CLIENT_NUMBERS = ("batch.size", "max.poll.interval.ms", "message.max.bytes")
"""Settings of the client that kstash counts with too."""


RESERVED = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "heartbeat.interval.ms",
        "isolation.level",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "partition.assignment.strategy",
        "partitioner",
        "retries",
        "session.timeout.ms",
        "transaction.timeout.ms",
        "transactional.id",
    }
)
"""Client settings that the protocol or another setting decides."""


ClientSetting = str | int | float | bool | Callable[..., Any]
"""Of the Kafka client; the only function is `oauth_cb`."""


def _is_number(value: object) -> bool:
    """Whether it is one as the Kafka client takes them, in a text or not."""
    return re.fullmatch("[0-9]{1,10}", str(value)) is not None and 1 <= int(str(value)) <= MS_MAX


def check_client(settings: Mapping[str, ClientSetting]) -> None:
    """Refuse what the protocol or another setting decides, and what is of another kind.

    Raises:
        ValueError: says which, as a validator of `Config` does.
    """
    for name in CLIENT_NUMBERS:
        if name in settings and not _is_number(settings[name]):
            raise ValueError(f"kafka: {name!r} must be a whole number of 1 to {MS_MAX}")
    for name in settings:
        if name in RESERVED:
            raise ValueError(f"kafka: {name!r} is decided by kstash: remove it")
        if callable(settings[name]) != (name == "oauth_cb"):
            is_what = "must be a function" if name == "oauth_cb" else "takes no function"
            raise ValueError(f"kafka: {name!r} {is_what}")

"""What follows from settings: the engine's view of them, in the units and types it works with."""

from __future__ import annotations

from kstash.core.guarantee import Guarantee
from kstash.settings import hosts
from kstash.settings.fields import ConfigFields
from kstash.settings.skips import SkippedPlace

POLL_INTERVAL_MS = 300_000
"""The Kafka client's own `max.poll.interval.ms`."""

MESSAGE_BYTES_MAX = 100 * 1024 * 1024
"""The Kafka client's `message.max.bytes` of all producers: topics decide, and say so before."""


def guarantee(config: ConfigFields) -> Guarantee:
    """The guarantee, with what follows from it."""
    return Guarantee(config.guarantee)


def poll_interval_s(config: ConfigFields) -> float:
    """Seconds after which a member that did not poll is put out of its group."""
    return float(str(config.kafka.get("max.poll.interval.ms", POLL_INTERVAL_MS))) / 1000


def message_bytes_max(config: ConfigFields) -> int:
    """The largest record that a producer's client takes."""
    return int(str(config.kafka.get("message.max.bytes", MESSAGE_BYTES_MAX)))


def skipped_places(config: ConfigFields) -> list[SkippedPlace]:
    """`skip_records` as places.

    Raises:
        ValueError: one is none; only while the settings are checked.
    """
    return [SkippedPlace.parse(text) for text in config.skip_records]


def peers(config: ConfigFields) -> list[tuple[str, int]]:
    """`http_peers` as hosts and ports."""
    return [hosts.split_port(peer) for peer in config.http_peers]


def stall_s(config: ConfigFields) -> float:
    """Seconds for which nothing may move where there is work."""
    return config.stall_ms_max / 1000 if config.stall_ms_max else poll_interval_s(config)

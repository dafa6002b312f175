"""Reports once that the broker is away, and once that it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError

from kstash.kafka import failures

LOOKUP_TIMEOUT_S = 0.05
"""How long a poll may be held up by a check whether the broker is back."""
BACKOFF_S_MIN = 0.5
BACKOFF_S_MAX = 5.0
OUTAGE_S_MIN = 1.0
"""What passes sooner is no news: a broker that has just started is slow to answer a check."""


LookUp = Callable[[str | None, float], KafkaError | None]
"""Asks the cluster for a topic (None: any) within seconds; returns what went wrong."""


class BrokerWatch:
    """Turns connection errors of one or several clients into two log lines.

    A client reports when connections break, also harmless idle ones, but not when they are mended;
    so after such an error the cluster is asked, with back-off, until it answers. An outage is
    reported once it has lasted `OUTAGE_S_MIN`.

    Args:
        client: name of the client, for the log; of several, the first one.
        bootstrap_servers: for the log.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        client: str,
        bootstrap_servers: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_worried = False
        """Whether `check` has something to do."""
        self._client = client
        self._bootstrap_servers = bootstrap_servers
        self._monotonic = monotonic
        self._log = structlog.get_logger("kstash.kafka")
        self._is_logged = False
        self._reason = ""
        self._since = 0.0
        self._next_check = 0.0
        self._backoff_s = BACKOFF_S_MIN

    def worry(self, reason: str) -> None:
        """Note that a connection broke."""
        if self.is_worried:
            return
        self.is_worried = True
        self._reason = reason
        self._since = self._next_check = self._monotonic()
        self._backoff_s = BACKOFF_S_MIN

    def check(self, look_up: LookUp, *, is_up: bool) -> None:
        """Ask the cluster when that is due; `is_up` says that it is known to answer."""
        now = self._monotonic()
        if not is_up:
            if now < self._next_check:
                return
            error = look_up(None, LOOKUP_TIMEOUT_S)
            is_up = error is None or error.code() not in failures.UNREACHABLE_CODES
        if is_up:
            self.is_worried = False
            if self._is_logged:
                self._is_logged = False
                self._log.info(
                    "broker reachable again",
                    client=self._client,
                    away_seconds=round(now - self._since, 1),
                )
            return
        self._next_check = now + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_S_MAX)
        if not self._is_logged and now - self._since >= OUTAGE_S_MIN:
            self._is_logged = True
            self._log.warning(
                "broker unreachable, waiting",
                client=self._client,
                bootstrap_servers=self._bootstrap_servers,
                error=self._reason,
            )

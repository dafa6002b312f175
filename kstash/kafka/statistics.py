"""What the client says of its brokers: connections and round trips, out of its statistics.

The client writes them as JSON every `STATISTICS_INTERVAL_MS`, of all its partitions too; only what
is said of brokers is decoded (decision 0048).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kstash.ports.status import BrokerStatus

STATISTICS_INTERVAL_MS = 10_000

_US = 1_000_000

_STATES = {"UP": "up", "UPDATE": "up", "DOWN": "down", "INIT": "idle"}
"""Of a connection, as the client calls them; all others are steps on the way to `up`."""


class _RoundTrips(msgspec.Struct):
    cnt: int = 0
    p50: int = 0
    p95: int = 0
    p99: int = 0


class _Broker(msgspec.Struct):
    nodeid: int
    state: str
    rtt: _RoundTrips = msgspec.field(default_factory=_RoundTrips)


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Broker] = {}


_decoder = msgspec.json.Decoder(_Statistics)


class ClientStatistics:
    """What several clients said last."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[BrokerStatus, ...]] = {}

    def brokers(self) -> tuple[BrokerStatus, ...]:
        """One for each client and broker."""
        return tuple(status for said in self._said.values() for status in said)

    def taker(self, client: str, *, waits: bool = False) -> Callable[[str], None]:
        """What a client of that name is given as `stats_cb`.

        Args:
            client: one that is made anew takes the place of the one before.
            waits: its requests wait at the broker on purpose, so their time says nothing.
        """

        def take(text: str) -> None:
            found = _statuses(text, has_round_trips=not waits)
            if found == []:
                # When all connections are lost the client forgets its brokers, and goes by the
                # addresses of `bootstrap.servers` until one answers.
                before = self._said.get(client, ())
                found = [BrokerStatus(status.broker, "down", {}) for status in before]
            self._said[client] = tuple(found or ())

        self._said.pop(client, None)
        return take


def _statuses(text: str, *, has_round_trips: bool) -> list[BrokerStatus] | None:
    try:
        brokers = _decoder.decode(text).brokers.values()
    except msgspec.MsgspecError:
        return None  # of a client that says it in another way
    return [
        BrokerStatus(
            str(broker.nodeid),
            _STATES.get(broker.state, "connecting"),
            _round_trips(broker.rtt) if has_round_trips else {},
        )
        for broker in brokers
        if broker.nodeid >= 0  # an address of `bootstrap.servers`, or a coordinator's second name
    ]


def _round_trips(rtt: _RoundTrips) -> dict[str, float]:
    if not rtt.cnt:
        return {}
    return {"0.5": rtt.p50 / _US, "0.95": rtt.p95 / _US, "0.99": rtt.p99 / _US}

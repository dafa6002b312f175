"""Task groups of one worker that start over: how long each waits, and when that is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kstash.errors import ProducerRefusedError
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.group.phase import Phase

RESTART_BACKOFF_S = 0.5
RESTART_BACKOFF_MAX_S = 5.0
"""Pause before a fenced or failed group claims again, doubled each time (I10)."""

REFUSED_GRACE_S = 15.0
"""How long a group starts over because a producer is refused a right or a topic. Rules for access
take some seconds to reach all brokers; what is refused for longer waits for an operator."""

REFUSED_AT_START_S = 5.5
REFUSED_PAUSE_S_MAX = 0.5
"""The same in a worker none of whose groups has been live: who starts it waits for a word."""

CALM_S = 30.0
"""Time after which a live group's failures of before are forgotten: one that fails as soon as it is
live must not begin with the shortest pause each time."""


@dataclass(slots=True)
class _Failing:
    """A group that starts over, until it is calm again.

    Attributes:
        attempts: how often it has started over.
        refused_since: when a producer of it was refused something first, in monotonic seconds.
        live_since: since when it is live, in monotonic seconds.
    """

    attempts: int = 0
    refused_since: float | None = None
    live_since: float | None = None


class Failures:
    """What is remembered of the groups that start over.

    Args:
        nonce: makes random bytes, at least one.
    """

    def __init__(self, nonce: Callable[[], bytes]) -> None:
        self._nonce = nonce
        # Groups that have started over and were not live for long since.
        self._failing: dict[int, _Failing] = {}
        # Whether any group of this worker has been live; stays true.
        self._has_been_live = False

    def look(self, running: Mapping[int, TaskGroup], now: float) -> None:
        """See which groups are live: one that has been for `CALM_S` begins as if it never failed.

        Args:
            running: the groups of the worker.
            now: monotonic seconds.
        """
        self._has_been_live |= any(group.phase is Phase.LIVE for group in running.values())
        for number, failing in list(self._failing.items()):
            group = running.get(number)
            if group is None or group.phase is not Phase.LIVE:
                failing.live_since = None
            elif failing.live_since is None:
                failing.live_since = now
            elif now - failing.live_since >= CALM_S:
                del self._failing[number]

    def pause_s(self, number: int, error: Exception, now: float) -> float:
        """Seconds that a group waits before its next attempt.

        Args:
            number: of the group.
            error: that ended it; raised again when it is a refusal that has lasted for
                `REFUSED_GRACE_S`, or `REFUSED_AT_START_S`.
            now: monotonic seconds.
        """
        failing = self._failing.setdefault(number, _Failing())
        if isinstance(error, ProducerRefusedError):
            if failing.refused_since is None:
                failing.refused_since = now
            elif now - failing.refused_since >= (
                REFUSED_GRACE_S if self._has_been_live else REFUSED_AT_START_S
            ):
                raise error
        pause: float = min(RESTART_BACKOFF_S * 2**failing.attempts, RESTART_BACKOFF_MAX_S)
        if failing.refused_since is not None and not self._has_been_live:
            pause = min(pause, REFUSED_PAUSE_S_MAX)
        failing.attempts += 1
        return pause * (1 + self._nonce()[0] / 255)  # who claims in turn must not do so in step

"""Says what a worker waits for that has no task group.

The group gives nothing out before all its members have joined, or are given up: one that died is
waited for until its session has timed out. And of more workers than task groups some have none.
"""

from __future__ import annotations

import structlog

from kstash.core import names
from kstash.ports.kafka import Census, Membership
from kstash.ports.process import Job
from kstash.runtime.context import Services
from kstash.runtime.layout import Layout
from kstash.runtime.pauses import Pauses
from kstash.runtime.worker.groups import Groups
from kstash.settings import derived
from kstash.settings.config import Config

PATIENCE_S = 3.5
"""A group that was empty takes three seconds to begin, by Kafka's default."""

log = structlog.get_logger("kstash.worker")


class MembershipReport:
    """Checks the group while the worker has no task group.

    Args:
        membership: of the worker.
        config: settings.
        layout: where tasks are.
        services: of the process.
        groups: of the worker.
    """

    def __init__(
        self,
        membership: Membership,
        *,
        config: Config,
        layout: Layout,
        services: Services,
        groups: Groups,
    ) -> None:
        self._membership = membership
        self._config = config
        self._layout = layout
        self._services = services
        self._groups = groups
        self._since = 0.0
        self._pauses: Pauses | None = None
        self._is_asking = self._is_spare = False

    @property
    def is_spare(self) -> bool:
        """Whether it has nothing because there is nothing left: it takes over when one goes."""
        return self._is_spare

    def tick(self, now: float) -> None:
        """Ask, when nothing was given for a while; not while the worker stops."""
        groups = self._groups
        if groups.running or groups.has_restarts or groups.is_stopping:
            self._pauses = None
            self._is_spare = False
        elif self._pauses is None:
            self._since = now
            self._pauses = Pauses(now, PATIENCE_S)
        elif self._pauses.is_over(now) and not self._is_asking:
            self._is_asking = True
            self._services.background.submit("ask", self._ask, self._answered)

    def _ask(self, _: Job) -> Census | None:
        return self._membership.census()

    def _answered(self, census: Census | None, _: Exception | None) -> None:
        self._is_asking = False
        if self._pauses is None:
            return  # it has been given some meanwhile
        waited_s = self._services.clock.monotonic() - self._since
        count = self._layout.group_count
        if census is None:
            log.info("waiting for the group to answer", waited_s=round(waited_s, 1))
        elif not census.is_settled:
            self._log_waiting(census, waited_s)
        elif census.own not in census.members:
            log.info("waiting to be let into the group", waited_s=round(waited_s, 1))
        elif not self._is_spare and len(census.owners) >= count:
            self._is_spare = True
            log.info(
                "no task group is left for this worker, it stands by",
                groups=count,
                workers=len(census.members),
            )

    def _log_waiting(self, census: Census, waited_s: float) -> None:
        config = self._config
        session_s = config.session_timeout_ms / 1000
        others = sorted(names.instance_of(m) for m in census.members if m != census.own)
        if waited_s < session_s:
            log.info(
                "waiting for the members of the group; one that is dead is waited for until its "
                "session has timed out",
                waited_s=round(waited_s, 1),
                up_to_s=session_s,
                others=others,
            )
        else:
            log.info(
                "waiting for a member of the group that is busy, up to its max.poll.interval.ms",
                waited_s=round(waited_s, 1),
                up_to_s=derived.poll_interval_s(config),
                others=others,
            )

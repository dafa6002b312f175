"""Whether every task group has an owner, as the cluster sees it.

A rebalance has two halves: a member is asked to give groups up, and joins again when it has; only
then another member gets them. A static member that dies in between and starts again under its name
has its membership back without a rebalance, so the second half never comes: the group is stable,
and some task groups have no owner (protocol, H60). Then the members must be made to share out anew.
"""

from __future__ import annotations

import structlog

from kstash.ports.kafka import Census, Membership
from kstash.ports.process import Job
from kstash.runtime.context import Services
from kstash.runtime.layout import Layout
from kstash.runtime.worker.groups import Groups
from kstash.runtime.worker.membership import MembershipReport
from kstash.settings.config import Config

LOOK_INTERVAL_S = 8.0
"""Pause between two checks while all is well."""

AGAIN_S = 3.0
"""Pause between two checks while it is not."""

LOOKS = 3
"""Checks in a row that must find the same: a group that moves has no owner for a moment."""

PATIENCE_S = 1.0
"""What each member waits longer than the one before it: one of them is enough."""

PATIENCE_S_MAX = 5.0

log = structlog.get_logger("kstash.worker")


class Owners:
    """Checks now and then who has which task group, and sees to it that each has an owner.

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
        self._layout = layout
        self._services = services
        self._groups = groups
        self._due: float | None = self._services.clock.monotonic() + LOOK_INTERVAL_S
        self._found: object = None
        self._looks = 0
        self._report = MembershipReport(
            membership, config=config, layout=layout, services=services, groups=groups
        )

    @property
    def is_spare(self) -> bool:
        """Whether the worker has no task group because others have all of them."""
        return self._report.is_spare

    def tick(self, now: float) -> None:
        """Check when due; not while the worker stops."""
        self._report.tick(now)
        if self._due is not None and now >= self._due and not self._groups.is_stopping:
            self._due = None
            self._services.background.submit("ask", self._ask, self._answered)

    def _ask(self, _: Job) -> Census | None:
        return self._membership.census()

    def _answered(self, census: Census | None, error: Exception | None) -> None:
        if error is not None:
            log.debug("the group was not looked at", reason=str(error))
        wrong = None if census is None else self._wrong(census)
        self._looks = self._looks + 1 if wrong is not None and wrong == self._found else 0
        self._found = wrong
        if wrong is None or census is None:
            self._look_in(LOOK_INTERVAL_S)
        elif self._looks < LOOKS - 1:
            self._look_in(AGAIN_S)
        else:
            self._mend(census, *wrong)

    def _wrong(self, census: Census) -> tuple[list[int], bool] | None:
        """Task groups without an owner, and whether this member has others than it thinks."""
        if not census.is_settled:
            return None
        count = self._layout.group_count
        leaving = self._groups.leaving
        nobodys = [g for g in range(count) if g not in census.owners and g not in leaving]
        given = {group for group, member in census.owners.items() if member == census.own}
        expected = {group for group in given if group < count} - leaving
        is_astray = census.own not in census.members or expected != self._groups.owned
        return (nobodys, is_astray) if nobodys or is_astray else None

    def _mend(self, census: Census, nobodys: list[int], is_astray: bool) -> None:
        if is_astray:
            log.warning("the group knows this worker otherwise than it does, it joins again")
            self._membership.rejoin()
            self._look_in(LOOK_INTERVAL_S)
            return
        rank = sorted(census.members).index(census.own or "")
        patience_s = min(rank * PATIENCE_S, PATIENCE_S_MAX)
        if self._looks < LOOKS and patience_s:
            self._look_in(patience_s)
            return
        log.warning("task groups without an owner, they are shared out anew", groups=nobodys)
        topic = self._layout.topology.input_topics[0]
        self._services.background.submit(
            "ask", lambda _: self._membership.share_out(topic), self._shared_out
        )

    def _shared_out(self, _: None, error: Exception | None) -> None:
        if error is not None:
            log.warning("task groups could not be shared out anew", reason=str(error))
        self._look_in(AGAIN_S)

    def _look_in(self, seconds: float) -> None:
        self._due = self._services.clock.monotonic() + seconds

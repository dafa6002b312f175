"""Who owns each task group, as the brokers report it, and how long one had no owner.

Asks with kafka-python; shares no code with kstash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass, field

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

CHECK_INTERVAL_S = 1.0
REQUEST_MS = 5_000


def assigned(admin: KafkaAdminClient, application_id: str) -> list[int]:
    """Task groups with an owner, one entry for each owner; none while the members rebalance."""
    (group,) = admin.describe_groups([application_id]).values()
    return [
        partition
        for member in group["members"]
        if member["member_assignment"]  # none while the members rebalance
        for topic in member["member_assignment"]["assigned_partitions"]
        for partition in topic["partitions"]
    ]


@dataclass(slots=True)
class Vacancies:
    """Adds up how long task groups had no owner although there was somebody to own them.

    A vacancy counts from the moment on at which the group had none, one and the same worker was up,
    and the brokers answered, until one of the three ends.

    Args:
        group_count: task groups of the application.

    Attributes:
        longest_s: the longest vacancy of each group so far, in seconds.
    """

    group_count: int
    longest_s: dict[int, float] = field(default_factory=dict)
    _vacant: dict[int, float] = field(default_factory=dict)
    _up: dict[Hashable, float] = field(default_factory=dict)

    def check(self, now: float, owned: Collection[int] | None, up: Collection[Hashable]) -> None:
        """Take what was found at a moment.

        Args:
            now: monotonic seconds.
            owned: groups with an owner; None: the brokers did not answer.
            up: the processes that could own one.
        """
        self._up = {process: self._up.get(process, now) for process in up}
        if owned is None:
            self._vacant.clear()
            self._up = dict.fromkeys(up, now)
            return
        for group in range(self.group_count):
            if group in owned:
                self._vacant.pop(group, None)
                continue
            since = self._vacant.setdefault(group, now)
            if self._up:
                vacant_s = now - max(since, min(self._up.values()))
                self.longest_s[group] = max(self.longest_s.get(group, 0.0), vacant_s)

    @property
    def vacant(self) -> set[int]:
        """Groups that had no owner at the last check; none when the brokers did not answer."""
        return set(self._vacant)

    @property
    def longest(self) -> tuple[float, int | None]:
        """The longest vacancy of all in seconds, and the group that had it."""
        group = max(self.longest_s, key=self.longest_s.__getitem__, default=None)
        return (self.longest_s[group], group) if group is not None else (0.0, None)


class OwnerWatch(threading.Thread):
    """Looks for vacancies every second.

    Args:
        bootstrap: brokers, without a proxy.
        application_id: whose groups.
        group_count: how many.
        up: processes that could own one now.
    """

    def __init__(
        self,
        bootstrap: str,
        application_id: str,
        group_count: int,
        up: Callable[[], Collection[Hashable]],
    ) -> None:
        super().__init__(name="owner-watch", daemon=True)
        self._brokers = bootstrap
        self._application_id = application_id
        self._up = up
        self._stopping = threading.Event()
        self.vacancies = Vacancies(group_count)

    def run(self) -> None:
        """Look until `finish`."""
        admin: KafkaAdminClient | None = None
        while not self._stopping.wait(CHECK_INTERVAL_S):
            owned: list[int] | None = None
            try:
                if admin is None:
                    admin = self._connect()
                owned = assigned(admin, self._application_id)
            except (KafkaError, OSError):
                admin = self._close(admin)
            self.vacancies.check(time.monotonic(), owned, self._up())
        self._close(admin)

    def _connect(self) -> KafkaAdminClient:
        return KafkaAdminClient(
            bootstrap_servers=self._brokers.split(","), request_timeout_ms=REQUEST_MS
        )

    @staticmethod
    def _close(admin: KafkaAdminClient | None) -> None:
        if admin is not None:
            with suppress(Exception):
                admin.close()

    def finish(self) -> None:
        """Stop checking."""
        self._stopping.set()
        if self.is_alive():
            self.join(30)

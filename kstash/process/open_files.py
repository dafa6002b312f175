"""The limit of open files (`ulimit -n`): raised at the start, counted, and named where it is hit.

Many systems give a process 1,024 at first and let it ask for more. A worker of many task groups
needs more: each client has its connections, each database its files. What fails without them says
so in many ways, or not at all.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from kstash.errors import ClusterError, OpenFilesError, StateError
from kstash.topology.model import Topology

FILES_OF_A_WORKER = 50
"""Of Python, the member, readers and shared producers, with one broker: fewer than are open."""

FILES_OF_A_CLIENT = 8
"""Of a transactional producer, of which a group with sinks has two; some more for each broker."""

FILES_OF_A_STORE = 7
"""Of a stage's database, while it is small; it grows to some hundred."""

LIMIT_MAX = 1 << 20
"""More is of no use, and there are programs that walk through all that they may have."""

CHECK_INTERVAL_S = 5.0
SHARE_TOLD = 0.9
"""Of the limit, from which on it is told."""

TOO_MANY = "Too many open files"
"""In what the system says, whoever passes it on."""

_OPEN = Path("/proc/self/fd")

log = structlog.get_logger("kstash")


def raise_limit() -> int:
    """Raise the limit as far as this process may, within reason; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinity = resource.RLIM_INFINITY
    if soft == infinity:
        return LIMIT_MAX
    wanted = LIMIT_MAX if hard == infinity else min(hard, LIMIT_MAX)
    if wanted <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # a system with a lower bound of its own
        return soft
    return wanted


def open_count() -> int | None:
    """How many files are open; None where the system does not tell."""
    try:
        return sum(1 for _ in _OPEN.iterdir())
    except FileNotFoundError:
        return None
    except OSError:
        # To look takes a descriptor too.
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def needed(groups: int, topology: Topology, *, has_transactions: bool) -> int:
    """How many files a worker of so many task groups has open at least."""
    per_group = FILES_OF_A_STORE * sum(bool(stage.stores) for stage in topology.stages)
    if has_transactions and topology.output_topics:
        per_group += 2 * FILES_OF_A_CLIENT
    return FILES_OF_A_WORKER + groups * per_group


class OpenFiles:
    """Watches how many files are open.

    Args:
        limit: of this process.
        needed: how many a worker of so many task groups has open at least.
        count: how many are open, or None when it is not known.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        limit: int,
        needed: Callable[[int], int],
        *,
        count: Callable[[], int | None] = open_count,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._needed = needed
        self._count = count
        self._monotonic = monotonic
        self._due = 0.0
        self._is_told = False

    def admit(self, groups: int) -> None:
        """Say whether so many task groups can be had.

        Raises:
            OpenFilesError: they need more files than may be open.
        """
        wanted = self._needed(groups)
        if wanted > self._limit:
            raise OpenFilesError(
                f"{groups} task groups need {wanted} open files and more, "
                f"{self._limit} are allowed",
                limit=self._limit,
                needed=wanted,
            )

    @property
    def is_short(self) -> bool:
        """Whether nearly as many files are open as may be."""
        count = self._count()
        return count is not None and count >= SHARE_TOLD * self._limit

    def check(self) -> None:
        """Tell once when they get short; looks every few seconds."""
        if self._monotonic() < self._due or self._is_told:
            return
        self._due = self._monotonic() + CHECK_INTERVAL_S
        if self.is_short:
            self._is_told = True
            log.error("open files get short", open=self._count(), limit=self._limit)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise an `OpenFilesError` in place of an error that comes of too few files."""
        try:
            yield
        except Exception as error:
            # The broker or the disk, as it seems, when it is we who can open nothing more.
            seems = isinstance(error, ClusterError | StateError | OSError) and self.is_short
            if isinstance(error, OpenFilesError) or not (seems or TOO_MANY in str(error)):
                raise
            count = self._count()
            raise OpenFilesError(
                f"{self._limit if count is None else count} of {self._limit} files are open, and "
                f"more were wanted ({error})",
                limit=self._limit,
                needed=2 * self._limit,
            ) from error

"""The limit of open files (`ulimit -n`): raised at the start, counted, and named where it is hit.

Many systems give a process 1,024 at first and let it raise the limit. A worker of many task groups
needs more: each client has its connections, each database its files. Where they are missing, the
errors rarely name the cause.
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
"""Files of Python, member, readers and shared producers, with one broker: a lower bound."""

FILES_OF_A_CLIENT = 8
"""Files of a transactional producer; a group with sinks has two, and each broker adds some."""

FILES_OF_A_STORE = 7
"""Files of a stage's database while it is small; it grows to some hundred."""

LIMIT_MAX = 1 << 20
"""A higher limit is of no use, and some programs walk through all descriptors up to it."""

CHECK_INTERVAL_S = 5.0
SHARE_SHORT = 0.9
"""Share of the limit from which on open files count as short."""

TOO_MANY = "Too many open files"
"""Part of the system's message, whoever passes it on."""

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
    """How many files are open; None where the system does not report it."""
    try:
        return sum(1 for _ in _OPEN.iterdir())
    except FileNotFoundError:
        return None
    except OSError:
        # Listing them takes a descriptor too: none is left.
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def files_needed(groups: int, topology: Topology, *, has_transactions: bool) -> int:
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
        self._is_reported = False

    def admit(self, groups: int) -> None:
        """Check that this process can own so many task groups.

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
        return count is not None and count >= SHARE_SHORT * self._limit

    def check(self) -> None:
        """Log once when open files get short; checks every few seconds."""
        if self._monotonic() < self._due or self._is_reported:
            return
        self._due = self._monotonic() + CHECK_INTERVAL_S
        if self.is_short:
            self._is_reported = True
            log.error("open files get short", open=self._count(), limit=self._limit)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise an `OpenFilesError` in place of an error that too few open files have caused."""
        try:
            yield
        except Exception as error:
            # It looks like the broker's or the disk's fault, but this process can open no file.
            is_likely = isinstance(error, ClusterError | StateError | OSError) and self.is_short
            if isinstance(error, OpenFilesError) or not (is_likely or TOO_MANY in str(error)):
                raise
            count = self._count()
            raise OpenFilesError(
                f"{self._limit if count is None else count} of {self._limit} files are open, and "
                f"more were wanted ({error})",
                limit=self._limit,
                needed=2 * self._limit,
            ) from error

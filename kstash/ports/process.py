"""Ports for what a worker's process offers: time, metrics, and threads beside the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from kstash.errors import KstashError


class Clock(Protocol):
    """Time for the runtime."""

    def monotonic(self) -> float:
        """Seconds, never back."""

    def time_ms(self) -> int:
        """Unix time in milliseconds."""


class Metrics(Protocol):
    """Counters and histograms of the runtime; one call per batch at most, never per record."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def remove(self, name: str, **labels: str) -> None:
        """Forget a gauge of these labels; one that is not set is fine."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration to a histogram."""


class JobCancelledError(KstashError):
    """Nobody wants the result of this background job any more; never leaves its thread."""


class Job(Protocol):
    """Work beside the loop, as the work itself and its owner see it."""

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the result any more."""

    def cancel(self) -> None:
        """Say so; the owner hears nothing of the job any more."""

    def pause(self, seconds: float) -> None:
        """Wait, in the job; a cancelled job waits no longer.

        Raises `JobCancelledError`: the job is cancelled.
        """


T = TypeVar("T")


class Background(Protocol):
    """Runs what waits for disks and stores beside the loop."""

    def submit(
        self,
        lane: str,
        work: Callable[[Job], T],
        on_done: Callable[[T | None, Exception | None], None],
    ) -> Job:
        """Run `work` in a thread.

        Args:
            lane: `restore` (several at once), `upload` or `ask` (one after the other).
            work: takes its own job; touches nothing that the loop changes.
            on_done: gets the result or the error, inside `poll`; not called after `cancel`.
        """

    def poll(self) -> None:
        """Report finished jobs to their owners."""

    def close(self) -> None:
        """Cancel everything; returns at the latest after a few seconds."""

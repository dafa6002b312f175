"""The disk under the state directory, and kstash itself."""

from __future__ import annotations

from collections.abc import Iterable

from kstash.errors.base import KstashError


class StateError(KstashError):
    """The state directory cannot be used (disk full, I/O error, locked by another process).

    Attributes:
        folder: the folder concerned, or None.
    """

    def __init__(self, detail: str, folder: str | None = None) -> None:
        super().__init__(f"{folder}: {detail}" if folder else detail)
        self.folder = folder


class CheckpointCorruptError(StateError):
    """A checkpoint's files are not what was written."""


class StepDeadlineError(KstashError):
    """A step of recovery or shutdown was not done within its deadline.

    Attributes:
        step: what was waited for.
        deadline_s: the deadline in seconds.
    """

    def __init__(self, step: str, deadline_s: float) -> None:
        super().__init__(f"{step} was not done within {deadline_s:g} s")
        self.step = step
        self.deadline_s = deadline_s


class WorkerFailedError(KstashError):
    """A supervised worker died again and again, or of what a restart does not mend.

    Attributes:
        worker: its name, `worker-<number>`.
        ended_with: how the last process ended: `exit code <n>`, the name of a signal, or the name
            of the error that a restart does not mend.
        lines: the last lines that it logged.
    """

    def __init__(self, detail: str, *, worker: str, ended_with: str, lines: Iterable[str]) -> None:
        super().__init__(detail)
        self.worker = worker
        self.ended_with = ended_with
        self.lines = tuple(lines)

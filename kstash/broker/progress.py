"""Shows on standard error that Kafka is being fetched; silent when it is in the cache."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class ShowProgress:
    """A progress bar on a terminal, two plain lines elsewhere; call it with (done, total)."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._started = False

    def __call__(self, done: int, total: int) -> None:
        """Say that `done` of `total` jars are there; a total of 0 is not known yet."""
        if not self._console.is_terminal:
            if not self._started:
                self._console.print("fetching Apache Kafka (45 MB, once) ...")
            elif total and done == total:
                self._console.print(f"fetched {total} jars")
        else:
            if self._bar is None:
                self._bar = Progress(
                    TextColumn("fetching Apache Kafka (45 MB, once)"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    console=self._console,
                )
                self._bar.add_task("jars", total=None)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=done, total=total or None)
        self._started = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

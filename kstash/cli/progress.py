"""Progress bars for people, shown for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kstash.ports.kafka import Message

SHOWN_AFTER_S = 2.0
STEP = 1000
"""Records between two readings of the clock: a bar must not slow down the work it shows."""

Advance = Callable[[int], None]


@contextmanager
def bar(
    what: str,
    total: int,
    console: Console | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Show the progress of some work on standard error, once it has taken two seconds.

    Nothing is shown where standard error is no terminal. The function that this gives is to be
    called with the units that were done since the last call.

    Args:
        what: name of the work.
        total: units in all; 0: there is nothing to show.
        console: where the bar is drawn.
        monotonic: clock, in seconds.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal or total <= 0:
        yield lambda _: None
        return
    drawn = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = drawn.add_task(what, total=total)
    shown_from = monotonic() + SHOWN_AFTER_S
    is_shown = False

    def advance(count: int) -> None:
        nonlocal is_shown
        drawn.advance(task, count)
        if not is_shown and monotonic() >= shown_from:
            is_shown = True
            sys.stdout.flush()
            drawn.start()

    try:
        yield advance
    finally:
        if is_shown:
            drawn.stop()


def counted(messages: Iterable[Message], advance: Advance) -> Iterator[Message]:
    """The same messages; reports now and then how many offsets of their partitions have passed."""
    waiting = 0
    last: dict[tuple[str, int], int] = {}
    for message in messages:
        place = message.topic(), message.partition()
        waiting += message.offset() - last.get(place, message.offset() - 1)
        last[place] = message.offset()
        if waiting >= STEP:
            advance(waiting)
            waiting = 0
        yield message
    advance(waiting)

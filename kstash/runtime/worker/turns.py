"""Whose batch is next: task groups in turn, and for a short time only.

A batch that may take long is a danger to what is under way: the broker aborts transactions that
are open for too long, and within a batch nothing commits. So before such a batch everything that
was sent is committed, and nothing else begins meanwhile (protocol, H58).
"""

from __future__ import annotations

import math
from functools import partial

from kstash.ports.process import Clock
from kstash.runtime.load import Load
from kstash.runtime.worker.groups import Groups
from kstash.settings.config import Config

TURN_S = 0.1
"""Time after which a turn ends, though others have records too: they come first in the next one."""

LONG_SHARE = 1 / 3
"""Of `transaction_timeout_ms`: a batch that may take longer waits until all is committed."""


class Turns:
    """Lets the task groups of a worker process what waits in their buffers.

    Args:
        config: settings: how long a transaction may be open.
        clock: time.
        load: of the worker.
        groups: of the worker.

    Attributes:
        is_settling: a long batch is next, and waits for the commits of all groups.
        is_busy: records wait that could be processed at once.

    No batch begins while too much of what was made waits for acknowledgements (`Load`).
    """

    def __init__(self, config: Config, clock: Clock, *, load: Load, groups: Groups) -> None:
        self.is_settling = self.is_busy = False
        self._clock = clock
        self._load = load
        self._groups = groups
        self._long_s = config.transaction_timeout_ms / 1000 * LONG_SHARE
        self._last = -1

    def take(self) -> None:
        """Process for a while: some batches of each group, or a single long one."""
        running = self._groups.running
        now_ms = self._clock.time_ms()
        for batches in [group.batches for group in running.values()]:
            batches.wake_due(now_ms)
        ready = [number for number, group in running.items() if group.batches.ready]
        self.is_settling, self.is_busy = False, bool(ready)
        if not ready:
            return
        load = self._load
        if load.is_full:
            self.is_busy = False
            return
        clock = self._clock
        started = clock.monotonic()
        ready.sort(key=lambda number: (number <= self._last, number))
        for number in ready:
            group = running.get(number)
            if group is None:
                continue  # given up with another one
            is_long = group.batches.longest_s(started) > self._long_s
            # One that is under way already has to be finished, since no commit comes before.
            if is_long and not group.batches.is_under_way:
                if number == ready[0]:
                    self._take_long(number)
                return
            self._last = number
            self._groups.guarded(number, group, partial(group.work, started + TURN_S))
            if clock.monotonic() >= started + TURN_S or load.is_full:
                return
        self.is_busy = any(group.batches.ready for group in running.values())

    def until_tick_s(self) -> float:
        """Seconds until a task of any group may have a tick, 0 or more."""
        due = [g.batches.due_ms for g in self._groups.running.values()]
        known = [at_ms for at_ms in due if at_ms is not None]
        return max(0, min(known) - self._clock.time_ms()) / 1000 if known else math.inf

    def _take_long(self, number: int) -> None:
        running = self._groups.running
        self.is_settling = not all(group.is_settled for group in running.values())
        if self.is_settling:
            for other, group in list(running.items()):
                if group.batches.is_under_way:
                    self._groups.guarded(other, group, partial(group.work, 0.0))
        else:
            self._last = number
            group = running[number]
            # Its time is over as soon as it begins: one batch.
            self._groups.guarded(number, group, partial(group.work, 0.0))

"""Says when a replay runs under another hash seed than what it replays."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from kstash.core.group import GroupCore
from kstash.core.plan import TaskPlan
from kstash.core.upgrade import replays_another_seed

log = structlog.get_logger("kstash.program")


def tell_seed(core: GroupCore, plans: Iterable[TaskPlan]) -> None:
    """Warn of a replay of what was made under another hash seed."""
    if any(replays_another_seed(core.chain, core.settings, plan) for plan in plans):
        log.warning(
            "replay under another hash seed",
            group=core.group,
            effect="if a result depends on hash() or on the order of a set, it ends with "
            "ReplayDivergedError",
            fix="run all workers with PYTHONHASHSEED=0, as a main program does by itself",
        )

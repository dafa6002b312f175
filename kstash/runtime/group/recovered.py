"""Reports of each recovery that ended in a live group, once, where its time went."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence

import structlog

from kstash.core.ids import NO_INCARNATION
from kstash.ports.status import RecoveryStatus
from kstash.runtime.context import Services
from kstash.runtime.recovery.attempt import RecoveryAttempt
from kstash.runtime.task.task import Task

log = structlog.get_logger("kstash.group")


def report_live(
    services: Services,
    recoveries: MutableSequence[RecoveryStatus],
    *,
    group: int,
    recovery: RecoveryAttempt | None,
    tasks: Mapping[int, Task],
    started: float,
) -> None:
    """Report that a group is live: in the log, the metrics and the list of recoveries.

    Args:
        services: of the process.
        recoveries: those of the worker; takes this one.
        group: its number.
        recovery: of the group, if the guarantee has one.
        tasks: of the group.
        started: monotonic seconds since when it had waited.
    """
    phases: dict[str, float] = {}
    incarnation = NO_INCARNATION
    if recovery is not None:
        recovery.charge("replay")  # with what had come meanwhile
        phases = {"detect": recovery.started - started, **recovery.phases.seconds}
        incarnation = recovery.core.incarnation
    metrics = services.metrics
    for phase, seconds in phases.items():
        metrics.observe("recovery_phase_seconds", seconds, phase=phase)
    seconds = services.clock.monotonic() - started
    metrics.observe("recovery_seconds", seconds)
    metrics.count("recoveries")
    replayed = sum(task.replayed for task in tasks.values())
    recoveries.append(
        RecoveryStatus(group, services.clock.time_ms() / 1000, seconds, replayed, phases)
    )
    log.info(
        "task group live",
        group=group,
        incarnation=str(incarnation),
        replayed=replayed,
        suppressed=sum(task.emission.suppressed for task in tasks.values()),
        seconds=round(seconds, 3),
        **{f"{phase}_ms": round(took_s * 1000) for phase, took_s in phases.items()},
    )

"""The answers of several workers as one: metrics with a label for the worker, one status of all.

These are the workers of one supervisor, so they have one clock. The status page puts the workers of
several machines together, in `page/view.js`: each figure is an age by its worker's own clock there,
and what a worker has said outlives it on the charts. No server could say that for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from operator import attrgetter
from typing import Any

import msgspec

from kstash.observe import schema
from kstash.observe.history import ERRORS_MAX, POINT_INTERVAL_S, POINTS_MAX

MERGED_RECOVERIES_MAX = 50

_WORST_FIRST: tuple[schema.State, ...] = ("stopping", "starting", "recovering", "live")


def merge_metrics(texts: Mapping[str, str]) -> str:
    """Metrics of workers in one text, each sample with the label `worker`.

    Line by line: parsing and printing thousands of samples would take a second of each scrape.

    Args:
        texts: what workers answered to `/metrics`, by their names.
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for worker, text in texts.items():
        label = f'worker="{_quoted(worker)}"'
        samples: list[str] = []
        for line in text.splitlines():
            if line.startswith("# "):
                _, kind, name, *_ = line.split(" ", 3)
                heads, samples = families.setdefault(name, ([], []))
                if not any(head.startswith(f"# {kind} ") for head in heads):
                    heads.append(line)
            elif line:
                samples.append(_labelled(line, label))
    lines = [line for heads, samples in families.values() for line in (*heads, *samples)]
    return "\n".join(lines) + "\n" if lines else ""


def _labelled(sample: str, label: str) -> str:
    at = min(at for at in (sample.find("{"), sample.find(" ")) if at >= 0)
    if sample[at] == " ":
        return f"{sample[:at]}{{{label}}}{sample[at:]}"
    return f"{sample[:at]}{{{label},{sample[at + 1 :]}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def merge_status(
    own: schema.Status, statuses: Sequence[schema.Status], *, is_complete: bool
) -> schema.Status:
    """One status of all workers of a supervisor.

    Args:
        own: the supervisor's own status.
        statuses: those of its workers.
        is_complete: whether each worker has answered.
    """
    states = [status.state for status in statuses]
    worst = next((state for state in _WORST_FIRST if state in states), "starting")
    recoveries = sorted(_all(statuses, "recoveries"), key=attrgetter("ended"))
    errors = sorted([*own.errors, *_all(statuses, "errors")], key=attrgetter("time"))
    return msgspec.structs.replace(
        own,
        state=worst if is_complete or worst == "stopping" else "starting",
        waiting_for=next((s.waiting_for for s in statuses if s.waiting_for), None),
        tasks=tuple(_all(statuses, "tasks")),
        operators=_merge_operators(_all(statuses, "operators")),
        edges=_merge_edges(own.edges, statuses),
        history=_merge_history(statuses),
        recoveries=tuple(recoveries[-MERGED_RECOVERIES_MAX:]),
        checkpoints=tuple(_all(statuses, "checkpoints")),
        errors=tuple(errors[-ERRORS_MAX:]),
    )


def _all(statuses: Iterable[schema.Status], name: str) -> list[Any]:
    return [item for status in statuses for item in getattr(status, name)]


def _merge_operators(
    operators: Iterable[schema.OperatorEntry],
) -> tuple[schema.OperatorEntry, ...]:
    found: dict[tuple[str, str], list[schema.OperatorEntry]] = {}
    for operator in operators:
        found.setdefault((operator.stage, operator.operator), []).append(operator)
    merged = []
    for same in found.values():
        dropped: Counter[str] = Counter()
        for one in same:
            dropped.update(one.dropped)
        slowest = min(same, key=_time_or_last)
        merged.append(
            msgspec.structs.replace(
                same[0],
                stream_time=min(_known(o.stream_time for o in same), default=None),
                newest_time=max(_known(o.newest_time for o in same), default=None),
                windows=_sum(o.windows for o in same),
                timers=_sum(o.timers for o in same),
                dropped=dict(dropped),
                held_by=slowest.held_by,
            )
        )
    return tuple(merged)


def _time_or_last(operator: schema.OperatorEntry) -> float:
    return inf if operator.stream_time is None else operator.stream_time


def _merge_edges(
    edges: Iterable[schema.Edge], statuses: Iterable[schema.Status]
) -> tuple[schema.Edge, ...]:
    found: dict[tuple[str | None, str | None, str], list[schema.Edge]] = {}
    for status in statuses:
        for edge in status.edges:
            found.setdefault((edge.source, edge.target, edge.topic), []).append(edge)
    merged = []
    for edge in edges:
        same = found.get((edge.source, edge.target, edge.topic), [])
        merged.append(
            msgspec.structs.replace(
                edge,
                records_per_second=_sum(e.records_per_second for e in same),
                lag_records=_sum(e.lag_records for e in same),
                lag_seconds=max(
                    (e.lag_seconds for e in same if e.lag_seconds is not None), default=None
                ),
            )
        )
    return tuple(merged)


def _merge_history(statuses: Collection[schema.Status]) -> tuple[schema.Point, ...]:
    slots: dict[int, list[schema.Point]] = {}
    for status in statuses:
        for point in status.history:
            slots.setdefault(int(point.time // POINT_INTERVAL_S), []).append(point)
    # The newest point is left out while workers are missing in it: throughput would seem to drop.
    newest = max(slots, default=0)
    if len(slots.get(newest, [])) < len(statuses):
        slots.pop(newest, None)
    return tuple(_merge_points(slots[slot]) for slot in sorted(slots)[-POINTS_MAX:])


def _merge_points(points: Sequence[schema.Point]) -> schema.Point:
    with_latency = [
        (point.latency_seconds, point.records_out_per_second or 1.0)
        for point in points
        if point.latency_seconds is not None
    ]
    weight = sum(weight for _, weight in with_latency)
    return schema.Point(
        time=max(point.time for point in points),
        records_in_per_second=sum(point.records_in_per_second for point in points),
        records_out_per_second=sum(point.records_out_per_second for point in points),
        latency_seconds=sum(s * w for s, w in with_latency) / weight if with_latency else None,
        lineage_unacked_bytes=sum(point.lineage_unacked_bytes for point in points),
        state_bytes=sum(point.state_bytes for point in points),
    )


def _sum(values: Iterable[Any]) -> Any:
    known = _known(values)
    return sum(known) if known else None


def _known(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]

"""Metrics and statuses of several workers as one."""

from __future__ import annotations

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from kstash.observe import PrometheusMetrics, schema
from kstash.observe.history import ERRORS_MAX
from kstash.observe.merged import merge_metrics, merge_status
from tests.unit.http_source import STATUS


def test_each_sample_has_its_worker() -> None:
    """As if one process had exposed them all: each family once, values as they were."""
    texts = {}
    for number, worker in enumerate(("worker-0", 'odd "name"\\')):
        metrics = PrometheusMetrics()
        metrics.count("records_in", 7 + number, stage='a "quoted" {stage}')
        metrics.observe("process_seconds", 0.5, stage="words")
        metrics.gauge("state_memory_bytes", 5)
        texts[worker] = metrics.render().decode()
    merged = merge_metrics(texts)
    families = {family.name: family for family in text_string_to_metric_families(merged)}
    alone = {family.name: family for family in text_string_to_metric_families(texts["worker-0"])}
    assert set(families) == set(alone)
    for name, family in families.items():
        assert (family.type, family.documentation) == (alone[name].type, alone[name].documentation)
        for worker in texts:
            of_worker = [s for s in family.samples if s.labels["worker"] == worker]
            assert len(of_worker) == len(alone[name].samples), name
    records = families["kstash_records_in"].samples
    assert [(s.labels, s.value) for s in records] == [
        ({"worker": worker, "stage": 'a "quoted" {stage}'}, 7 + number)
        for number, worker in enumerate(texts)
    ]
    assert merged.count("# TYPE kstash_records_in_total ") == 1


def test_nothing_of_nobody() -> None:
    """Before any worker answers."""
    assert merge_metrics({}) == ""


def _status(**changes: object) -> schema.Status:
    return msgspec.structs.replace(STATUS, **changes)


def test_the_state_is_that_of_the_least_ready() -> None:
    """Live when all are, and all are there."""
    live, recovering, stopping = (_status(state=s) for s in ("live", "recovering", "stopping"))
    assert merge_status(STATUS, [live, live], is_complete=True).state == "live"
    assert merge_status(STATUS, [live, recovering], is_complete=True).state == "recovering"
    assert merge_status(STATUS, [live, stopping], is_complete=False).state == "stopping"
    assert merge_status(STATUS, [live], is_complete=False).state == "starting"
    assert merge_status(STATUS, [], is_complete=False).state == "starting"


def _point(time: float, records: float, latency: float | None) -> schema.Point:
    return schema.Point(
        time=time,
        records_in_per_second=records,
        records_out_per_second=records,
        latency_seconds=latency,
        lineage_unacked_bytes=10,
        state_bytes=100,
    )


def test_histories_are_added_up() -> None:
    """By their time; the latency is weighed by what went out; one that is not whole is left out."""
    one = _status(history=(_point(2.1, 10, 0.1), _point(4.1, 10, None), _point(6.1, 10, 0.1)))
    two = _status(history=(_point(3.9, 30, 0.5), _point(5.9, 30, 0.5)))
    first, second = merge_status(STATUS, [one, two], is_complete=True).history
    assert (first.time, first.records_in_per_second, first.state_bytes) == (3.9, 40, 200)
    assert first.latency_seconds == (0.1 * 10 + 0.5 * 30) / 40
    assert second.latency_seconds == 0.5


def test_operators_of_all_are_put_together() -> None:
    """The slowest and the fastest task count; what is open, pending and dropped is added up."""

    def operator(
        time: float | None, windows: int | None, late: int, name: str = "w"
    ) -> schema.OperatorEntry:
        return schema.OperatorEntry(
            operator=name,
            stage="s",
            stream_time=time,
            newest_time=None if time is None else time + 5,
            windows=windows,
            dropped={"late": late},
            held_by=schema.HeldByEntry(reason="silent", text=f"at {time}", seconds=1.0),
        )

    one = _status(operators=(operator(10.0, 3, 1), operator(None, None, 0, "v")))
    two = _status(operators=(operator(4.0, 4, 2), operator(None, None, 0, "v")))
    three = _status(operators=(operator(None, None, 0),))
    merged, other = merge_status(STATUS, [one, two, three], is_complete=True).operators
    assert (merged.stream_time, merged.newest_time) == (4.0, 15.0)
    assert (merged.windows, merged.timers, merged.dropped) == (7, None, {"late": 3})
    assert merged.held_by is not None
    assert merged.held_by.text == "at 4.0"
    assert other == operator(None, None, 0, "v")


def test_edges_tasks_and_errors_of_all() -> None:
    """Rates and lags are added up where they are known; lists are joined, and bounded."""

    def edge(rate: float | None, lag: int | None) -> schema.Edge:
        return schema.Edge(
            source=None,
            target="a",
            topic="in",
            kind="narrow",
            records_per_second=rate,
            lag_records=lag,
        )

    def error(time: float) -> schema.LoggedError:
        return schema.LoggedError(time=time, logger="x", event="e")

    one = _status(edges=(edge(2.5, 7),), errors=tuple(error(t) for t in range(ERRORS_MAX)))
    two = _status(edges=(edge(1.0, None),), errors=(error(3.5), error(99)))
    merged = merge_status(_status(edges=(edge(None, None),)), [one, two], is_complete=True)
    assert merged.edges == (edge(3.5, 7),)
    assert [e.time for e in merged.errors][-1] == 99
    assert len(merged.errors) == ERRORS_MAX
    unknown = merge_status(_status(edges=(edge(None, None),)), [STATUS], is_complete=True)
    assert unknown.edges == (edge(None, None),)

"""What a worker says of itself, in status and metrics: the real runtime, Kafka in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import kstash
from kstash.errors import OperatorError
from kstash.observe.catalog import METRICS
from kstash.observe.metrics import PrometheusMetrics
from kstash.ports.status import BrokerStatus
from kstash.runtime.context import RECOVERIES_MAX
from kstash.testing import TestDriver
from kstash.testing.background import ManualBackground
from tests.unit.runtime.test_moves import Pair
from tests.unit.runtime.worker.test_lags import counted, first_task, go_on, hold, status


def test_tasks_say_where_they_are() -> None:
    """Stage, partition, and the greatest timestamp of what was processed."""
    with TestDriver(counted("report"), partitions=2) as driver:
        assert first_task(driver).stream_time is None
        driver.send("in", "a", partition=1, timestamp_ms=1_600_000_123_000)
        driver.send("in", "b", partition=1, timestamp_ms=1_600_000_100_000)
        driver.advance(1)
        tasks = {task.name: task for task in status(driver).tasks}
        name = driver.rig.topology.stages[0].name
        task = tasks[f"{name}_1"]
        assert (task.stage, task.partition, task.inputs) == (name, 1, ("in/1",))
        assert task.stream_time == 1_600_000_123.0
        assert tasks[f"{name}_0"].stream_time is None


def test_recoveries_are_remembered_with_their_phases() -> None:
    """The newest ones, the oldest first."""
    with TestDriver(counted("report"), lineage_delay_s=1) as driver:
        driver.send("in", "a")
        driver.send("in", "b")
        driver.crash()
        driver.recover()
        (recovery,) = status(driver).recoveries
        assert recovery.group == 0
        assert recovery.replayed == 4  # each word in both stages
        assert recovery.ended == pytest.approx(driver.clock.time_ms() / 1000, abs=1)
        phases = ["detect", "claim", "fence", "scan", "restore", "start", "replay"]
        assert sorted(recovery.phases) == sorted(phases)
        assert sum(recovery.phases.values()) == pytest.approx(recovery.seconds)
        worker = driver.rig.worker
        for _ in range(2 * RECOVERIES_MAX):
            worker.context.recoveries.append(recovery)
        assert len(status(driver).recoveries) == RECOVERIES_MAX


def keyed(**settings: Any) -> kstash.App:
    """One task with a store."""
    app = kstash.App("aged", checkpoint_interval_ms=10_000, **settings)
    app.stream("in", key=kstash.text, value=kstash.text).count("n").to("out", value=kstash.int_text)
    return app


def test_a_checkpoint_that_holds_everything_has_no_age() -> None:
    """An idle task's is as good as new, and counts from when the task goes on."""
    with TestDriver(keyed()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(4)
        assert first_task(driver).checkpoint_age_seconds == pytest.approx(4, abs=1.5)
        driver.advance(120)
        task = first_task(driver)
        assert task.position == task.checkpointed_position == task.remote_position == 1
        assert (task.checkpoint_age_seconds, task.remote_age_seconds) == (0.0, 0.0)
        driver.clock.advance(0.5)  # between two looks
        task = first_task(driver)
        assert (task.checkpoint_age_seconds, task.remote_age_seconds) == (0.0, 0.0)
        driver.rig.cluster.links["lineage"].holds_requests = True
        driver.send("in", "v", key="k")
        driver.advance(30)
        task = first_task(driver)
        assert task.remote_position == 1
        assert task.checkpoint_age_seconds == pytest.approx(30, abs=2)
        assert task.remote_age_seconds == pytest.approx(30, abs=2)
        driver.rig.cluster.links["lineage"].holds_requests = False
        driver.advance(30)
        assert first_task(driver).checkpoint_age_seconds == 0


def test_uploads_that_fail_make_the_remote_checkpoint_old() -> None:
    """The local ones go on; the age of the newest remote one counts from when it was taken."""
    with TestDriver(keyed()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(20)
        driver.store.is_away = True
        for _ in range(12):
            driver.send("in", "v", key="k")
            driver.advance(5)
        task = first_task(driver)
        assert task.checkpoint_age_seconds is not None
        assert task.remote_age_seconds is not None
        assert task.checkpoint_age_seconds < 20
        assert task.remote_position == 1
        assert task.remote_age_seconds == pytest.approx(60, abs=4)


def test_ages_are_left_out_where_there_are_no_checkpoints() -> None:
    """Without recovery there are none, and without a store no remote ones."""
    with TestDriver(keyed(guarantee="none")) as driver:
        driver.advance(2)
        task = first_task(driver)
        assert (task.checkpoint_age_seconds, task.remote_age_seconds) == (None, None)
    with TestDriver(keyed(checkpoint_store="none")) as driver:
        driver.send("in", "v", key="k")
        driver.advance(2)
        task = first_task(driver)
        assert task.checkpoint_age_seconds is not None
        assert (task.remote_position, task.remote_age_seconds) == (None, None)


def test_checkpoints_of_tasks_without_stores_are_remote() -> None:
    """They are in the lineage topic, whole."""
    with TestDriver(counted("report")) as driver:
        driver.send("in", "a")
        driver.advance(30)
        task = first_task(driver)
        assert (task.remote_position, task.remote_age_seconds) == (1, 0.0)


# -- metrics, as Prometheus finds them ---------------------------------------------------------


def watched(app: kstash.App, **options: Any) -> TestDriver:
    """A driver of an application whose worker counts for Prometheus."""
    driver = TestDriver(app, **options)
    driver.crash()
    driver.rig.metrics = PrometheusMetrics()  # type: ignore[assignment] # both are what the port is
    driver.recover()
    return driver


def scraped(driver: TestDriver) -> dict[str, float]:
    """Samples by name and labels, without the prefix, as `key_of` writes them."""
    text = driver.rig.metrics.render().decode()  # type: ignore[attr-defined] # see `watched`
    families = text_string_to_metric_families(text)
    return {
        key_of(sample.name, sample.labels): sample.value for f in families for sample in f.samples
    }


ORDER = {label: number for number, label in enumerate(("topic", "broker", "stage"))}


def key_of(name: str, labels: Mapping[str, str]) -> str:
    """`name[label value][another]`: a topic, broker or stage goes first."""
    ordered = sorted(labels, key=lambda label: (ORDER.get(label, len(ORDER)), label))
    return name.removeprefix("kstash_") + "".join(f"[{labels[label]}]" for label in ordered)


NOT_IN_A_DRIVER = {"build_info"}
"""Set by the composition root."""

NEEDS_A_BROKER = {"broker_round_trip_seconds"}

NEEDS_TIME = {
    *("operator_time_seconds", "operator_time_delay_seconds"),
    *("windows_open", "timers_pending", "wall_timers_pending", "wall_timers_late_seconds"),
    "time_held_seconds",
}
"""Of operators that go by time: see `test_operator_report.py`."""

NEEDS_A_MERGE = {"input_awaited_seconds"}
"""Of topics that are taken in the order of their times: see `test_merging.py`."""


def test_each_metric_has_a_value_behind_a_crash() -> None:
    """Whatever the table promises is there as soon as there is something to say."""
    with watched(counted("all", checkpoint_interval_ms=2_000), lineage_delay_s=0.3) as driver:
        for _ in range(3):
            driver.send("in", "a")
            driver.advance(4)
        driver.send("in", "b")
        driver.crash()
        driver.rig.backend.lose()  # so that something is restored
        driver.recover()
        driver.advance(12)
        found = {name.partition("[")[0] for name in scraped(driver)}
    endings = {"counter": "_total", "histogram": "_count"}
    missing = {m.name for m in METRICS if m.name + endings.get(m.kind, "") not in found}
    assert missing == NOT_IN_A_DRIVER | NEEDS_A_BROKER | NEEDS_TIME | NEEDS_A_MERGE


def test_lags_of_all_inputs_are_shown() -> None:
    """Records and seconds, for the internal topic too."""
    with watched(counted("lags")) as driver:
        inner = driver.rig.topology.internal_topics[0]
        driver.send("in", "a")
        driver.advance(4)
        hold(driver)
        driver.kafka.append("in", b"b")
        driver.advance(10)
        found = scraped(driver)
        assert found["input_lag_records[in][0]"] == 1
        assert found["input_lag_seconds[in][0]"] == pytest.approx(10, abs=4)
        assert found[f"input_lag_records[{inner}][0]"] == found[f"input_lag_seconds[{inner}][0]"]
        assert found[f"input_lag_records[{inner}][0]"] == 0
        name = driver.rig.topology.stages[0].name
        assert found[f"task_stalled_seconds[{name}_0]"] == pytest.approx(10, abs=4)
        assert found["task_stalled_seconds[n_0]"] == 0
        go_on(driver)
        driver.advance(3)
        assert scraped(driver)[f"task_stalled_seconds[{name}_0]"] == 0


def test_stream_time_is_the_greatest_and_its_distance_grows() -> None:
    """A record that comes late does not set it back."""
    with watched(counted("times")) as driver:
        name = driver.rig.topology.stages[0].name
        driver.advance(1)
        assert f"stream_time_seconds[{name}_0]" not in scraped(driver)
        now_ms = driver.clock.time_ms()
        driver.send("in", "a", timestamp_ms=now_ms - 10_000)
        driver.send("in", "b", timestamp_ms=now_ms - 20_000)
        driver.advance(5)
        found = scraped(driver)
        assert found[f"stream_time_seconds[{name}_0]"] == pytest.approx(now_ms / 1000 - 10)
        assert found[f"stream_time_delay_seconds[{name}_0]"] == pytest.approx(15, abs=1)


def test_an_idle_task_is_shown_for_as_long_as_it_is_here() -> None:
    """And is gone at once when its group moves; both workers never tell of one task."""
    pair = Pair(checkpoint_interval_ms=1_000)
    pair.metrics = PrometheusMetrics()  # type: ignore[assignment] # both are what the port is
    first = pair.start("a")
    pair.turn(200)
    name = first.context.layout.topology.stages[0].name
    pair.clock.advance(3_600)
    pair.turn(200)
    assert [live for key, live in samples(pair) if key == "task_live"] == [1, 1]
    before = pair.metrics
    pair.metrics = PrometheusMetrics()  # type: ignore[assignment] # of the other worker
    pair.start("b")
    pair.turn(300)
    ours, theirs = (set(labels_of(metrics, "task_position")) for metrics in (before, pair.metrics))
    assert (ours, theirs) == ({f"{name}_0"}, {f"{name}_1"})
    lags = {tuple(labels_of(m, "input_lag_records")) for m in (before, pair.metrics)}
    assert lags == {("0", "in"), ("1", "in")}  # partition and topic


def samples(pair: Pair) -> list[tuple[str, float]]:
    """Name and value of each sample."""
    text = pair.metrics.render().decode()  # type: ignore[attr-defined] # it is for Prometheus
    families = text_string_to_metric_families(text)
    return [(s.name.removeprefix("kstash_"), s.value) for f in families for s in f.samples]


def labels_of(metrics: Any, name: str) -> list[str]:
    """Label values of a gauge."""
    families = text_string_to_metric_families(metrics.render().decode())
    found = (s for f in families for s in f.samples if s.name == f"kstash_{name}")
    return [value for sample in found for value in sample.labels.values()]


def test_waiting_groups_are_shown() -> None:
    """From the look that first saw it on, until it is live."""
    with watched(counted("waits")) as driver:
        driver.advance(1)
        assert scraped(driver)["group_waiting_seconds[0]"] == 0
        driver.rig.cluster.links["claim"].holds_requests = True
        driver.rig.worker._groups.restart(0, RuntimeError("a test"))
        driver.advance(20)
        assert scraped(driver)["group_waiting_seconds[0]"] == pytest.approx(20, abs=2)
        # The figure of `/livez`, and what an alert about an attempt after another needs.
        (group,) = status(driver).groups
        assert scraped(driver)["group_idle_seconds[0]"] == group.idle_seconds > 10
        assert scraped(driver)["group_restarts_total[0]"] == 1
        assert scraped(driver)["task_groups"] == 1
        assert "task_live[n_0]" not in scraped(driver)
        driver.rig.cluster.links["claim"].holds_requests = False
        driver.advance(5)
        assert scraped(driver)["group_waiting_seconds[0]"] == 0


def test_rebalances_are_counted_at_both_ends() -> None:
    """A group that moves is taken from one worker and given to another."""
    pair = Pair(checkpoint_interval_ms=1_000)
    pair.start("a")
    pair.turn(100)
    assert pair.metrics.counts["rebalances"] == 1
    pair.start("b")
    pair.turn(300)
    assert pair.metrics.counts["rebalances"] == 3


def test_records_that_count_for_nothing_are_counted_by_why() -> None:
    """What a setting skips is one reason, and each is there before it happens."""
    app = counted("drops", skip_records="in/0/1")
    with watched(app) as driver:
        name = driver.rig.topology.stages[0].name
        for reason in ("repeated", "fenced", "skipped"):
            assert scraped(driver)[f"records_dropped_total[{name}][{reason}]"] == 0
        for value in "abc":
            driver.send("in", value)
        driver.advance(1)
        found = scraped(driver)
        assert found[f"records_dropped_total[{name}][skipped]"] == 1
        assert found[f"records_in_total[{name}]"] == 2


@pytest.mark.parametrize("ends", ["starts over", "is given up"])
def test_what_a_task_did_after_the_last_report_is_counted_when_it_is_closed(ends: str) -> None:
    """Up to a second's work: the next report does not see the task any more."""
    app = kstash.App("last", skip_records="in/0/1")
    words = app.stream("in", key=kstash.text, value=kstash.text)
    words.window(kstash.tumbling(timedelta(minutes=1))).count("n").to("out")
    with watched(app) as driver:
        driver.send("in", "v", key="k")
        driver.advance(2)
        before = scraped(driver)
        for timestamp_ms in (None, None, 60_000, None):  # skipped, counted, too late, counted
            driver.send("in", "v", key="k", timestamp_ms=timestamp_ms)
        assert scraped(driver)["records_in_total[n]"] == before["records_in_total[n]"]
        if ends == "starts over":
            driver.rig.worker._groups.restart(0, RuntimeError("a test"))
        else:
            driver.close()
        found = scraped(driver)
    more = {name: found[name] - before.get(name, 0) for name in found if name.endswith("]")}
    assert more["records_in_total[n]"] == 3
    assert more["records_out_total[n]"] == 2
    assert more["records_dropped_total[n][skipped]"] == 1
    assert [more[name] for name in more if "[late]" in name] == [1]


def test_errors_are_counted_by_operator() -> None:
    """Without the line in the user's file: labels are those of the program, and few."""

    def halve(value: str) -> int:
        return 1 // len(value)

    app = kstash.App("errors")
    app.stream("in", value=kstash.text).map_values(halve).to("out", value=kstash.int_text)
    driver = watched(app)
    name = driver.rig.topology.stages[0].name
    operators = ("input in", "map_values(halve)", "to(out)")
    for operator in operators:
        assert scraped(driver)[f"operator_errors_total[{name}][{operator}]"] == 0
    with pytest.raises(OperatorError):
        driver.send("in", "")
    found = scraped(driver)
    assert [found[f"operator_errors_total[{name}][{o}]"] for o in operators] == [0, 1, 0]
    assert sum(key.startswith("operator_errors_total") for key in found) == len(operators)


def test_lineage_and_queues_that_wait_are_shown() -> None:
    """Age of the oldest unacknowledged lineage, and what the producers still have."""
    app = kstash.App("queues")
    left, right = (app.stream(name, value=kstash.text) for name in "lr")
    left.merge(right).key_by(str, key=kstash.text).count("n").to("out", value=kstash.int_text)
    with watched(app) as driver:
        links = driver.rig.cluster.links
        driver.advance(1)
        for link in links.values():
            link.holds_requests = True
        driver.send("l", "a")
        driver.advance(10)
        found = scraped(driver)
        assert found["lineage_oldest_unacked_seconds"] == pytest.approx(10, abs=1)
        assert found["producer_queue_records"] >= 2
        assert found["producer_queue_bytes"] > 0
        for link in links.values():
            link.holds_requests = False
        driver.advance(5)
        found = scraped(driver)
        assert found["lineage_oldest_unacked_seconds"] == 0
        assert (found["producer_queue_records"], found["producer_queue_bytes"]) == (0, 0)


def test_commits_take_as_long_as_their_acknowledgements() -> None:
    """From the decision on: what a reader of committed records waits for."""
    with watched(counted("commits")) as driver:
        driver.advance(20)
        driver.rig.cluster.links["sink"].delay_s = 0.5
        before = scraped(driver)
        driver.send("in", "a")
        driver.advance(5)
        found = scraped(driver)
        assert (
            found["commit_seconds_count"] == found["commits_total"] == 1 + before["commits_total"]
        )
        took_s = found["commit_seconds_sum"] - before["commit_seconds_sum"]
        assert 0.4 < took_s < 1.5


def test_stores_have_sizes() -> None:
    """Entries at once; bytes when they are written."""
    with watched(keyed(), partitions=2) as driver:
        for key in "abcdefghij":
            driver.send("in", "v", key=key)
        driver.advance(11)
        assert scraped(driver)["state_entries[n]"] == 10
        driver.advance(20)
        found = scraped(driver)
        assert found["state_entries[n]"] == 10
        assert found["state_bytes[n]"] > 10


def test_ages_of_checkpoints_are_shown() -> None:
    """As in the status, for each task."""
    with watched(keyed()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(4)
        assert scraped(driver)["checkpoint_age_seconds[n_0]"] == pytest.approx(4, abs=2)
        assert scraped(driver)["checkpoint_remote_age_seconds[n_0]"] == pytest.approx(4, abs=2)
        driver.advance(20)
        assert scraped(driver)["checkpoint_age_seconds[n_0]"] == 0
        assert scraped(driver)["checkpoint_remote_age_seconds[n_0]"] == 0


def test_a_restore_says_what_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 when nothing is fetched; gone with the group."""
    with watched(keyed()) as driver:
        driver.send("in", "v", key="k")
        driver.advance(30)
        assert scraped(driver)["restore_remaining_bytes[0]"] == 0
        driver.crash()
        driver.rig.backend.lose()
        held: list[Any] = []
        submit = ManualBackground.submit

        def holding(self: ManualBackground, lane: str, work: Any, on_done: Any) -> Any:
            if lane == "restore":
                progress = work.__self__.progress
                progress.total_bytes, progress.done_bytes = 1_000, 250
                held.append((self, lane, work, on_done))
                return submit(self, "other", lambda _: None, lambda *_: None)
            return submit(self, lane, work, on_done)

        monkeypatch.setattr(ManualBackground, "submit", holding)
        driver.rig.start()
        for _ in range(40):
            driver.rig.settle()
            driver.clock.advance(0.1)
        found = scraped(driver)
        assert found["restore_remaining_bytes[0]"] == 750
        assert found["restore_eta_seconds[0]"] == pytest.approx(12, abs=4)
        monkeypatch.undo()
        for _, lane, work, on_done in held:
            driver.background.submit(lane, work, on_done)
        driver.rig.run_until_live()
        driver.advance(1)
        assert scraped(driver)["restore_remaining_bytes[0]"] == 0


def test_brokers_are_shown_by_the_slowest_client() -> None:
    """Connections by state; a quantile of each broker."""
    with watched(counted("brokers")) as driver:
        said: tuple[BrokerStatus, ...] = (
            BrokerStatus("1", "up", {"0.5": 0.005}),
            BrokerStatus("1", "up", {"0.5": 0.002, "0.99": 0.01}),
            BrokerStatus("2", "down", {}),
        )
        vars(driver.rig.cluster)["brokers"] = lambda: said
        driver.advance(1)
        found = scraped(driver)
        states = ("up", "connecting", "down", "idle")
        assert [found[f"broker_connections[{state}]"] for state in states] == [2, 0, 1, 0]
        assert found["broker_round_trip_seconds[1][0.5]"] == 0.005
        assert found["broker_round_trip_seconds[1][0.99]"] == 0.01
        said = ()
        driver.advance(1)
        assert "broker_round_trip_seconds[1][0.5]" not in scraped(driver)

"""Holes of the protocol that need the runtime or Kafka's settings to be seen.

Source: protocol, section 9. The worker is the real one, over an Apache Kafka in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

import kstash
from kstash import App
from kstash.core.determinants import Consumed
from kstash.core.plan import TaskSpec
from kstash.core.record_codec import decode_record
from kstash.core.records import Claim, Hint, LineageRecord, Segment, Start
from kstash.errors import (
    CommittedPositionLostError,
    KafkaUnavailableError,
    OffsetOutOfRangeError,
    ProducerFailedError,
    ProgramChangedError,
    ReplayDivergedError,
    TopicMismatchError,
)
from kstash.ports.kafka import Partition
from kstash.runtime.context import LineageTimes
from kstash.runtime.group.sinks import POSITIONS_REFRESH_S
from kstash.runtime.layout import Layout
from kstash.runtime.worker.groups import Groups
from kstash.settings.config import Config
from kstash.startup.topics import check_topics
from kstash.testing import MemoryKafka, TestDriver
from kstash.testing.kafka.cluster import MemoryAdmin, MemoryCluster
from kstash.testing.kafka.log import PartitionLog


def last_two(state: str, value: str) -> str:
    """An aggregate that shows the order of its inputs."""
    return f"{state}{value}"[-2:]


def merged(**settings: Any) -> App:
    """Two topics keyed alike, merged: an order of inputs, no internal topic."""
    app = App("holes", **settings)
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    left.merge(right).aggregate("pairs", str, last_two, value=kstash.text).to("out")
    return app


def spread(**settings: Any) -> App:
    """One topic, an internal topic after it."""
    app = App("holes", **settings)
    words = app.stream("in", value=kstash.text)
    words.key_by(lambda word: word, key=kstash.text).count("words").to("out", value=kstash.int_text)
    return app


def outputs(driver: TestDriver) -> list[Any]:
    """Values of new outputs, over all partitions."""
    return [record.value for record in driver.read("out")]


def records_of(driver: TestDriver, group: int, kind: type[LineageRecord]) -> list[LineageRecord]:
    """Records of one kind in the lineage topic."""
    decoded = [
        decode_record(record.key(), record.value())
        for record in driver.kafka.read("holes-lineage", group)
    ]
    return [record for record in decoded if isinstance(record, kind)]


# -- I9 ------------------------------------------------------------------------------------------


def numbered(column: str) -> App:
    """Counts words; what stands in a column of its frames or sink records differs each time."""
    numbers = itertools.count()
    app = App("holes")
    words = app.stream("l", value=kstash.text)
    if column == "frame key":
        words = words.map_values(lambda word: f"{word}{next(numbers)}")
    counts = words.key_by(str, key=kstash.text).count("counts")
    if column == "sink value":
        counts = counts.map_values(lambda count: count + next(numbers))
    counts.to("out", value=kstash.int_text)
    return app


@pytest.mark.parametrize(
    ("column", "pause_s"), [("frame key", 0), ("sink value", 0), ("sink value", 15)]
)
def test_i9_outputs_that_differ_from_stored_ones_stop_the_replay(column: str, pause_s: int) -> None:
    """Every output that a scan has found is compared, from the beginning or a checkpoint on."""
    with TestDriver(numbered(column)) as driver:
        for word in "abc":
            driver.send("l", word)
        driver.advance(pause_s)
        driver.send("l", "a")
        driver.crash()
        with pytest.raises(ReplayDivergedError, match="is the program deterministic") as caught:
            driver.recover()
        assert (caught.value.topic == "out") == (column == "sink value")


def test_i9_what_a_scan_found_is_forgotten_once_it_is_passed() -> None:
    """It may have found outputs before the base too, which nobody makes again."""
    with TestDriver(numbered("")) as driver:
        for word in "ab":
            driver.send("l", word)
            driver.advance(15)
            driver.send("l", word)
        driver.crash()
        driver.recover()
        tasks = driver.rig.worker.groups[0].tasks.values()
        assert any(task.replay._stored for task in tasks)
        driver.send("l", "b")
        assert not any(task.replay._stored for task in tasks)
        assert outputs(driver) == [1, 2, 1, 2, 3]


# -- who logs ------------------------------------------------------------------------------------


def test_a_task_of_one_input_logs_runs_where_its_start_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one input events follow by themselves; a task that logs them replays what it logged."""

    def spec(*given: Any, **more: Any) -> TaskSpec:
        return replace(before(*given, **more), logs=True)

    before = Layout.spec
    monkeypatch.setattr(Layout, "spec", spec)
    with TestDriver(numbered("")) as driver:
        for word in "aba":
            driver.send("l", word, b"key")
        (start,) = records_of(driver, 0, Start)
        assert isinstance(start, Start)
        assert {task.logs for task in start.tasks.values()} == {True}
        found = [s for s in records_of(driver, 0, Segment) if isinstance(s, Segment)]
        for stage in start.tasks:
            runs = [entry for s in found if s.task.stage == stage for entry in s.entries]
            assert [(r.position, r.count) for r in runs if isinstance(r, Consumed)] == [
                (0, 1),
                (1, 1),
                (2, 1),
            ]
        driver.crash()
        driver.recover()
        driver.send("l", "a", b"key")
        assert outputs(driver) == [1, 1, 2, 3]
        driver.crash()
        driver.kafka.log(("l", 0)).compact()
        with pytest.raises(ReplayDivergedError, match="compaction or retention"):
            driver.recover()


# -- H13 -----------------------------------------------------------------------------------------


def test_h13_an_input_changed_by_compaction_stops_the_replay() -> None:
    """H13: count and end offset of each run are verified; the error names topic and offset."""
    with TestDriver(merged()) as driver:
        for topic in "llrl":
            driver.send(topic, topic, "key")
        driver.crash()
        driver.kafka.log(("l", 0)).compact()
        with pytest.raises(ReplayDivergedError, match="compaction or retention") as caught:
            driver.recover()
        assert (caught.value.topic, caught.value.partition) == ("l", 0)


def test_h13_an_input_cut_by_retention_stops_the_replay() -> None:
    """H13: what a replay needs is no longer there: refused, with the offset that is needed."""
    with TestDriver(merged()) as driver:
        for topic in "llr":
            driver.send(topic, topic, "key")
        driver.crash()
        driver.kafka.log(("l", 0)).delete_before(1)
        with pytest.raises(
            OffsetOutOfRangeError,
            match="earliest offset that it needs is 0, but the first that is left is 1",
        ) as caught:
            driver.recover()
        assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("l", 0, 0)


def test_h13_retention_below_the_checkpoint_is_harmless() -> None:
    """H13: what a checkpoint covers may go."""
    with TestDriver(merged()) as driver:
        for topic in "llr":
            driver.send(topic, topic, "key")
        driver.advance(30)
        driver.crash()
        driver.kafka.log(("l", 0)).delete_before(2)
        driver.recover()
        driver.send("l", "x", "key")
        assert outputs(driver)[-1] == "rx"


# -- H15, H16 ------------------------------------------------------------------------------------


def test_h15_new_code_does_not_replay_old_lineage() -> None:
    """H15: after a crash another program is refused; the old one finishes, then the new starts."""
    new = App("holes")
    left, right = (new.stream(name, key=kstash.text, value=kstash.text) for name in "lr")
    longer = left.merge(right).map_values(str.upper)
    longer.aggregate("pairs", str, last_two, value=kstash.text).to("out")
    with TestDriver(merged()) as driver:
        driver.send("l", "a", "key")
        driver.crash()
        with pytest.raises(ProgramChangedError, match=r"\+ operator map_values\(upper\) of stage"):
            driver.recover(new)
        driver.recover(merged())
        driver.drain()
        driver.recover(new)
        driver.send("r", "b", "key")
        assert outputs(driver) == ["a", "aB"]


def test_h16_added_partitions_stop_the_replay() -> None:
    """H16: partition counts are pinned in START: keys would move away from their state."""
    with TestDriver(merged(), partitions=2) as driver:
        driver.send("l", "a", "key")
        driver.crash()
        driver.kafka._topics["out"][0].append(PartitionLog("out", 2, config={}, clock=driver.clock))
        with pytest.raises(ProgramChangedError, match="~ partitions of out: were 2, are 3"):
            driver.recover()


# -- H20 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["in", "out", "holes-words-repartition", "holes-lineage"])
def test_h20_unclean_elections_are_refused(topic: str) -> None:
    """H20: what was read must stay in the log, in every topic of the application."""
    kafka = MemoryKafka()
    admin = MemoryAdmin(kafka)
    config = Config.load(application_id="holes", state_dir="unused")
    for name in ("in", "out"):
        kafka.create_topic(name, 1)
    check_topics(admin, spread().topology(), config)
    kafka._topics[topic][1]["unclean.leader.election.enable"] = "true"
    with pytest.raises(TopicMismatchError, match=r"unclean.leader.election.enable=false") as caught:
        check_topics(admin, spread().topology(), config)
    assert caught.value.topic == topic


# -- retention, and the lag of the cleaner --------------------------------------------------------


def test_a_sink_must_outlast_the_longest_outage() -> None:
    """Section 7: retention that is equal to `outage_ms_max` is too short by the recovery itself."""
    kafka = MemoryKafka()
    config = Config.load(application_id="holes", state_dir="unused", outage_ms_max=3_600_000)
    kafka.create_topic("in", 1)
    kafka.create_topic("out", 1, {"retention.ms": "3600000"})
    with pytest.raises(TopicMismatchError) as caught:
        check_topics(MemoryAdmin(kafka), spread().topology(), config)
    assert (caught.value.topic, caught.value.setting) == ("out", "retention.ms")
    kafka._topics["out"][1]["retention.ms"] = "3600001"
    check_topics(MemoryAdmin(kafka), spread().topology(), config)


def test_h7_the_cleaner_of_the_lineage_topic_has_a_lag() -> None:
    """H7: a zombie that has trimmed is found out by then, and a read is over (H23)."""
    kafka = MemoryKafka()
    for name in ("in", "out"):
        kafka.create_topic(name, 1)
    config = Config.load(application_id="holes", state_dir="unused")
    check_topics(MemoryAdmin(kafka), spread().topology(), config)
    assert int(kafka.topics()["holes-lineage"].config["min.compaction.lag.ms"]) >= 60_000


# -- H22 -----------------------------------------------------------------------------------------


def claims(driver: TestDriver) -> list[int]:
    """How often each group was claimed."""
    return [len(records_of(driver, group, Claim)) for group in range(2)]


@pytest.mark.parametrize("link", ["data", "lineage"])
def test_h22_an_error_of_a_shared_producer_stops_every_group(link: str) -> None:
    """H22, section 6: tasks share the producer, so all groups of the worker claim anew."""
    with TestDriver(spread(), partitions=2) as driver:
        for number in range(4):
            driver.send("in", "word", partition=number % 2)
        assert claims(driver) == [1, 1]
        driver.rig.cluster.links[link].error = ProducerFailedError("a batch was refused")
        # A task with one input logs no lineage: hints and checkpoints go to that producer.
        driver.send("in", "word", partition=0)
        driver.advance(15)
        assert claims(driver) == [2, 2]
        driver.send("in", "word", partition=1)
        driver.advance(1)
        assert sorted(outputs(driver)) == [1, 2, 3, 4, 5, 6]


def test_h22_an_error_of_a_sinks_producer_stops_its_group() -> None:
    """H22, section 6: there is a transactional producer for each group; the others go on."""
    with TestDriver(merged(), partitions=2) as driver:
        driver.send("l", "a", "k")
        driver.send("l", "b", "key")
        driver.advance(1)
        driver.rig.cluster.links["sink"].error = ProducerFailedError("a batch was refused")
        driver.send("r", "c", "key")
        driver.advance(5)
        assert claims(driver) == [1, 2]
        driver.send("r", "d", "k")
        driver.advance(1)
        assert sorted(outputs(driver)) == ["a", "ad", "b", "bc"]


# -- H23, H24 ------------------------------------------------------------------------------------


def test_h23_an_idle_group_keeps_its_lineage_partition_moving() -> None:
    """H23: an active segment is not rolled without writes: one append per `segment.ms`."""
    with TestDriver(spread()) as driver:
        driver.send("in", "word")
        driver.advance(30)
        log = driver.kafka.log(("holes-lineage", 0))
        end = log.end_offset
        for _ in range(3):
            driver.clock.advance(LineageTimes().segment_s / 2)
            driver.advance(2)
        assert end < log.end_offset <= end + 2
        assert isinstance(records_of(driver, 0, Hint)[-1], Hint)


def test_h23_a_slow_read_of_the_lineage_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """H23: it took longer than tombstones stay, so one may be gone that it needed: read anew."""
    restart = Groups.restart
    errors: list[Exception] = []
    clusters: list[MemoryCluster] = []

    def slow(kafka: MemoryKafka, application_id: str, **given: Any) -> MemoryCluster:
        made = MemoryCluster(kafka, application_id, **given)
        made.links["marker"].delay_s = 3.0
        clusters.append(made)
        return made

    def restarted(groups: Groups, number: int, error: Exception) -> None:
        errors.append(error)
        clusters[-1].links["marker"].delay_s = 0.0
        restart(groups, number, error)

    monkeypatch.setattr("kstash.testing.rig.MemoryCluster", slow)
    monkeypatch.setattr(Groups, "restart", restarted)
    driver = TestDriver(spread())
    driver.crash()
    driver.kafka._topics["holes-lineage"][1]["delete.retention.ms"] = "1000"
    driver.recover()
    driver.send("in", "word")
    driver.advance(1)
    assert outputs(driver) == [1]
    assert [type(error) for error in errors] == [KafkaUnavailableError]
    assert "delete.retention.ms=" in str(errors[0])


def test_h24_a_listed_end_that_lags_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """H24: lineage and internal topics are read to an own record, never to a listed end."""
    listed = MemoryAdmin.end_offsets

    def lagging(admin: MemoryAdmin, partitions: Collection[Partition]) -> dict[Partition, int]:
        ends = listed(admin, partitions)
        return {p: 0 if p[0].startswith("holes-") else end for p, end in ends.items()}

    with TestDriver(spread(), lineage_delay_s=1) as driver:
        for _ in range(3):
            driver.send("in", "word")
        # As a broker answers whose high watermark is behind after a change of leaders.
        monkeypatch.setattr(MemoryAdmin, "end_offsets", lagging)
        for _ in range(2):
            driver.crash()
            driver.recover()
            driver.send("in", "word")
        driver.advance(5)
        assert outputs(driver) == [1, 2, 3, 4, 5]


# -- H33 -----------------------------------------------------------------------------------------


def test_h33_without_its_committed_position_a_group_refuses_to_start() -> None:
    """H33: replay could not tell which outputs are out; after a RELEASE it need not."""
    with TestDriver(merged()) as driver:
        driver.send("l", "a", "key")
        driver.advance(30)
        driver.close()
        driver.kafka.coordinator.positions.clear()
        driver.recover()
        driver.send("r", "b", "key")
        assert outputs(driver) == ["a", "ab"]
        driver.advance(30)
        driver.crash()
        driver.kafka.coordinator.positions.clear()
        with pytest.raises(CommittedPositionLostError, match="committed position is gone"):
            driver.recover()


def test_h33_committed_positions_are_refreshed_daily() -> None:
    """H33: offsets of a silent group expire after seven days."""
    with TestDriver(merged()) as driver:
        driver.send("l", "a", "key")
        driver.advance(1)
        positions = driver.kafka.coordinator.positions
        kept = dict(positions)
        positions.clear()
        driver.advance(5)
        assert positions == {}
        driver.clock.advance(POSITIONS_REFRESH_S)
        driver.advance(1)
        assert positions == kept

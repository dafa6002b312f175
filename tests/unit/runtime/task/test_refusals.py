"""Appends and outputs that Kafka refuses: tried again, waited for, or told with the place."""

from __future__ import annotations

import re
from typing import Any

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.core.outputs import Outgoing
from kstash.core.partitioner import Partitioner
from kstash.core.records import Hint
from kstash.errors import ProducerFailedError, ProducerRefusedError, RecordRefusedError
from kstash.ports.kafka import OnDone
from kstash.runtime.load import Load
from kstash.runtime.task.sent import Sent
from kstash.runtime.worker.failures import (
    CALM_S,
    REFUSED_AT_START_S,
    REFUSED_GRACE_S,
    RESTART_BACKOFF_S,
)
from kstash.testing import TestDriver
from kstash.testing.kafka.cluster import MemoryCluster
from kstash.testing.kafka.producers import MemorySinkProducer

STEP_S = 0.1


def words(delivery: Any = "immediate") -> kstash.App:
    """A count after a repartition, to a sink."""
    app = kstash.App("shop")
    stream = app.stream("in", key=kstash.text, value=kstash.text).key_by(str, key=kstash.text)
    stream.count("words").to("out", value=kstash.int_text, delivery=delivery)
    return app


def restarted(driver: TestDriver) -> MemoryCluster:
    """The driver's worker, begun anew and not stepped yet."""
    driver.crash()
    driver.rig.start()
    return driver.rig.cluster


def cluster_of(driver: TestDriver) -> MemoryCluster:
    """The clients of the driver's worker."""
    return driver.rig.cluster


def work_for(driver: TestDriver, seconds: float) -> None:
    """Process a record, so that there is something to write, ten times a second."""
    for _ in range(round(seconds / STEP_S)):
        driver.advance(STEP_S)
        driver.send("in", "a", key="k")


def pauses_in(logs: Any) -> list[float]:
    """Pauses before the attempts that were logged."""
    return [line["pause_s"] for line in logs if line["event"] == "task group starts over"]


@pytest.mark.parametrize("kind", ["claim", "marker", "lineage", "data", "sink"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_appends_that_fail_are_made_again(kind: str, count: int) -> None:
    """CLAIM, FENCE, SEAL, START and all that follows may fail at first: the group gets live."""
    with TestDriver(words()) as driver:
        driver.send("in", "a", key="k")
        cluster = restarted(driver)
        link = cluster.links[kind]
        left = count
        for _ in range(600):
            if link.error is None and left:
                left -= 1
                link.error = ProducerFailedError("the broker went away")
            driver.advance(STEP_S)
        if link.error is not None:  # nothing was to be written by that producer
            driver.send("in", "b", key="k")
            driver.advance(30)
        driver.send("in", "a", key="k")
        driver.advance(30)
        assert driver.state("words")["a"] == 2


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
def test_a_refused_record_is_named(delivery: str) -> None:
    """The worker ends; named are topic, partition, task, sequence, key and the input's offsets."""
    with TestDriver(words(delivery)) as driver:
        driver.send("in", "good", key="k")
        driver.advance(1)
        cluster_of(driver).links["sink"].refusal = RecordRefusedError(
            "Broker: Invalid timestamp", topic="out", partition=0, suspect="timestamp"
        )
        with capture_logs() as logs, pytest.raises(RecordRefusedError) as caught:
            driver.send("in", "bad", key="k")
        message = str(caught.value)
        for part in (
            "Broker: Invalid timestamp",
            "(topic 'out', partition 0)",
            "sequence 2 of task words_0",
            "key b'bad'",
            f"timestamp {driver.clock.time_ms()}",
            "made of shop-words-repartition[0], offset ",
            "to fix it: let the topic take such timestamps",
        ):
            assert part in message
        assert "task group starts over" not in [line["event"] for line in logs]


def test_a_refused_frame_is_named() -> None:
    """An internal topic that refuses a record ends the worker too; its input is named."""
    with TestDriver(words()) as driver:
        driver.send("in", "good", key="k")
        cluster_of(driver).links["data"].refusal = RecordRefusedError(
            "too large", topic="shop-words-repartition", partition=0, suspect="size"
        )
        with pytest.raises(
            RecordRefusedError, match=r"made of in\[0\], offset 1; to fix it: raise"
        ):
            driver.send("in", "bad", key="k")


@pytest.mark.parametrize(
    ("suspect", "named"),
    [("timestamp", "late"), ("size", "l" * 300), ("record", None), (None, "first")],
)
def test_the_likeliest_record_of_a_request_is_named(suspect: Any, named: str | None) -> None:
    """A request is refused as a whole: the oddest of its records, else the oldest, is named."""
    app = kstash.App("shop")
    app.stream("in", key=kstash.text, value=kstash.text).to("out")
    with TestDriver(app) as driver:
        link = cluster_of(driver).links["sink"]
        driver.advance(1)
        late_ms = driver.clock.time_ms() + 10_000_000
        keys: list[str | None] = ["first", "late", "l" * 300, None, "last"]
        for key in keys:
            raw = None if key is None else key.encode()
            at_ms = late_ms if key == "late" else None
            driver.kafka.append("in", b"v", key=raw, partition=0, timestamp_ms=at_ms)
        link.refusal = RecordRefusedError("no", topic="out", partition=0, suspect=suspect)
        with pytest.raises(RecordRefusedError) as caught:
            driver.advance(1)
        place = keys.index(named)
        assert f"sequence {place + 1} of task" in str(caught.value)
        found = re.search(
            r"made of in\[0\], offsets? (\d+)(?: to (\d+))?; to fix it", str(caught.value)
        )
        assert found is not None
        first, last = int(found[1]), int(found[2] or found[1])
        assert first <= place <= last
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", ["claim", "marker", "sink"])
def test_a_right_that_is_not_there_ends_the_start(kind: str) -> None:
    """With its reason, within ten seconds: who starts a worker waits for a word."""
    with TestDriver(words()) as driver:
        driver.send("in", "a", key="k")
        cluster = restarted(driver)
        cluster.links[kind].refusal = ProducerRefusedError("no WRITE on something")
        started = driver.clock.monotonic()
        with pytest.raises(ProducerRefusedError, match="no WRITE on something"):
            work_for(driver, 10 * REFUSED_GRACE_S)
        assert REFUSED_AT_START_S <= driver.clock.monotonic() - started < 10.0


@pytest.mark.parametrize("kind", ["lineage", "data", "sink"])
def test_a_right_that_stays_away_ends_the_worker(kind: str) -> None:
    """With its reason, after a while of attempts between which the pauses grow."""
    with TestDriver(words()) as driver:
        driver.send("in", "a", key="k")
        cluster = cluster_of(driver)
        driver.kafka.append("in", b"b", key=b"k", partition=0)
        cluster.links[kind].refusal = ProducerRefusedError("no WRITE on something")
        started = driver.clock.monotonic()
        with (
            capture_logs() as logs,
            pytest.raises(ProducerRefusedError, match="no WRITE on something"),
        ):
            work_for(driver, 10 * REFUSED_GRACE_S)
        assert driver.clock.monotonic() - started < 3 * REFUSED_GRACE_S
        pauses = pauses_in(logs)
        assert len(pauses) < 12
        assert pauses == sorted(pauses)
        assert pauses[-1] > 4 * RESTART_BACKOFF_S


@pytest.mark.parametrize("kind", ["claim", "marker", "lineage", "data", "sink"])
def test_a_right_that_comes_back_is_waited_for(kind: str) -> None:
    """Taken away for five seconds, as when ACLs are written anew: the worker goes on by itself."""
    with TestDriver(words()) as driver:
        driver.send("in", "a", key="k")
        cluster = restarted(driver)
        cluster.links[kind].refusal = ProducerRefusedError("no WRITE on something")
        driver.advance(5)
        cluster.links[kind].refusal = None
        driver.advance(30)
        driver.send("in", "a", key="k")
        driver.advance(30)
        assert driver.state("words") == {"a": 2}


def test_pauses_grow_though_the_group_gets_live_in_between() -> None:
    """A group that fails as soon as it works must not begin anew twice a second, for ever."""
    with TestDriver(words()) as driver:
        driver.send("in", "a", key="k")
        link = cluster_of(driver).links["sink"]
        pauses: list[float] = []
        for _ in range(6):
            with capture_logs() as logs:
                link.error = ProducerFailedError("again")
                driver.send("in", "a", key="k")
                driver.advance(15)
            pauses += pauses_in(logs)
        assert len(pauses) == 6
        assert pauses == sorted(pauses)
        assert pauses[-1] >= 5.0
        driver.advance(CALM_S + 1)
        with capture_logs() as logs:
            link.error = ProducerFailedError("once more, much later")
            driver.send("in", "a", key="k")
            driver.advance(15)
        later = pauses_in(logs)
        assert later[0] < 2 * RESTART_BACKOFF_S + 0.1, (
            "after a calm while it begins with a short one"
        )


# --- commits and acknowledgements ---------------------------------------------------------------


@pytest.mark.parametrize("is_told_only", [False, True])
@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
def test_a_failed_commit_has_the_group_start_over(
    delivery: str, is_told_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outputs are made again, or found; it is not waited for, and not taken for done."""
    with TestDriver(words(delivery)) as driver:
        driver.send("in", "a", key="k")
        driver.advance(5)
        link = cluster_of(driver).links["sink"]
        real = MemorySinkProducer.commit

        def commit(self: MemorySinkProducer, metadata: str, on_done: OnDone) -> None:
            monkeypatch.undo()
            error = ProducerFailedError("the commit was not answered")
            if is_told_only:  # and the producer itself goes on
                on_done(error)
                return
            link.error = error
            real(self, metadata, on_done)

        monkeypatch.setattr(MemorySinkProducer, "commit", commit)
        with capture_logs() as logs:
            driver.send("in", "a", key="k")
            driver.advance(10)
        assert len(pauses_in(logs)) == 1
        driver.send("in", "a", key="k")
        driver.advance(5)
        committed = [record.value() for record in driver.kafka.read("out")]
        assert committed == [b"1", b"2", b"3"]


def test_a_transaction_is_not_committed_before_its_records_are_acknowledged() -> None:
    """However long they take: a commit says that they are out."""
    with TestDriver(words("transactional")) as driver:
        driver.advance(5)
        link = cluster_of(driver).links["sink"]
        link.holds_acks = True
        driver.send("in", "a", key="k")
        driver.advance(5)
        assert driver.kafka.read("out") == []
        link.holds_acks = False
        driver.advance(5)
        assert [record.value() for record in driver.kafka.read("out")] == [b"1"]


def test_acknowledgements_of_a_closed_group_lead_to_nothing() -> None:
    """Its tasks are given up: what they held back is made by the next incarnation."""
    app = kstash.App("shop", lineage_header_bytes_max=256)
    left, right = (app.stream(name, key=kstash.text, value=kstash.text) for name in ("l", "r"))
    left.merge(right).count("both").to("out", value=kstash.int_text)
    partitioner = Partitioner(2)
    one, other = (next(k for k in "abcdef" if partitioner[k.encode()] == p) for p in (0, 1))
    with TestDriver(app, partitions={"out": 2}) as driver:
        link = cluster_of(driver).links["lineage"]
        link.holds_acks = True
        for _ in range(60):
            driver.send("l", "v", key=one)
            driver.send("r", "v", key=one)
        driver.send("l", "v", key=other)  # it needs the lineage of all before
        group = driver.rig.worker.groups[0]
        (task,) = group.tasks.values()
        assert task.core.held_count > 0
        out = len(driver.kafka.read("out", is_committed=False))
        told: list[bool] = []
        hint = Hint(group.incarnation, task.core.task, 1000, {}, 0)
        group.lineage.append(hint, lambda: told.append(True))
        stable = task.core.stable
        group.close()
        link.holds_acks = False
        driver.rig.worker.context.clients.producers.lineage.poll()
        assert (told, task.core.stable) == ([], stable)
        assert len(driver.kafka.read("out", is_committed=False)) == out


def test_parts_of_one_event_are_acknowledged_one_by_one() -> None:
    """What is left of an event stays known, and in memory, until it is acknowledged itself."""
    load = Load()
    sent = Sent(load)
    for number in range(3):
        sent.made((0, 0), 10)
        sent.add(Outgoing((0, 0), 7, 1 + number, 1, None, f"part {number}"))
    sent.acked((0, 0), 7)
    assert [outgoing.payload for outgoing in sent.waiting((0, 0))] == ["part 1", "part 2"]
    assert load.unacked_bytes == 20

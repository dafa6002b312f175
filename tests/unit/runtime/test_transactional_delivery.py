"""Sinks with `delivery="transactional"`: plain records, that count once they are committed.

Source: protocol, section 7.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

import kstash
from kstash.core.outputs import Outgoing
from kstash.core.sink import METADATA_BYTES_MAX, CommittedPositions
from kstash.errors import NullKeyError, TopologyError
from kstash.operators.batch import Batch
from kstash.operators.sizes import Limit
from kstash.runtime.layout import check_commit_metadata
from kstash.testing import TestDriver
from tests.unit.core_cases import GENERATION, run_batch, task_core

IMMEDIATE, PLAIN = (0, 0), (1, 0)
COMMIT_S = 0.1


def chained(link: str, value: str) -> str:
    """The next link of a rolling hash: depends on all before it and on their order."""
    return hashlib.blake2b(f"{link} {value}".encode(), digest_size=4).hexdigest()


def mixed(**settings: Any) -> kstash.App:
    """One task over two topics that writes a sink of each delivery."""
    app = kstash.App("mixed", **settings)
    chains = app.stream("left", "right", key=kstash.text, value=kstash.text).aggregate(
        "chains", str, chained, value=kstash.text
    )
    chains.to("at-once", value=kstash.text)
    chains.to("plain", value=kstash.text, delivery="transactional")
    return app


def program(delivery: kstash.Delivery, *topics: str) -> kstash.App:
    """Copies of one stream."""
    app = kstash.App("copies")
    stream = app.stream("input", value=kstash.text)
    for number, topic in enumerate(topics):
        branch = stream.repartition(f"branch-{number}") if number else stream
        branch.to(topic, delivery=delivery if number else "immediate")
    return app


# -- the core ------------------------------------------------------------------------------------


def test_an_output_carries_no_lineage_and_no_cap_holds_it() -> None:
    """Nobody sees it before its commit, which waits for the lineage topic."""
    core = task_core(sinks=frozenset({0, 1}), transactional=frozenset({1}), header_bytes_max=0)
    run_batch(core, 3)
    assert core.emit(IMMEDIATE, 1, None) is None
    assert core.emit(PLAIN, 2, "payload") == Outgoing(PLAIN, 3, 1, 2, None, "payload")
    assert core.held_count == 1


def test_a_lineage_chunk_of_another_sink_is_whole() -> None:
    """What went to a transactional sink told nobody anything: the chunk rule does not count it."""
    core = task_core(sinks=frozenset({0, 1}), transactional=frozenset({1}))
    run_batch(core, 3)
    core.emit(PLAIN, 1, None)
    outgoing = core.emit(IMMEDIATE, 1, None)
    assert outgoing is not None
    assert outgoing.chunk is not None


def test_a_checkpoint_waits_for_the_commit() -> None:
    """H5: acknowledged is not enough, aborted records are gone."""
    core = task_core(sinks=frozenset({1}), transactional=frozenset({1}))
    run_batch(core, 3)
    core.emit(PLAIN, 1, None)
    for segment in core.take_segments():
        core.on_segment_acked(segment.end)
    core.on_output_acked(PLAIN, 3, 17)
    assert not core.may_publish_checkpoint(3)
    core.on_committed(3)
    assert core.may_publish_checkpoint(3)


def test_its_tail_is_not_scanned() -> None:
    """Recovery relies on the committed position alone: no hint, and no end is asked for."""
    core = task_core(sinks=frozenset({1}), transactional=frozenset({1}))
    assert not core.is_idle_at(PLAIN)
    run_batch(core, 3)
    core.emit(PLAIN, 1, None)
    core.on_output_acked(PLAIN, 3, 17)
    core.on_committed(3)
    assert core.scan_from() == {}


def test_h28_the_newest_position_read_counts() -> None:
    """A predecessor may commit between the two initialisations; answers come in any order."""
    older = CommittedPositions(GENERATION, {0: 3, 1: 9}).encode()
    newer = CommittedPositions(GENERATION, {0: 3, 1: 12}).encode()
    other = CommittedPositions(GENERATION - 1, {0: 99, 1: 99}).encode()
    for answers in ((older, newer), (newer, older), (None, newer), (newer, other)):
        found = CommittedPositions.newest(answers, GENERATION)
        assert found is not None
        assert found.positions == {0: 3, 1: 12}
    assert CommittedPositions.newest((None, other), GENERATION) is None
    # A changed program may have other stages: each one's own newest position counts.
    fewer = CommittedPositions(GENERATION, {0: 4}).encode()
    found = CommittedPositions.newest((newer, fewer), GENERATION)
    assert found is not None
    assert found.positions == {0: 4, 1: 12}


# -- what is declared ----------------------------------------------------------------------------


def test_delivery_is_part_of_the_topology_hash() -> None:
    """Old lineage is not replayed under another delivery: recovery would look elsewhere for it."""
    hashes = {program(d, "a", "b").topology().hash for d in ("immediate", "transactional")}
    assert len(hashes) == 2


def test_one_topic_has_one_delivery() -> None:
    """No reader could know whether a record without a header is one that it must drop."""
    with pytest.raises(TopologyError, match="both deliveries"):
        program("transactional", "a", "a").topology()
    assert program("immediate", "a", "a").topology().output_topics == ("a",)


def test_an_unknown_delivery_is_refused() -> None:
    """The message names the two that there are."""
    with pytest.raises(TopologyError, match="'immediate' or 'transactional', not 'atomic'"):
        program("atomic", "a", "b")  # type: ignore[arg-type] # mypy sees it as well


def test_positions_of_all_stages_must_fit_into_a_commit() -> None:
    """Kafka's limit of 4,096 bytes is checked before anything runs."""
    size = CommittedPositions.bytes_max(range(168))
    assert size == len(CommittedPositions(2**63 - 1, dict.fromkeys(range(168), 2**63 - 1)).encode())
    app = kstash.App("wide")
    for number in range(200):
        app.stream(f"input-{number}").to(f"output-{number}", delivery="transactional")
    with pytest.raises(TopologyError, match=f"200 stages .* Kafka allows {METADATA_BYTES_MAX}"):
        check_commit_metadata(app.topology())
    with pytest.raises(TopologyError, match="200 stages"):
        TestDriver(app)
    check_commit_metadata(program("transactional", "a", "b").topology())


# -- records -------------------------------------------------------------------------------------


def test_a_null_key_is_refused_on_a_compacted_topic() -> None:
    """Kafka would refuse it at each attempt, and the group would start over for ever."""
    limit = Limit("plain", needs_keys=True)
    limit.check_keys(Batch([b"k"], [None], [0]))
    with pytest.raises(NullKeyError, match=r"as 'plain' is: .*key_by\(\) before to\(\)") as caught:
        limit.check_keys(Batch([b"k", None], [b"v", b"v"], [0, 0]))
    assert caught.value.record_index == 1


# -- the worker ----------------------------------------------------------------------------------


def drive(driver: TestDriver, count: int, start: int = 0) -> None:
    """Send to both inputs in turn."""
    for number in range(start, start + count):
        driver.send(("left", "right")[number % 2], str(number), "k")


def test_records_show_with_their_commit() -> None:
    """An immediate sink shows an output at once, a transactional one after the interval."""
    with TestDriver(mixed()) as driver:
        driver.advance(COMMIT_S)
        drive(driver, 3)
        at_once = [record.value for record in driver.read("at-once")]
        assert len(at_once) == 3
        driver.read("plain")
        driver.advance(2 * COMMIT_S)
        partition = driver.kafka.log(("plain", 0))
        records, _ = partition.read(0, 100, is_committed=True)
        assert [r.value() for r in records] == [value.encode() for value in at_once]
        assert not any(r.headers() for r in records)


@pytest.mark.parametrize("lineage_delay_s", [0.0, 1.0])
@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first"])
def test_mixed_sinks_survive_crashes(guarantee: str, lineage_delay_s: float) -> None:
    """Both sinks hold the same outputs, once, in one history with the state."""
    app = mixed(guarantee=guarantee)
    with TestDriver(app, lineage_delay_s=lineage_delay_s) as driver:
        seen: dict[str, list[str]] = {"at-once": [], "plain": []}

        def read() -> None:
            for topic, values in seen.items():
                values += [record.value for record in driver.read(topic)]

        for part in range(6):
            drive(driver, 5, part * 5)
            read()
            driver.advance((0.03, 0.12, 1.5)[part % 3])
            drive(driver, 2, 100 + part * 2)
            driver.crash()
            driver.recover()
        driver.advance(5)
        read()
        assert seen["plain"] == seen["at-once"]
        assert len(seen["plain"]) == 42
        assert driver.state("chains") == {"k": seen["plain"][-1]}
        link, left = "", {str(n) for n in (*range(30), *range(100, 112))}
        for value in seen["plain"]:
            (taken,) = (sent for sent in left if chained(link, sent) == value)
            left.remove(taken)
            link = value
        assert not left


@pytest.mark.parametrize("guarantee", ["at_least_once", "none"])
def test_guarantees_without_transactions(guarantee: str) -> None:
    """There the records are written at once, and carry no header either."""
    with TestDriver(mixed(guarantee=guarantee)) as driver:
        drive(driver, 4)
        assert len(driver.read("plain")) == 4
        records, _ = driver.kafka.log(("plain", 0)).read(0, 100, is_committed=False)
        assert not any(record.headers() for record in records)


def pipeline(hops: int, delivery: kstash.Delivery, interval_ms: int) -> kstash.App:
    """Records through so many topics, the sink included."""
    app = kstash.App("pipeline", sink_commit_interval_ms=interval_ms)
    stream = app.stream("input", key=kstash.text, value=kstash.text)
    for number in range(1, hops):
        stream = stream.repartition(f"hop-{number}")
    stream.to("output", delivery=delivery)
    return app


def waits_ms(app: kstash.App, interval_ms: int) -> list[int]:
    """How long a `read_committed` reader waits for each record of a steady stream."""
    tick_ms = interval_ms // 10
    sent: list[int] = []
    waits: list[int] = []
    with TestDriver(app) as driver:
        for now_ms in range(0, 5 * interval_ms, tick_ms):
            seen = len(driver.kafka.read("output"))
            waits += [now_ms - at_ms for at_ms in sent[len(waits) : seen]]
            driver.send("input", "value", "key")
            sent.append(now_ms)
            driver.advance(tick_ms / 1000)
    return waits


@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
@pytest.mark.parametrize("interval_ms", [10, 100, 1000])
def test_inner_hops_do_not_wait_for_commits(delivery: kstash.Delivery, interval_ms: int) -> None:
    """After three hops a plain reader waits as long as after one: an interval at most, in all."""
    one, three = (waits_ms(pipeline(n, delivery, interval_ms), interval_ms) for n in (1, 3))
    slack_ms = 2 * (interval_ms // 10)
    assert 0.8 * interval_ms <= max(three) <= interval_ms + slack_ms
    assert abs(max(one) - max(three)) <= slack_ms
    assert len(three) >= 35

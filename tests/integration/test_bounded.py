"""Bounded runs: to the ends found at the start, then exit 0, whatever happens in between."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Producer

from tests.integration.programs import HOUR_MS
from tests.integration.scene import Scene, Sent, key_in, lines, sentences

pytestmark = pytest.mark.integration


def test_a_killed_run_is_continued_to_its_own_end(scene: Scene) -> None:
    """A restart goes on to the ends that the killed run had found; the next run takes the rest."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts, later = sentences(20_000), sentences(100)
    scene.send(source, lines(*texts, partitions=2))
    worker = scene.worker("words", [source], sink, until="end", checkpoint_interval_ms=500)
    worker.start()
    scene.wait_outputs(sink, 1)
    assert worker.is_running(), "too little input: the run was over before it could be killed"
    worker.kill()
    scene.send(source, lines(*later, partitions=2))
    assert worker.run() == 0
    scene.check_words(sink, texts)
    assert worker.run() == 0
    scene.check_words(sink, texts + later)
    assert "Traceback" not in worker.log()


def test_inputs_that_end_with_markers(scene: Scene) -> None:
    """Committed and aborted transactions end in markers, which hold no record to wait for."""
    committed, aborted = scene.topic("committed", 2), scene.topic("aborted", 2)
    sink = scene.topic("counts", 2)
    producer = Producer(
        {"bootstrap.servers": scene.bootstrap, "transactional.id": uuid.uuid4().hex}
    )
    producer.init_transactions(30)
    for number in range(3):
        producer.begin_transaction()
        for partition in range(2):
            producer.produce(committed, b"v", key_in(partition, 2), partition=partition)
        producer.commit_transaction(30)
        producer.begin_transaction()
        producer.produce(aborted, b"never", f"gone-{number}", partition=0)
        assert producer.flush(30) == 0
        producer.abort_transaction(30)
    worker = scene.worker("merged", [committed, aborted], sink, until="end")
    assert worker.run() == 0
    found = scene.outputs(sink)
    counts = {(o.key, o.value) for outputs in found.values() for o in outputs}
    expected = {(key_in(p, 2), str(n).encode()) for p in range(2) for n in (1, 2, 3)}
    assert counts == expected


def test_an_empty_input(scene: Scene) -> None:
    """There is nothing to read: the run ends at once, and the next one reads what came."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    worker = scene.worker("words", [source], sink, until="end")
    assert worker.run() == 0
    assert not any(scene.outputs(sink).values())
    scene.send(source, [Sent(b"only one partition has a record")])
    assert worker.run() == 0
    scene.check_words(sink, ["only one partition has a record"])


def test_the_number_of_a_log_count_that_was_killed(scene: Scene) -> None:
    """The log count prints its number at the end, however often it was killed before."""
    source, sink = scene.topic("log", 3), scene.topic("attacks")
    attacks = ["name=bobby_tables", "harmless", "q=%3C%73%63%72%69%70%74%3E bobby_tables"]
    scene.send(source, lines(*(attacks * 20_000), partitions=3))
    job = scene.process(
        "job",
        [
            *("kstash.apps.log_count", "--until", "end", "--application-id", scene.application_id),
            *("--bootstrap-servers", scene.bootstrap, "--input", source, "--output", sink),
            *("--state-dir", str(scene.folder / "state"), "--checkpoint-interval-ms", "500"),
            *("--instance-id", "job"),
        ],
    )
    job.start()
    scene.wait_outputs(sink, 1)
    job.kill()
    assert job.run() == 0
    assert job.output[-1] == "Number of attacks: 60000"


def test_windows_close_at_the_end(scene: Scene) -> None:
    """Those of both stages, once: each record is in the sum of a day."""
    source, sink = scene.topic("times", 2), scene.topic("days", 2)
    times = [str(HOUR_MS * number // 3 + 1) for number in range(100)]
    scene.send(source, lines(*times, partitions=2))
    options = {"closes_windows": True}
    worker = scene.worker(
        "backfill", [source], sink, until="end", options=options, event_time="watermark"
    )
    assert worker.run() == 0
    days = [int(o.value or b"") for outputs in scene.outputs(sink).values() for o in outputs]
    assert (len(days), sum(days)) == (2, 100)


def test_without_recovery_there_is_no_end(scene: Scene) -> None:
    """Under the guarantee `none` nobody could know when a run is over: it is refused."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    worker = scene.worker("words", [source], sink, until="end", guarantee="none")
    assert worker.run() == 1
    assert "ConfigError: a bounded run needs the lineage topic" in worker.log()

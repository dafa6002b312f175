"""Backpressure: inputs of both kinds are paused while too much waits (I8)."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.core.ids import Incarnation, TaskId
from kstash.core.wire import IDENTITY_HEADER, Identity
from kstash.ports.kafka import Headers
from kstash.runtime.task import waiting
from kstash.testing import TestDriver

RECORDS = 4_000
STASH_BYTES = 2_000


def merged(immediate_of: str | None) -> kstash.App:
    """Two topics merged into one count, one of them perhaps another application's sink."""
    app = kstash.App("intake", stash_bytes_max=STASH_BYTES, lineage_ack_timeout_ms=60_000)
    left = app.stream("l", key=kstash.text, value=kstash.text)
    right = app.stream("r", key=kstash.text, value=kstash.text, immediate_of=immediate_of)
    left.merge(right).count("both").to("out", value=kstash.int_text)
    return app


def fill(driver: TestDriver, topic: str, count: int = RECORDS) -> None:
    """Append records that nobody has processed yet, signed as another application's outputs."""
    for number in range(count):
        identity = Identity(7, TaskId(0, 0), Incarnation(1, 1), number + 1, 1, number + 1)
        headers: Headers = [(IDENTITY_HEADER, identity.encode())]
        driver.kafka.append(topic, b"v", key=b"k", partition=0, headers=headers)


@pytest.mark.parametrize("immediate_of", [None, "other"])
def test_i8_inputs_are_paused_live(immediate_of: str | None) -> None:
    """While lineage is not acknowledged, no more than its limit is taken; later all is."""
    with TestDriver(merged(immediate_of)) as driver:
        driver.kafka.fetch_max = driver.kafka.poll_max = 10
        driver.rig.cluster.links["lineage"].holds_requests = True
        fill(driver, "r")
        with capture_logs() as logs:
            driver.advance(5)
        events = [line["event"] for line in logs]
        assert events.count("inputs paused until outputs and lineage are acknowledged") == 1
        taken = driver.state("both")["k"]
        assert 10 <= taken < RECORDS / 2
        driver.advance(5)
        assert driver.state("both")["k"] == taken
        driver.rig.cluster.links["lineage"].holds_requests = False
        driver.advance(60)
        assert driver.state("both")["k"] == RECORDS


@pytest.mark.parametrize("immediate_of", [None, "other"])
def test_i8_inputs_are_paused_in_replay(
    immediate_of: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input that a replay does not need yet is buffered up to a limit, and not beyond."""
    monkeypatch.setattr(waiting, "RECORDS_HIGH", 100)
    monkeypatch.setattr(waiting, "RECORDS_LOW", 10)
    with TestDriver(merged(immediate_of), lineage_delay_s=1) as driver:
        driver.send("l", "v", key="k")
        driver.crash()
        # The replay needs the record of `l` first, and that one is not to be had for a while.
        fill(driver, "r")
        driver.rig.start()
        worker = driver.rig.worker
        consumer = worker.context.clients.consumer
        real = consumer.poll
        monkeypatch.setattr(
            consumer, "poll", lambda s: [m for m in real(s) if m.topic() != "l"], raising=True
        )
        for _ in range(100):
            driver.clock.advance(0.1)
            worker.step(0)
        task = next(iter(worker.groups[0].tasks.values()))
        buffers = {source.partition[0]: len(source.buffer) for source in task.inputs.values()}
        assert 100 < buffers["r"] <= 100 + driver.kafka.fetch_max
        monkeypatch.setattr(consumer, "poll", real)
        consumer.add({("l", 0): 0})
        driver.rig.run_until_live()
        driver.advance(30)
        assert driver.state("both") == {"k": RECORDS + 1}

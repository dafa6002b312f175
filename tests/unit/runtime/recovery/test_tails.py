"""What a recovery reads of its tails: where a marker counts, and where a damaged record lies."""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash import App
from kstash.core.ids import OutPartition
from kstash.core.tail_scan import TailScan
from kstash.core.wire import IDENTITY_HEADER
from kstash.errors import WireCorruptError
from kstash.runtime.headers import kstash_headers
from kstash.testing import TestDriver
from kstash.testing.kafka.broker import MemoryKafka


def test_a_marker_counts_for_the_partition_that_it_lies_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A FENCE bars in its own partition; said of another one it would bar nobody."""
    seen: list[OutPartition] = []
    before = TailScan.on_marker

    def on_marker(scan: TailScan, partition: OutPartition, *others: Any) -> None:
        assert partition in scan.starts
        seen.append(partition)
        before(scan, partition, *others)

    monkeypatch.setattr(TailScan, "on_marker", on_marker)
    app = App("tails")
    words = app.stream("in", key=kstash.text, value=kstash.text).repartition("middle")
    words.to("out", value=kstash.text)
    with TestDriver(app, partitions=2) as driver:
        for key in "abcdefgh":
            driver.send("in", "x", key=key)
        driver.crash()
        driver.recover()
    assert {partition[1] for partition in seen} == {0, 1}


def test_headers_that_do_not_decode_are_named_with_their_place() -> None:
    """Whoever reads a record's own headers learns which record it was."""
    kafka = MemoryKafka()
    kafka.create_topic("other", 1)
    record = kafka.append("other", b"", headers=[(IDENTITY_HEADER, b"cut")])
    with pytest.raises(WireCorruptError, match=r"other.*partition 0.*offset 0"):
        kstash_headers(record)

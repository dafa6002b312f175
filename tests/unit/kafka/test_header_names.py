"""Header names that are no UTF-8: an error with the place, a way past it, and tools that show it.

The client is the real one, on the broker that it has inside for tests.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

import kstash
from kstash.cli.decode import RecordDecoder, as_text
from kstash.core.reader import ReaderState
from kstash.errors import RecordUnreadableError
from kstash.kafka.console import KafkaConsole
from kstash.kafka.consumer import KafkaConsumer
from kstash.runtime.decode import decode_external, decode_ruled
from kstash.runtime.scan import ScanJob, ScanService
from kstash.testing import TestDriver
from kstash.testing.kafka.log import MemoryRecord
from kstash.verify.checks import Report, SequenceCheck
from tests.unit.raw_records import MockBroker

BAD: list[tuple[bytes, bytes | None]] = [(b"good", b"1"), (b"\xff\xfe", b"2"), (b"also", None)]


@pytest.fixture(scope="module")
def broker() -> Iterator[MockBroker]:
    """Offsets 1 and 3 have names that are no UTF-8."""
    with MockBroker("t") as made:
        cut: list[tuple[bytes, bytes | None]] = [(b"c\0d", b"3"), ("ü".encode(), b"")]
        good: list[tuple[bytes, bytes | None]] = [(b"a", b"1")]
        for headers in (good, BAD, cut, BAD, []):
            made.send(b"v", headers)
        yield made


@pytest.fixture(scope="module")
def messages(broker: MockBroker) -> list[Any]:
    """All records, as a worker gets them."""
    consumer = KafkaConsumer(
        {"client.id": "c", "group.id": "g", "bootstrap.servers": broker.address, "log_level": 0},
        bootstrap_servers=broker.address,
    )
    consumer.add({("t", 0): 0})
    found: list[Any] = []
    deadline = time.monotonic() + 60
    while len(found) < 5:
        assert time.monotonic() < deadline
        found += consumer.poll(0.5)
    consumer.close()
    return found


def test_each_ask_gives_the_same_error(messages: list[Any]) -> None:
    """The client's own second answer would crash the process, and so may its garbage."""
    assert [m.offset() for m in messages] == [0, 1, 2, 3, 4]
    for _ in range(3):
        for bad in (messages[1], messages[3]):
            with pytest.raises(RecordUnreadableError) as caught:
                bad.headers()
            error = caught.value
            assert (error.topic, error.partition, error.offset) == ("t", 0, bad.offset())
            assert error.skip == f"t/0/{bad.offset()}"
            assert "no UTF-8" in str(error)
        gc.collect()
    assert messages[1].key() == b"k"
    assert messages[1].value() == b"v"
    assert messages[1].timestamp()[1] == 1000
    assert messages[0].headers() == [("a", b"1")]
    # Cut by the client: nothing tells it from `c`.
    assert messages[2].headers() == [("c", b"3"), ("ü", b"")]


def test_an_input_stops_at_the_record(messages: list[Any]) -> None:
    """Whether its records are plain or an application's."""
    with pytest.raises(RecordUnreadableError, match=r"offset 1\); skip_records=t/0/1 "):
        decode_external(messages)
    with pytest.raises(RecordUnreadableError, match=r"offset 1\); skip_records=t/0/1/all "):
        decode_ruled(messages[1:2], ReaderState(), is_frames=True)
    with pytest.raises(RecordUnreadableError, match=r"offset 3\); skip_records=t/0/3 "):
        decode_ruled(messages[3:4], ReaderState(is_internal=False), is_frames=False)


def test_a_scan_goes_on(messages: list[Any]) -> None:
    """In the end of a sink it is somebody else's record."""

    class Scanner:
        def pass_over(self, _: object) -> None: ...

        def add(self, _: object) -> None: ...

        def remove(self, _: object) -> None: ...

        def poll(self, _: float) -> list[Any]:
            return messages

        def position(self, _: object) -> int:
            return 5

    scans = ScanService(Scanner())  # type: ignore[arg-type]  # as much of one as is needed
    found: list[tuple[int, Any]] = []
    scans._running[("t", 0)] = []
    job = ScanJob({("t", 0): (0, 5)}, lambda m, h: found.append((m.offset(), h)), lambda: None)
    job.next_offsets = {("t", 0): 0}
    scans._running[("t", 0)].append(job)
    scans.pump(0.0)
    assert [offset for offset, _ in found] == [0, 1, 2, 3, 4]
    assert found[1][1] == found[3][1] == []


def test_the_tools_show_it(broker: MockBroker) -> None:
    """`topics read` and `verify` go on, and say which record it is."""
    report = Report()
    check = SequenceCheck(1, is_internal=False, is_whole=True, report=report)
    with KafkaConsole(broker.address) as kafka:
        read = list(kafka.read({("t", 0): 0}))
    decoder = RecordDecoder()
    lines = [as_text(shown, with_headers=True) for m in read for shown in decoder.decode(m)]
    assert "corrupt: the name of a header is no UTF-8" in lines[1]
    assert lines[1].startswith("0:1\tk\tv\t")
    assert lines[4] == "0:4\tk\tv"
    for message in read:
        check.take(message)
    assert [(f.kind, f.offset) for f in report.findings] == [("unreadable", 1), ("unreadable", 3)]


class Headerless(MemoryRecord):
    """A record of `MemoryKafka` whose headers cannot be read."""

    __slots__ = ()

    def headers(self) -> Any:
        """As the adapter does it."""
        error = RecordUnreadableError("the name of a header is no UTF-8")
        error.skip = f"{self.topic()}/{self.partition()}/{self.offset()}"
        raise error.at(self.topic(), self.partition(), self.offset())


def test_a_worker_is_told_to_skip_it_and_does() -> None:
    """With `skip_records` from the message it goes on with the next one, and no record is lost."""

    def app(**settings: Any) -> kstash.App:
        made = kstash.App("names", **settings)
        made.stream("in", key=kstash.text, value=kstash.text).count("n").to(
            "out", value=kstash.int_text
        )
        return made

    driver = TestDriver(app())
    driver.send("in", "x", "a")
    record = driver.kafka.log(("in", 0)).append(b"a", b"y", None, 5)
    record.__class__ = Headerless
    with pytest.raises(RecordUnreadableError, match="skip_records=in/0/1 ") as caught:
        driver.send("in", "z", "a")
    skip = caught.value.skip
    driver.recover(app(skip_records=skip))
    assert driver.state("n") == {"a": 2}
    driver.close()

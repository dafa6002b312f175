"""Workers join and leave under load: what moves is not replayed, what stays goes on.

Outputs are read by kafka-python, which knows nothing of kstash, and checked by rules that share no
code with it.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter, defaultdict

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.chaos.checkers import check_counts
from tests.chaos.harness import Feeder, place_of, wait_until
from tests.integration.scene import Process, Scene

pytestmark = pytest.mark.integration

PARTITIONS = 4
RATE = 400
MOVE_S_MAX = 60.0
"""For a group to be live elsewhere: to join, drain and claim takes seconds on a busy machine."""


def _partition(key: str) -> int:
    return place_of(key.encode(), PARTITIONS)


KEYS = sorted((f"k{number}" for number in range(40)), key=_partition)
"""Each is sent to the partition that it has in the output too: that shows one group's outputs."""


class Gaps(threading.Thread):
    """Reads a topic as it grows, as a plain consumer, and notes how long each partition is silent.

    Attributes:
        largest: seconds between two records of a partition, since `clear`.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(name="gaps", daemon=True)
        self._servers, self._topic = bootstrap, topic
        self._stopping = threading.Event()
        self._last: dict[int, float] = {}
        self.largest: dict[int, float] = {}

    def run(self) -> None:
        """Read until `finish`."""
        consumer = KafkaConsumer(
            bootstrap_servers=self._servers,
            isolation_level="read_committed",
            group_id=None,
            auto_offset_reset="earliest",
        )
        partitions = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        while not self._stopping.is_set():
            for partition in consumer.poll(timeout_ms=20):
                number, now = partition.partition, time.monotonic()
                since = now - self._last.get(number, now)
                self.largest[number] = max(self.largest.get(number, 0.0), since)
                self._last[number] = now
        consumer.close()

    def clear(self) -> None:
        """Begin anew."""
        self.largest = {}

    def finish(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self.join(10)


def _live(worker: Process) -> list[tuple[int, int]]:
    """(group, events replayed) of each time that a group went live in a worker."""
    found = re.findall(r"task group live .* group=(\d+) .* replayed=(\d+)", worker.log())
    return [(int(group), int(replayed)) for group, replayed in found]


def _moved(worker: Process) -> set[int]:
    """Groups that a rebalance took from a worker."""
    found = re.findall(r"move to another worker .*groups=\[([\d, ]*)\]", worker.log())
    return {int(number) for groups in found for number in groups.split(",")}


def _feeder(scene: Scene, topics: list[str]) -> Feeder:
    def record(index: int) -> tuple[str, int, str | None, str]:
        key = index * 7 % len(KEYS)
        return topics[index % len(topics)], _partition(KEYS[key]), KEYS[key], f"{index}"

    return Feeder(scene.bootstrap, record, rate=RATE)


@pytest.mark.parametrize("program", ["merged", "copy"])
def test_workers_join_and_leave_under_load(scene: Scene, program: str) -> None:
    """Three workers come one by one, two go: all outputs once, and orderly moves replay nothing."""
    topics = [scene.topic("left", PARTITIONS), scene.topic("right", PARTITIONS)]
    sink = scene.topic("out", PARTITIONS)
    first, second, third = (
        scene.worker(program, topics, sink, name=name, instance_id=None)
        for name in ("first", "second", "third")
    )
    feeder, gaps = _feeder(scene, topics), Gaps(scene.bootstrap, sink)
    first.start_ready()
    feeder.start()
    gaps.start()
    try:
        for joining in (second, third):
            scene.wait_outputs(sink, len(feeder.sent) + RATE)
            before = {group for group, _ in _live(joining)}
            gaps.clear()
            moved = _moved(first) | _moved(second)
            joining.start_ready()
            wait_until(lambda: {g for g, _ in _live(joining)} > before, MOVE_S_MAX, "a move")  # noqa: B023 - called in this turn only
            scene.wait_outputs(sink, len(feeder.sent) + RATE)
            gone = (_moved(first) | _moved(second)) - moved
            print(f"{joining.name} joined, moved {gone}: largest gaps {_rounded(gaps)}")
        for leaving in (second, third):
            gaps.clear()
            leaving.send(signal.SIGTERM)
            assert leaving.wait(MOVE_S_MAX) == 0
            scene.wait_outputs(sink, len(feeder.sent) + RATE)
            print(f"{leaving.name} left: largest gaps {_rounded(gaps)}")
    finally:
        feeder.finish()
        gaps.finish()
    scene.wait_outputs(sink, len(feeder.sent))
    assert first.stop() == 0
    if program == "merged":
        check_counts(scene.outputs(sink), Counter(str(key) for _, _, key, _ in feeder.sent))
    else:
        _check_copies(scene, sink, feeder)
    lives = [life for worker in (first, second, third) for life in _live(worker)]
    assert len(lives) >= PARTITIONS + 4
    assert all(replayed == 0 for _, replayed in lives), lives
    for worker in (first, second, third):
        for line in (
            "starts over",
            "lost with the membership",
            "not released",
            "Traceback",
        ):
            assert line not in worker.log()


def _check_copies(scene: Scene, sink: str, feeder: Feeder) -> None:
    """Each input once; those of one topic and partition in their order."""
    sent: dict[tuple[str, int], list[int]] = defaultdict(list)
    for topic, partition, _, value in feeder.sent:
        sent[topic, partition].append(int(value))
    place = {value: source for source, values in sent.items() for value in values}
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    for outputs in scene.outputs(sink).values():
        for output in outputs:
            number = int(output.value or b"")
            seen[place[number]].append(number)
    assert seen == sent


def _rounded(gaps: Gaps) -> dict[int, float]:
    return {number: round(gap, 2) for number, gap in sorted(gaps.largest.items())}

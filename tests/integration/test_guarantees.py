"""The four guarantees: the same outputs when nothing fails, and what a crash costs."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest

from tests.chaos.checkers import by_key, check_counts
from tests.chaos.harness import place_of
from tests.integration.scene import (
    Process,
    Scene,
    Sent,
    lines,
    sentences,
    word_counts,
)

pytestmark = pytest.mark.integration

GUARANTEES = ("exactly_once", "write_first", "at_least_once", "none")


def _run_all(scene: Scene, program: str, inputs: list[str]) -> list[str]:
    """Run a program to the end under each guarantee, at the same time; returns the sinks."""
    sinks = [scene.topic(guarantee, 2) for guarantee in GUARANTEES]
    workers: list[Process] = []
    for guarantee, sink in zip(GUARANTEES, sinks, strict=True):
        worker = scene.worker(
            program,
            inputs,
            sink,
            name=f"{program}-{guarantee}",
            until=None if guarantee == "none" else "end",
            application_id=f"{guarantee.replace('_', '-')}-{scene.mark}",
            guarantee=guarantee,
        )
        worker.start()
        workers.append(worker)
    for guarantee, worker in zip(GUARANTEES, workers, strict=True):
        if guarantee != "none":
            assert worker.wait(60) == 0
    return sinks


def test_a_word_count_under_each_guarantee(scene: Scene) -> None:
    """Without a failure all guarantees give the same outputs for each word (I12)."""
    source = scene.topic("sentences", 2)
    texts = sentences(1000)
    scene.send(source, lines(*texts, partitions=2))
    for sink in _run_all(scene, "words", [source]):
        scene.wait_outputs(sink, 5000)
        check_counts(scene.outputs(sink), word_counts(texts))


def test_a_merge_under_each_guarantee(scene: Scene) -> None:
    """Two topics merged into one state: the same outputs for each key (I12)."""
    left, right = scene.topic("left", 2), scene.topic("right", 2)
    keys = [b"k%d" % (i % 20) for i in range(1000)]
    records = [Sent(b"v", key, place_of(key, 2)) for key in keys]
    for topic in (left, right):
        scene.send(topic, records)
    for sink in _run_all(scene, "merged", [left, right]):
        scene.wait_outputs(sink, 2000)
        check_counts(scene.outputs(sink), {f"k{i}": 100 for i in range(20)})


@pytest.mark.parametrize("guarantee", ["write_first", "at_least_once"])
def test_a_crash(scene: Scene, guarantee: str) -> None:
    """write_first is exactly once; at_least_once loses nothing, but may repeat outputs."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    texts = sentences(3000)
    settings: dict[str, Any] = {"guarantee": guarantee, "checkpoint_interval_ms": 300}
    worker = scene.worker("words", [source], sink, **settings)
    for part in range(2):
        worker.start_ready()
        scene.send(source, lines(*texts[part * 1000 : (part + 1) * 1000], partitions=2))
        scene.wait_outputs(sink, part * 5000 + 1)
        worker.kill()
    scene.send(source, lines(*texts[2000:], partitions=2))
    assert scene.worker("words", [source], sink, until="end", **settings).run() == 0
    expected = word_counts(texts)
    found = scene.outputs(sink)
    if guarantee == "write_first":
        check_counts(found, expected)
        return
    numbers: dict[str, Counter[int]] = defaultdict(Counter)
    for key, values in by_key(found).items():
        numbers[key.decode()].update(map(int, values))
    assert numbers.keys() == expected.keys()
    for word, count in expected.items():
        missing = set(range(1, count + 1)) - numbers[word].keys()
        assert not missing, f"{word!r}: no output says {sorted(missing)[:5]}"


def test_a_guarantee_may_change_between_runs(scene: Scene) -> None:
    """H57: a run to the end is a drain: each record counts once, whatever comes next."""
    source, sink = scene.topic("lines", 2), scene.topic("counts", 2)
    texts: list[str] = []
    for number, guarantee in enumerate(
        ("exactly_once", "at_least_once", "write_first", "at_least_once", "exactly_once")
    ):
        more = [f"a b {number}", f"b {guarantee}"]
        texts += more
        scene.send(source, lines(*more, partitions=2))
        worker = scene.worker(
            "words",
            [source],
            sink,
            until="end",
            guarantee=guarantee,
            # A worker that is gone keeps its membership for so long, and another guarantee waits.
            session_timeout_ms=6_000,
        )
        assert worker.run() == 0, worker.log()
        scene.check_words(sink, texts)
    refused = scene.worker("words", [source], sink, guarantee="none")
    assert refused.run() == 1
    assert "~ guarantee: was exactly_once, is none" in refused.log()

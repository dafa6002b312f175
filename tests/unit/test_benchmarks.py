"""What a benchmark waits for comes, or it ends with the reason."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench, clients, peers, throughput, workload
from benchmarks.bench import Bench
from benchmarks.case import EVEN, PEER, Case
from benchmarks.worker import BenchError


class Silent:
    """An administration that never answers."""

    def list_offsets(self, asked: dict[Any, Any], **_: object) -> dict[Any, Future[Any]]:
        """Futures that stay open."""
        return {place: Future() for place in asked}


def test_a_broker_that_never_answers_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open future is no reason to wait for ever: the client has left some open."""
    monkeypatch.setattr(bench, "ANSWER_S_MAX", 0.01)
    made = Bench("nowhere:1")
    monkeypatch.setattr(made, "_admin", Silent(), raising=False)
    with pytest.raises(BenchError, match="no answer to the question for the end of out"):
        made.end_offsets("out")


class Trickle:
    """A run of which each look finds one output more."""

    output = "out"

    def __init__(self) -> None:
        self.end = 0

    def run(self, *_: object, **__: object) -> Trickle:
        """Itself."""
        return self

    def __enter__(self) -> tuple[Trickle, Any]:
        return self, dict

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        """Nothing."""

    def wait_ready(self) -> None:
        """Nothing."""

    def cpu_s(self) -> float:
        """Nothing used."""
        return 0.0

    def end_offsets(self, _: str) -> int:
        """One more."""
        self.end += 1
        return self.end

    def check(self, condition: bool, what: str) -> None:
        """As a worker does."""
        if not condition:
            raise BenchError(what)


def test_a_run_that_only_trickles_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs that come and come, but too few, do not keep a run alive."""
    monkeypatch.setattr(throughput, "RUN_S_MAX", 0.2)
    monkeypatch.setattr(throughput, "SAMPLE_S", 0.01)
    case = Case("session count", PEER)
    with pytest.raises(BenchError, match=r"made \d+ of nobody knows how many outputs in 0.2 s"):
        throughput.measure(Trickle(), case, ["in"], 1000)  # type: ignore[arg-type]


class Dead:
    """The pipe of a reader that has ended."""

    def poll(self, _: float) -> bool:
        """Nothing comes."""
        return False


def test_a_reader_that_has_ended_ends_the_run() -> None:
    """Its pipe has no end, since this process holds both sides of it."""
    load = clients.Load(Case("word count", "none"), ["in"], 1, 1)
    outside = clients.Outside.__new__(clients.Outside)
    outside._load, outside._stop = load, clients._spawn.Event()
    outside._readers, outside._processes = {"read_committed": Dead()}, []  # type: ignore[dict-item]
    with pytest.raises(BenchError, match="nothing from the read_committed reader"):
        outside.finish()


def test_without_its_program_kafka_streams_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error says how it is built."""
    monkeypatch.setattr(peers, "TARGET", tmp_path / "target")
    with pytest.raises(BenchError, match="run `mvn -q -B package` in"):
        peers.command(tmp_path, [])


def test_sessions_are_compared_with_words_that_are_all_as_frequent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else Kafka Streams reads past the deleted sessions of the most frequent one for ever."""
    written: list[bytes] = []

    def write(_: str, topics: list[str], records: Any) -> None:
        assert topics == ["in"]
        written.extend(value for _, _, value in records)

    monkeypatch.setattr(workload, "write", write)
    cases = [case for case in peers.CASES if case.program == EVEN]
    assert [case.guarantee for case in cases] == ["exactly_once", PEER]
    workload.preload("nowhere:1", cases[0], ["in"], 10_000)
    ((_, most),) = Counter(word for line in written for word in line.split()).most_common(1)
    assert most <= 20, "of 100,000 words that are drawn 100,000 times"
    assert workload.outputs_per_record(cases[0]) is None

"""A long quiet run: memory, file handles and topics must not grow.

    python -m tests.chaos.soak [--seconds 3600] [--workers 3]

Three workers of the word count work at a steady load on one broker. What each process and each
topic of ours holds is noted in every sample; a straight line through the second half of the samples
shows the growth in that time. The first half is for caches to fill and for the first segments.
At the end every output must be there once. The exit code is 1 when something grew.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer

from kstash.broker import DevBroker
from tests.chaos.checkers import read_committed
from tests.chaos.harness import Chaos, Feeder, Worker, chaos_run, wait_for_outputs
from tests.chaos.live_bytes import LiveBytes
from tests.chaos.subjects import WordCount

PARTITION_COUNT = 4
SAMPLES = 60
CATCH_UP_S_MAX = 300.0


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a figure may grow over the second half: the larger of both."""

    share: float
    amount: float


BOUNDS = {
    # What the allocator of C keeps, beside what Python gives back.
    "rss_bytes": Bound(0.05, 8 << 20),
    # RocksDB opens and closes files as it compacts.
    "open_files": Bound(0.05, 10),
    # A sample falls anywhere between two checkpoints, and topics are trimmed after checkpoints.
    "live_bytes": Bound(0.25, 1 << 20),
}

Samples = dict[tuple[str, str], list[tuple[float, float]]]
"""By figure and whose it is: moments in seconds, and values."""


def growth(points: Sequence[tuple[float, float]]) -> float:
    """How much a straight line through the second half of the points rises in that time.

    Args:
        points: (moment, value), at least four.
    """
    half = points[len(points) // 2 :]
    slope, _ = statistics.linear_regression([at for at, _ in half], [value for _, value in half])
    return slope * (half[-1][0] - half[0][0])


def grown(samples: Mapping[tuple[str, str], Sequence[tuple[float, float]]]) -> list[str]:
    """What grew more than it may."""
    found = []
    for (figure, owner), points in samples.items():
        bound = BOUNDS[figure]
        usual = statistics.mean(value for _, value in points[len(points) // 2 :])
        most = max(bound.share * usual, bound.amount)
        rise = growth(points)
        if rise > most:
            found.append(f"{figure} of {owner} grew by {rise:,.0f}, {most:,.0f} at most")
    return found


def report(samples: Mapping[tuple[str, str], Sequence[tuple[float, float]]]) -> str:
    """Per figure: first, middle and last value, and the growth over the second half."""
    rows = ["| figure | of | first | middle | last | growth over the second half |"]
    rows.append("|---|---|---:|---:|---:|---:|")
    for (figure, owner), points in samples.items():
        first, middle, last = points[0][1], points[len(points) // 2][1], points[-1][1]
        rows.append(
            f"| {figure} | {owner} | {first:,.0f} | {middle:,.0f} | {last:,.0f} "
            f"| {growth(points):,.0f} |"
        )
    return "\n".join(rows)


def sample(samples: Samples, at_s: float, workers: Sequence[Worker], topics: LiveBytes) -> None:
    """Note what every worker and topic holds now."""
    for worker in workers:
        process = psutil.Process(worker.pid)
        samples["rss_bytes", worker.name].append((at_s, process.memory_info().rss))
        samples["open_files", worker.name].append((at_s, process.num_fds()))
    for topic, size in topics.sample().items():
        samples["live_bytes", topic].append((at_s, size))


def soak(chaos: Chaos, seconds: float, worker_count: int) -> list[str]:
    """Run for so long; returns what grew."""
    subject = WordCount(chaos, partition_count=PARTITION_COUNT)
    workers = [
        chaos.worker(name, subject.module, *subject.options(1_000), *("--instance-id", name))
        for name in (f"worker-{number}" for number in range(worker_count))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.wait_ready()
    own = subject.application_id
    topics = LiveBytes(chaos.bootstrap, subject.compacted_topics, subject.purged_topics)
    feeder = Feeder(chaos.bootstrap, subject.record, rate=subject.rate)
    feeder.start()
    samples: Samples = defaultdict(list)
    start = time.monotonic()
    print(f"{own}: {seconds:g} s, {SAMPLES} samples", flush=True)
    for number in range(SAMPLES):
        time.sleep(max(0.0, start + (number + 1) * seconds / SAMPLES - time.monotonic()))
        ended = [worker.name for worker in workers if not worker.is_running()]
        assert not ended, f"{ended} ended by themselves"
        sample(samples, time.monotonic() - start, workers, topics)
    feeder.finish()
    topics.close()
    print(report(samples), flush=True)
    wait_for_outputs(
        chaos.bootstrap,
        subject.output,
        subject.output_count(feeder.sent),
        deadline_s=CATCH_UP_S_MAX,
    )
    for worker in workers:
        assert worker.stop() == 0, f"{worker.name} left with exit code {worker.exit_code()}"
    outputs = read_committed(chaos.bootstrap, subject.output, deadline_s=CATCH_UP_S_MAX)
    subject.check(outputs, feeder.sent)
    return grown(samples)


def main(
    seconds: Annotated[float, typer.Option(min=20, help="How long.")] = 3600,
    workers: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
) -> None:
    """Run a soak and say what grew."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no process is to outlive this one
    with (
        DevBroker() as broker,
        tempfile.TemporaryDirectory(prefix="kstash-soak-") as folder,
        chaos_run(broker.bootstrap_servers, Path(folder)) as chaos,
    ):
        found = soak(chaos, seconds, workers)
    print("\n".join(found) or "nothing grew")
    if found:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

"""Kafka Streams beside kstash: the same counts, exactly once, on one broker, in turn.

The other program is in `benchmarks/kafka_streams`; `mvn -q -B package` there builds it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.case import PEER, WATERMARK, WINDOWED, Case
from benchmarks.machine import REPOSITORY
from benchmarks.worker import BenchError

TARGET = REPOSITORY / "benchmarks/kafka_streams/target"
CASES = [
    Case(program, guarantee)
    for program in ("word count", *WINDOWED)
    if program != WATERMARK
    for guarantee in ("exactly_once", PEER)
]


def command(state_dir: Path, options: list[str]) -> list[str]:
    """How Kafka Streams is started.

    Args:
        state_dir: for its state; RocksDB's library is unpacked there as well.
        options: of its program: broker, application, input, output, folder of the state,
            `linger.ms` and the first word of the case.

    Raises:
        BenchError: the program is not built.
    """
    if not (TARGET / "counts.jar").exists():
        raise BenchError(
            f"there is no {TARGET / 'counts.jar'}: run `mvn -q -B package` in {TARGET.parent} "
            "(it needs Maven and Java 17 or newer)"
        )
    path = f"{TARGET / 'counts.jar'}:{TARGET / 'lib'}/*"
    java = ["java", "-Xmx1g", f"-Djava.io.tmpdir={state_dir}", "-cp", path, "kstash.Counts"]
    return [*java, *options]

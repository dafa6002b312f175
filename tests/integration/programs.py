"""Programs that the integration tests run as processes.

    python -m tests.integration.programs NAME JSON

JSON: `inputs` (topics), `output` (topic), `settings` (for `kstash.App`, `application_id` among
them), `until`, `workers` (to supervise), `options` (for the program), `file_bytes_max` (a limit on
the size of files that the process may write, as a full disk is one).
"""

from __future__ import annotations

import faulthandler
import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import kstash
from kstash.process import clock

HOUR_MS = 3_600_000

Build = Callable[[kstash.App, list[str], str, dict[str, Any]], None]


def words(app: kstash.App, inputs: list[str], output: str, options: dict[str, Any]) -> None:
    """Word count, whose splitting fails on the word in option `poison`."""
    poison = options.get("poison")

    def split(line: str) -> list[str]:
        found = line.split()
        if poison in found:
            raise ValueError(f"cannot take {poison}")
        return found

    (
        app.stream(inputs[0], value=kstash.text)
        .flat_map(split)
        .key_by(lambda word: word, key=kstash.text)
        .count("words")
        .to(output, key=kstash.text, value=kstash.int_text)
    )


def merged(app: kstash.App, inputs: list[str], output: str, options: dict[str, Any]) -> None:
    """Count each key's records of all inputs together, with no internal topic between.

    The counts also go to a topic in option `plain`, by a transactional sink.
    """
    streams = [app.stream(topic, key=kstash.text, value=kstash.text) for topic in inputs]
    stream = streams[0].merge(*streams[1:]) if len(streams) > 1 else streams[0]
    counts = stream.count("both")
    counts.to(output, value=kstash.int_text)
    if "plain" in options:
        counts.to(options["plain"], value=kstash.int_text, delivery="transactional")


def backfill(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Counts by hour, by the time that each value is, and sums of these by day.

    Option `closes_windows`: as of `App.run`.
    """
    hours = (
        app.stream(inputs[0], value=kstash.int_text, timestamp=lambda at_ms: at_ms)
        .key_by(lambda at_ms: f"k{at_ms % 3}", key=kstash.text, value=kstash.int_text)
        .window(kstash.tumbling(timedelta(hours=1)), emit="final")
        .count("hours")
    )
    (
        hours.key_by(lambda _: "all", key=kstash.text, value=kstash.int_text)
        .window(kstash.tumbling(timedelta(days=1)), emit="final")
        .reduce("days", lambda left, right: left + right)
        .to(output)
    )


class Idle(kstash.Processor[str, str, str]):
    """Sets a timer for each word, an hour later."""

    def on_record(self, record: Any, context: Any) -> None:
        """Set it."""
        context.timer("idle", at=record.timestamp_ms + HOUR_MS)
        context.wall_timer("idle", at=context.now() + HOUR_MS)

    def on_wall_timer(self, timer: Any, context: Any) -> None:
        """Send its name."""
        context.send(timer.name)

    def on_timer(self, timer: Any, context: Any) -> None:
        """Send its name."""
        context.send(timer.name)


def timed(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Count words by hours, and set timers for them; two topics of them are merged."""
    split = app.stream(inputs[0], value=kstash.text).flat_map(str.split)
    edges = [
        stream.key_by(lambda word: word, key=kstash.text, value=kstash.text, name=name)
        for name, stream in (("words", split), ("none", split.filter(lambda word: not word)))
    ]
    words = edges[0].merge(edges[1])
    words.window(kstash.tumbling(timedelta(hours=1)), grace=timedelta(minutes=1)).count("hours").to(
        output, value=kstash.int_text
    )
    words.process("idle", Idle, value=kstash.text)


def spread(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Count words of all inputs together, after an internal topic."""
    (
        app.stream(*inputs, value=kstash.text)
        .key_by(str, name="by-word", key=kstash.text)
        .count("words")
        .to(output, value=kstash.int_text)
    )


def copy(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Copy the union of the inputs as the bytes that they are."""
    app.stream(*inputs).to(output)


def drop(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Read the inputs, and send nothing on."""
    app.stream(*inputs).filter(lambda _: False).to(output)


def copy_to(app: kstash.App, inputs: list[str], output: str, options: dict[str, Any]) -> None:
    """Copy one input by the delivery in option `delivery`."""
    app.stream(inputs[0]).to(output, delivery=options["delivery"])


def prints(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Copy, and write each line to standard error; at `crash` the interpreter crashes."""
    faulthandler.enable()

    def show(line: str) -> None:
        print(f"written beside the log: {line}", file=sys.stderr, flush=True)
        if line == "crash":
            faulthandler._sigsegv()  # type: ignore[attr-defined] # no stub has it

    app.stream(inputs[0], value=kstash.text).peek(show).to(output, value=kstash.text)


def through(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Send records through an internal topic, and on as they are."""
    app.stream(inputs[0], key=kstash.raw).repartition("all").to(output)


def relay(app: kstash.App, inputs: list[str], output: str, options: dict[str, Any]) -> None:
    """Sum up what another application counts, reading its immediate sink at once."""
    (
        app.stream(
            inputs[0], key=kstash.text, value=kstash.int_text, immediate_of=options["immediate_of"]
        )
        .map_values(lambda count: count * 2)
        .key_by(lambda double: f"total-{double % 2}", key=kstash.text, value=kstash.int_text)
        .sum("total")
        .to(output, value=kstash.int_text)
    )


def newest(app: kstash.App, inputs: list[str], output: str, _options: dict[str, Any]) -> None:
    """Count each key's records into a compacted topic, where null keys are passed on too."""
    stream = app.stream(inputs[0], key=kstash.text, value=kstash.text)
    keyed, unkeyed = stream.split(lambda value: value != "unkeyed")
    counts = keyed.count("counts").map_values(str)
    nobody = unkeyed.key_by(lambda _: None, key=kstash.text)
    counts.merge(nobody).to(output, value=kstash.text, delivery="transactional")


PROGRAMS: dict[str, Build] = {
    "words": words,
    "merged": merged,
    "spread": spread,
    "backfill": backfill,
    "timed": timed,
    "copy": copy,
    "drop": drop,
    "copy_to": copy_to,
    "prints": prints,
    "through": through,
    "relay": relay,
    "newest": newest,
}


def jumping_time_ms(_clock: clock.SystemClock) -> int:
    """Unix time of a clock that is set every 100 ms: right, 5 hours ahead, a day back, again."""
    now_ms = time.time_ns() // 1_000_000
    return now_ms + (0, 5 * HOUR_MS, -24 * HOUR_MS)[now_ms // 100 % 3]


def main(name: str, arguments: dict[str, Any]) -> None:
    """Build a program and run it; prints READY once its tasks are live."""
    limit = arguments.get("file_bytes_max")
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    options = arguments.get("options", {})
    if options.get("clock_jumps"):
        clock.SystemClock.time_ms = jumping_time_ms  # type: ignore[assignment,method-assign]
    app = kstash.App(**arguments["settings"])
    PROGRAMS[name](app, arguments["inputs"], arguments["output"], options)
    app.run(
        until=arguments.get("until"),
        closes_windows=options.get("closes_windows", False),
        workers=arguments.get("workers"),
        on_ready=lambda: print("READY", flush=True),
    )
    if name == "drop":
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"PEAK {peak_kib >> 10} MiB", file=sys.stderr, flush=True)
    print("DONE", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

"""All that goes by time at once, over one keyed topic, to be killed by the tests.

    python -m tests.chaos.timed_app [options of the applications]

Values are JSON `{"at": event time in ms, "n": number of the record}`. Each topic is written from
the task that reads the input partition of that number. Beside those of `windows_app`, all by stream
time, and in the order of the input:

- `<output>-hops`: the sum of `n` by key and hopping window, once each (transactional);
- `<output>-slides`: records by key and sliding window, once each (transactional);
- `<output>-once`: the `n` of the first record of a key in each second, as `dedup` knows them;
- `<output>-pauses`: how many records of a key came before a pause (an event timer).

These go by the clock, so the input does not say all of them:

- `<output>-intervals`: records by key and tumbling window, at intervals (`every=`);
- `<output>-quiet`: the `n`s of a tumbling window, once each, and that when nothing comes at the
  latest (`idle_timeout=`, transactional); `<output>-missed`: the `n`s that came too late for that;
- `<output>-gathered`: each `n` when its wall timer was due, as `timing_app` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import typer

import kstash
from kstash.apps.options import Options, shared_options
from tests.chaos.timing_app import WAIT_MS, said_of
from tests.chaos.windows_app import declare

HOPS = kstash.hopping(timedelta(seconds=3), timedelta(seconds=1))
HOPS_GRACE = timedelta(milliseconds=500)
SLIDES = kstash.sliding(timedelta(seconds=2))
SLIDES_GRACE = timedelta(seconds=1)
ONCE_WITHIN = timedelta(seconds=4)
PAUSE_MS = 2_000
INTERVALS = kstash.tumbling(timedelta(seconds=2))
INTERVALS_GRACE = timedelta(milliseconds=500)
EVERY = timedelta(seconds=1)
QUIET = kstash.tumbling(timedelta(seconds=3))
QUIET_GRACE = timedelta(seconds=1)
QUIET_AFTER = timedelta(seconds=1)


class Pauses(kstash.Processor[str, dict[str, int], int]):
    """Counts the records before each pause of a key, and gathers them by the clock besides."""

    sides = ("gathered",)
    count = kstash.Value("count", kstash.int_text)
    items = kstash.List("items", kstash.int_text)
    set_ms = kstash.Value("set-ms", kstash.int_text)

    def on_record(self, record: kstash.Record, context: Any) -> None:
        """Each record puts the end of the pause off; the first one that is kept sets the clock."""
        self.count.set(self.count.get(0) + 1)
        context.timer("pause", at=context.time_ms + PAUSE_MS)
        if not len(self.items):
            now_ms = context.now()
            self.set_ms.set(now_ms)
            context.wall_timer("full", at=now_ms + WAIT_MS)
        self.items.append(record.value["n"])

    def on_timer(self, timer: kstash.FiredTimer, context: Any) -> None:
        """No record of the key has come for so much stream time."""
        del timer
        context.send(self.count.get(0))
        self.count.delete()

    def on_wall_timer(self, timer: kstash.FiredTimer, context: Any) -> None:
        """Send what was kept."""
        said = said_of(timer, self.set_ms.get(), context)
        for item in self.items:
            context.send({"item": item, **said}, to="gathered")
        self.items.clear()


def declare_more(clicks: kstash.KeyedStream[str, dict[str, int]], output: str) -> None:
    """All that `windows_app` has not."""
    numbers = clicks.map_values(lambda click: click["n"])
    (
        numbers.window(HOPS, grace=HOPS_GRACE, emit="final")
        .sum("hops", value=kstash.int_text)
        .to(f"{output}-hops", value=kstash.int_text, delivery="transactional")
    )
    (
        clicks.window(SLIDES, grace=SLIDES_GRACE, emit="final")
        .count("slides")
        .to(f"{output}-slides", value=kstash.int_text, delivery="transactional")
    )
    (
        clicks.dedup("once", id=lambda click: click["at"] // 1_000, within=ONCE_WITHIN)
        .map_values(lambda click: click["n"])
        .to(f"{output}-once", value=kstash.int_text)
    )
    (
        clicks.window(INTERVALS, grace=INTERVALS_GRACE, every=EVERY)
        .count("intervals")
        .to(f"{output}-intervals", value=kstash.int_text)
    )
    quiet = numbers.window(QUIET, grace=QUIET_GRACE, emit="final", idle_timeout=QUIET_AFTER)
    kept = quiet.collect("quiet", value=kstash.int_text)
    kept.to(f"{output}-quiet", value=kstash.json, delivery="transactional")
    (
        kept.late()
        .map_values(lambda late: late.value)
        .to(f"{output}-missed", key=kstash.text, value=kstash.int_text)
    )
    pauses = clicks.process("pauses", Pauses, value=kstash.int_text)
    pauses.to(f"{output}-pauses", value=kstash.int_text, delivery="transactional")
    pauses.side("gathered", value=kstash.json).to(f"{output}-gathered", value=kstash.json)


def build(application_id: str, inputs: Sequence[str], output: str) -> kstash.App:
    """Declare the program.

    Args:
        application_id: of the application.
        inputs: topics of clicks.
        output: what the names of its topics begin with.
    """
    app = kstash.App(application_id)
    clicks = app.stream(
        *inputs, key=kstash.text, value=kstash.json, timestamp=lambda click: click["at"]
    )
    declare(clicks, output)
    declare_more(clicks, output)
    return app


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="timed", inputs=("clicks",), output="timed"
)
def main(options: Options) -> None:
    """Have the clicks of each key go through all that goes by time."""
    options.run(build(options.application_id, options.inputs, options.output))


if __name__ == "__main__":
    typer.run(main)

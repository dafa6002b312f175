"""Two windows in a chain in watermark mode, with a repartition between, to be killed by the tests.

    python -m tests.chaos.watermark_app [options of the applications]

Values are JSON `{"at": event time in ms, "n": number of the record}`, of times that are the
clock's: a partition of which nothing comes goes by the clock after `IDLE_TIMEOUT_MS`. Five topics:

- `<output>`: 1, 2, 3 … for the records of each key (immediate);
- `<output>-firsts`: the `n`s of each key and window, once (transactional), from the task that reads
  the input partition of that number;
- `<output>-first-late`: the `n`s that came too late for that (immediate);
- `<output>-seconds`: those lists by the group that they fall to and window, once (transactional);
- `<output>-second-late`: lists that came too late for that; there must be none.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import typer

import kstash
from kstash.apps.options import Options, shared_options

IDLE_TIMEOUT_MS = 1_500
FIRSTS = kstash.tumbling(timedelta(seconds=1))
FIRSTS_GRACE = timedelta(milliseconds=500)
SECONDS = kstash.tumbling(timedelta(seconds=2))
GROUPS = 5


def build(application_id: str, inputs: Sequence[str], output: str) -> kstash.App:
    """Declare the program.

    Args:
        application_id: of the application.
        inputs: topics of clicks.
        output: a topic, and what the names of the others begin with.
    """
    app = kstash.App(application_id, event_time="watermark", idle_timeout_ms=IDLE_TIMEOUT_MS)
    clicks = app.stream(
        *inputs, key=kstash.text, value=kstash.json, timestamp=lambda click: click["at"]
    )
    clicks.count("clicks").to(output)
    numbers = clicks.map_values(lambda click: click["n"])
    firsts = numbers.window(FIRSTS, grace=FIRSTS_GRACE, emit="final").collect(
        "firsts", value=kstash.int_text
    )
    firsts.to(f"{output}-firsts", value=kstash.json, delivery="transactional")
    (
        firsts.late()
        .map_values(lambda late: late.value)
        .to(f"{output}-first-late", key=kstash.text, value=kstash.int_text)
    )
    by_group = firsts.key_by(
        lambda numbers: f"group-{numbers[0] % GROUPS}", key=kstash.text, value=kstash.json
    )
    seconds = by_group.window(SECONDS, emit="final").collect("seconds")
    seconds.to(f"{output}-seconds", value=kstash.json, delivery="transactional")
    (
        seconds.late()
        .map_values(lambda late: late.value)
        .to(f"{output}-second-late", key=kstash.text, value=kstash.json)
    )
    return app


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="watermark", inputs=("clicks",), output="watermark"
)
def main(options: Options) -> None:
    """List the clicks of each key by window, and those lists by group and window."""
    options.run(build(options.application_id, options.inputs, options.output))


if __name__ == "__main__":
    typer.run(main)

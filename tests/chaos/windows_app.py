"""Windows of every kind over one keyed topic, or several, to be killed by the tests.

    python -m tests.chaos.windows_app [options of the applications]

Values are JSON `{"at": event time in ms, "n": number of the record}`. Four topics are written, each
from the task that reads the input partition of that number:

- `<output>-updates`: records by key and tumbling window, at each record (immediate);
- `<output>-late`: what those windows missed (immediate);
- `<output>-finals`: the sum of `n` by key and tumbling window, once each (transactional);
- `<output>-visits`: records by session, once each (transactional).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

import kstash
from kstash.apps.options import Options, shared_options

UPDATES = kstash.tumbling(timedelta(seconds=1))
UPDATES_GRACE = timedelta(milliseconds=500)
FINALS = kstash.tumbling(timedelta(seconds=10))
FINALS_GRACE = timedelta(seconds=2)
VISITS = kstash.session(timedelta(seconds=3))
VISITS_GRACE = timedelta(seconds=1)


def declare(clicks: kstash.KeyedStream[str, dict[str, int]], output: str) -> None:
    """The windows and their topics."""
    updates = clicks.window(UPDATES, grace=UPDATES_GRACE).count("updates")
    updates.to(f"{output}-updates", value=kstash.int_text)
    (
        updates.late()
        .map_values(lambda late: late.value["n"])
        .to(f"{output}-late", key=kstash.text, value=kstash.int_text)
    )
    (
        clicks.map_values(lambda click: click["n"])
        .window(FINALS, grace=FINALS_GRACE, emit="final")
        .sum("finals", value=kstash.int_text)
        .to(f"{output}-finals", value=kstash.int_text, delivery="transactional")
    )
    (
        clicks.window(VISITS, grace=VISITS_GRACE, emit="final")
        .count("visits")
        .to(f"{output}-visits", value=kstash.int_text, delivery="transactional")
    )


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="windows", inputs=("clicks",), output="windows"
)
def main(
    options: Options,
    second: Annotated[str, typer.Option(help="Another topic, taken by time with the input.")] = "",
) -> None:
    """Count the clicks of each key, by windows."""
    app = kstash.App(options.application_id)
    clicks = app.stream(
        *filter(None, (options.inputs[0], second)),
        key=kstash.text,
        value=kstash.json,
        timestamp=lambda click: click["at"],
    )
    declare(clicks, options.output)
    options.run(app)


if __name__ == "__main__":
    typer.run(main)

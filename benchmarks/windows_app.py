"""The word count by windows.

    python -m benchmarks.windows_app [options of the applications]

`BENCH_WINDOW`: `tumbling` (10 s), `hopping` (10 s, each 5 s) or `session` (a gap of 500 ms), all
with a grace of a minute: a backlog is read partition by partition, and no word is to be late.
`BENCH_EVENT_TIME`: `watermark` for that mode.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import typer

import kstash
from kstash.apps.options import Options, shared_options

SIZE = timedelta(seconds=10)
GRACE = timedelta(minutes=1)
WINDOWS = {
    "tumbling": kstash.tumbling(SIZE),
    "hopping": kstash.hopping(SIZE, SIZE / 2),
    "session": kstash.session(timedelta(milliseconds=500)),
}


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="windows", inputs=("sentences",), output="counts"
)
def main(
    options: Options,
    window: Annotated[str, typer.Option(envvar="BENCH_WINDOW")] = "tumbling",
    event_time: Annotated[
        Literal["records", "watermark"], typer.Option(envvar="BENCH_EVENT_TIME")
    ] = "records",
    emit: Annotated[Literal["update", "final"], typer.Option(envvar="BENCH_EMIT")] = "update",
) -> None:
    """Count the words of sentences by windows."""
    app = kstash.App(options.application_id, event_time=event_time)
    (
        app.stream(options.inputs[0], value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .window(WINDOWS[window], grace=GRACE, emit=emit)
        .count("words")
        .to(options.output, value=kstash.int_text)
    )
    options.run(app)


if __name__ == "__main__":
    typer.run(main)

"""Records gathered until the wall clock says so, to be killed by the tests.

    python -m tests.chaos.timing_app [--transactional-output TOPIC] [options of the applications]

Each key's values are kept until 200 ms after the first of them; then they leave, each as a JSON
object `{"item": …, "set_ms": when the timer was set, "due_ms": …, "now_ms": …, "id": …}`, of which
all but the item is the same for those that leave together. Times and ids are read and drawn: only
what the lineage has of them gives a replay the same ones.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

import kstash
from kstash.apps.options import Options, shared_options

WAIT_MS = 200


def said_of(timer: kstash.FiredTimer, set_ms: int | None, context: Any) -> dict[str, Any]:
    """What all items of one timer have in common, read and drawn when it fires."""
    return {
        "set_ms": set_ms,
        "due_ms": timer.at_ms,
        "now_ms": context.now(),
        "id": str(context.uuid()),
    }


class Gather(kstash.Processor[str, str, dict[str, Any]]):
    """Keeps what comes, and sends it on later."""

    items = kstash.List("items", kstash.text)
    set_ms = kstash.Value("set-ms", kstash.int_text)

    def on_record(self, record: kstash.Record, context: Any) -> None:
        """Keep a value; the first one sets the timer."""
        if not len(self.items):
            now_ms = context.now()
            self.set_ms.set(now_ms)
            context.wall_timer("full", at=now_ms + WAIT_MS)
        self.items.append(record.value)

    def on_wall_timer(self, timer: kstash.FiredTimer, context: Any) -> None:
        """Send what was kept."""
        said = said_of(timer, self.set_ms.get(), context)
        for item in self.items:
            context.send({"item": item, **said})
        self.items.clear()


def build(
    application_id: str,
    *,
    input_topic: str,
    output_topic: str,
    transactional_output: str | None = None,
    **settings: Any,
) -> kstash.App:
    """Declare the program.

    Args:
        application_id: of the application.
        input_topic: values by key.
        output_topic: gets what was gathered by immediate delivery.
        transactional_output: gets the same by transactional delivery, if given.
        settings: of `kstash.Config`.
    """
    app = kstash.App(application_id, **settings)
    gathered = app.stream(input_topic, key=kstash.text, value=kstash.text).process(
        "gather", Gather, value=kstash.json
    )
    gathered.to(output_topic, key=kstash.text, value=kstash.json)
    if transactional_output is not None:
        gathered.to(
            transactional_output, key=kstash.text, value=kstash.json, delivery="transactional"
        )
    return app


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="timing", inputs=("values",), output="gathered"
)
def main(
    options: Options,
    transactional_output: Annotated[str | None, typer.Option(help="A second output.")] = None,
) -> None:
    """Gather each key's values for a while."""
    options.run(
        build(
            options.application_id,
            input_topic=options.inputs[0],
            output_topic=options.output,
            transactional_output=transactional_output,
        )
    )


if __name__ == "__main__":
    typer.run(main)

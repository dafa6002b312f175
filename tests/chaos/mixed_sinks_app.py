"""The rolling hash with sinks of both deliveries, in one task and in different stages.

    python -m tests.chaos.mixed_sinks_app [options of the applications]

Writes `<output>-at-once` (immediate) and `<output>-plain` (transactional) from the task that makes
the chains, and `<output>-laps` (transactional) after a repartition topic: how many keys have come
to each length.
"""

from __future__ import annotations

import typer

import kstash
from kstash.apps.options import Options, shared_options
from tests.chaos.rolling_hash_app import follow


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="mixed-sinks", inputs=("left", "right"), output="mixed"
)
def main(options: Options) -> None:
    """Fold two topics into one chain of hashes for each key, and count its lengths."""
    app = kstash.App(options.application_id)
    first, second = (
        app.stream(topic, key=kstash.text, value=kstash.text) for topic in options.inputs
    )
    chains = first.merge(second).aggregate(
        "chains",
        initial=lambda: {"count": 0, "hash": "", "last": ""},
        function=follow,
        value=kstash.json,
    )
    chains.to(f"{options.output}-at-once", value=kstash.json)
    chains.to(f"{options.output}-plain", value=kstash.json, delivery="transactional")
    (
        chains.key_by(lambda state: f"lap-{state['count']}", key=kstash.text)
        .count("laps")
        .to(f"{options.output}-laps", value=kstash.int_text, delivery="transactional")
    )
    options.run(app)


if __name__ == "__main__":
    typer.run(main)

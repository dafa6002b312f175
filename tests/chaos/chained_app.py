"""A second application: goes on with what the rolling hash makes, at once, and merges more into it.

    python -m tests.chaos.chained_app --immediate-of APPLICATION [options of the applications]

The first input is the immediate sink of the rolling hash, the second an ordinary topic. Which comes
next is decided here, by two consumers, and every output depends on it.
"""

from __future__ import annotations

from typing import Annotated

import typer

import kstash
from kstash.apps.options import Options, shared_options
from tests.chaos.rolling_hash_app import follow


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="chained", inputs=("chains", "extra"), output="final"
)
def main(
    options: Options,
    immediate_of: Annotated[str, typer.Option(help="Who writes the first input.")] = "rolling-hash",
) -> None:
    """Fold another application's hashes and a topic of texts into one chain for each key."""
    app = kstash.App(options.application_id)
    chains = app.stream(
        options.inputs[0], key=kstash.text, value=kstash.json, immediate_of=immediate_of
    ).map_values(lambda state: state["hash"])
    extra = app.stream(options.inputs[1], key=kstash.text, value=kstash.text)
    (
        chains.merge(extra)
        .aggregate(
            "final",
            initial=lambda: {"count": 0, "hash": "", "last": ""},
            function=follow,
            value=kstash.json,
        )
        .to(options.output, value=kstash.json, delivery="transactional")
    )
    options.run(app)


if __name__ == "__main__":
    typer.run(main)

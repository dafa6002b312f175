"""`python -m kstash.apps.word_count`."""

from __future__ import annotations

import typer

from ..options import Options, shared_options
from . import build


@shared_options(application_id="word-count", inputs=("sentences",), output="word-counts")
def main(options: Options) -> None:
    """Count words exactly once, from a topic of sentences to a topic of running counts."""
    (sentences,) = options.inputs
    options.run(
        build(
            options.application_id,
            input_topic=sentences,
            output_topic=options.output,
        )
    )


if __name__ == "__main__":
    typer.run(main)

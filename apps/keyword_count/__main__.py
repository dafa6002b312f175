"""`python -m kstash.apps.keyword_count`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import Options, shared_options
from . import KEYWORD, build


@shared_options(
    application_id="keyword-count", inputs=("queries-1", "queries-2"), output="keyword-counts"
)
def main(
    options: Options,
    keyword: Annotated[str, typer.Option(envvar="KSTASH_KEYWORD", help="What to count.")] = KEYWORD,
) -> None:
    """Count exactly once how often a keyword is queried in two streams of search queries."""
    first, second = options.inputs
    options.run(
        build(
            options.application_id,
            input_topics=(first, second),
            output_topic=options.output,
            keyword=keyword,
        )
    )


if __name__ == "__main__":
    typer.run(main)

"""`python -m kstash.apps.log_count`."""

from __future__ import annotations

import typer

from ..options import Options, shared_options
from . import build


@shared_options(application_id="log-count", inputs=("server-log",), output="attack-counts")
def main(options: Options) -> None:
    """Count exactly once the attacks in the lines of a server log."""
    (lines,) = options.inputs
    app = build(
        options.application_id,
        input_topic=lines,
        output_topic=options.output,
        **options.settings,
    )
    options.run(app)


if __name__ == "__main__":
    typer.run(main)

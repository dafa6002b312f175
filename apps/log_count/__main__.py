"""`python -m kstash.apps.log_count`."""

from __future__ import annotations

import typer

import kstash

from ..options import Options, shared_options
from . import KEY, build


@shared_options(application_id="log-count", inputs=("server-log",), output="attack-counts")
def main(options: Options) -> None:
    """Count exactly once the attacks in the lines of a server log."""
    (lines,) = options.inputs
    app = build(options.application_id, input_topic=lines, output_topic=options.output)

    def print_number(state: kstash.FinalState) -> None:
        # The key has one task; of several workers only the one that ran it knows the number.
        if state.owns("attacks", KEY):
            print(f"Number of attacks: {state.get('attacks', KEY, 0)}", flush=True)

    options.run(app, on_end=print_number)


if __name__ == "__main__":
    typer.run(main)

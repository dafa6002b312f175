"""A pipeline of several hops: the inputs merged, passed on from stage to stage, to one sink.

    python -m benchmarks.hops_app [options of the applications]

`BENCH_HOPS`: topics that a record passes on its way, the sink included. `BENCH_DELIVERY`: of the
sink.
"""

from __future__ import annotations

from typing import Annotated

import typer

import kstash
from kstash.apps.options import Options, shared_options


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="hops", inputs=("left", "right"), output="hops"
)
def main(
    options: Options,
    hops: Annotated[int, typer.Option(envvar="BENCH_HOPS", min=1, help="Topics written.")] = 1,
    delivery: Annotated[
        kstash.Delivery, typer.Option(envvar="BENCH_DELIVERY", help="Of the sink.")
    ] = "immediate",
) -> None:
    """Merge the inputs and pass them on."""
    app = kstash.App(options.application_id)
    stream = app.stream(*options.inputs, key=kstash.raw, value=kstash.raw)
    for number in range(1, hops):
        stream = stream.repartition(f"hop-{number}")
    stream.to(options.output, delivery=delivery)
    options.run(app)


if __name__ == "__main__":
    typer.run(main)

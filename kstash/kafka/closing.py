"""Closes consumers, and gives up one that waits for a broker that is away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

CLOSE_DEADLINE_S = 2.0
"""A broker that answers takes some tenths of a second to let a member go."""

log = structlog.get_logger("kstash.kafka")


def close_in_time(name: str, close: Callable[[], None]) -> None:
    """Run a client's `close`, which knows no deadline of its own, for `CLOSE_DEADLINE_S` at most.

    One that has not come to its end by then ends with the process; the log says so.

    Args:
        name: of the client.
        close: what may wait for the broker.
    """
    thread = threading.Thread(target=close, name=f"{name}-close", daemon=True)
    thread.start()
    thread.join(CLOSE_DEADLINE_S)
    if thread.is_alive():
        log.warning("a client waits for the broker, it is not waited for", client=name)

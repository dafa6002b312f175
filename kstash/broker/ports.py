"""TCP ports of 127.0.0.1 for the nodes of a development broker."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

from kstash.broker.errors import PortBusyError

# Below the ranges from which Linux and macOS take the ports of outgoing connections, so that a
# node that is down does not lose its port to a client before it is started again.
_FREE_PORTS = range(20_000, 32_000)


def choose_ports(count: int, first: int) -> list[tuple[int, int]]:
    """`(client port, controller port)` for each node, all of them free now."""
    fixed = list(range(first, first + count)) if first else []
    if fixed:
        check_ports(fixed)
    chosen: list[int] = []
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        if len(fixed) + len(chosen) == 2 * count:
            break
        if port not in fixed and is_free(port):
            chosen.append(port)
    ports = fixed + chosen
    assert len(ports) == 2 * count, "no free TCP ports"
    return list(zip(ports[:count], ports[count:], strict=True))


def check_ports(ports: Sequence[int]) -> None:
    """Raise `PortBusyError` for a port that another process has."""
    for port in ports:
        if not is_free(port):
            raise PortBusyError(port)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As Java's server sockets do: connections that linger after a stop do not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

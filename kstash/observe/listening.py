"""Sockets that an HTTP server listens on."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from pathlib import Path

from kstash.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Args:
        host: address or name of this machine.
        port: 1 to 65535, or 0 for one that is free.

    Raises:
        ConfigError: the address cannot be used; names setting and fix.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            # A restarted worker takes its port back at once; a port in use stays refused.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"http_port {port} on {host} is in use by another process: set another http_port "
                "(each process of a machine needs its own), or 0 for none",
                "http_port",
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(
                f"http_port {port} needs privileges: set one above 1023", "http_port"
            ) from error
        raise ConfigError(
            f"http_host {host!r} cannot be listened on ({error}): set an address of this machine",
            "http_host",
        ) from error
    return listening


def listen_at(path: Path) -> socket.socket:
    """Listen on a Unix socket; one that an earlier process left there is replaced."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        listening.bind(str(path))
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening

"""What a worker is called, and where others reach it."""

from __future__ import annotations

import os
import socket

from kstash.settings.config import Config


def worker_name(config: Config) -> str:
    """The name that distinguishes a worker from all others of the application."""
    return config.instance_id or f"{socket.gethostname()}-{os.getpid()}"


def own_address(config: Config, port: int | None) -> str:
    """Where others can reach this server: by its host's name when it listens at all addresses."""
    host = socket.gethostname() if config.http_host in ("0.0.0.0", "::") else config.http_host
    return f"[{host}]:{port}" if ":" in host.strip("[]") and host[0] != "[" else f"{host}:{port}"

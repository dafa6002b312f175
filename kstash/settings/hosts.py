"""What the settings of HTTP may be: names, addresses with ports, tokens."""

from __future__ import annotations

HOST_PATTERN = r"^(\*|(\*\.)?[a-zA-Z0-9._-]+)$"

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
PEER_PATTERN = rf"^([a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\]):{_PORT}$"

TOKEN_PATTERN = "^[a-zA-Z0-9._~+/=-]{16,512}$"
"""What a header can carry (RFC 6750), and nobody guesses."""

TOKEN_TEXT = "must be 16 to 512 letters, digits and -._~+/="


def split_port(peer: str) -> tuple[str, int]:
    """Host and port of `host:port`."""
    host, _, port = peer.rpartition(":")
    return host, int(port)

"""What the settings of HTTP may be: names, addresses with ports, tokens."""

from __future__ import annotations

_NAME = r"(\*|(\*\.)?[a-zA-Z0-9._-]+)"
NAMES_PATTERN = rf"^ *{_NAME} *(, *{_NAME} *)*$"

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_PEER = rf"([a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\]):{_PORT}"
PEERS_PATTERN = rf"^ *{_PEER} *(, *{_PEER} *)*$"

TOKEN_PATTERN = "^[a-zA-Z0-9._~+/=-]{16,512}$"
"""What a header can carry (RFC 6750), and nobody guesses."""

TOKEN_TEXT = "must be 16 to 512 letters, digits and -._~+/="


def split(text: str | None) -> list[str]:
    """Parts with commas between them; None is none."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def split_port(peer: str) -> tuple[str, int]:
    """Host and port of `host:port`."""
    host, _, port = peer.rpartition(":")
    return host, int(port)

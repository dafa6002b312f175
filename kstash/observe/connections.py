"""HTTP connections whose number and duration are limited.

Each takes one of the worker's file descriptors, which its clients and databases need too. uvicorn
closes connections that are idle after a request. It does not close those that send nothing, or only
part of a request, or that do not read their answer: this module does. Anything that is no request
gets a 4xx answer or a closed connection, and no line in the log.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MAX = 64
"""Connections of scrapers, probes and people; one more closes the oldest."""

REQUEST_S = 10.0
"""A connection that begins no request for so long is closed."""


class BoundedConnection(H11Protocol):
    """One connection.

    With TLS it counts from its first byte on, not from the end of the handshake.
    """

    tls: ClassVar[ssl.SSLContext | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opened_s = 0.0
        self._seen: object = None
        self._check_due: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._early: list[bytes] | None = None if self.tls is None else []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the oldest connection when there are too many."""
        others = [c for c in self.connections if isinstance(c, BoundedConnection)]
        if len(others) >= CONNECTIONS_MAX:
            oldest = min(others, key=lambda other: other._opened_s)
            self.connections.discard(oldest)  # which it does by itself only in a later turn
            oldest.transport.abort()
        super().connection_made(transport)
        self._opened_s = time.monotonic()
        self._check_due = self.loop.call_later(REQUEST_S, self._check)
        if self.tls is not None:
            transport.pause_reading()
            self._handshake = self.loop.create_task(self._secure(transport, self.tls))

    async def _secure(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        try:
            secured = await self.loop.start_tls(
                transport, self, tls, server_side=True, ssl_handshake_timeout=REQUEST_S
            )
        except OSError:  # no TLS, or nothing at all; `ssl.SSLError` is one too
            transport.abort()
            return
        early, self._early = self._early, None
        if secured is not None and not secured.is_closing():
            super().connection_made(secured)
            for data in early or ():
                super().data_received(data)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; it may come with the end of the handshake."""
        if self._early is not None:
            self._early.append(data)  # the answer would go out in the clear
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._check_due is not None:
            self._check_due.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer anything that is no request with 400."""
        # The base class's answer lacks the headers that all others have.
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(msg)),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 400 Bad Request", *(b": ".join(header) for header in headers)]
        self.transport.write(b"\r\n".join([*lines, b"", msg.encode()]))
        self.transport.close()

    def _check(self) -> None:
        if self.cycle is self._seen:
            self.transport.abort()
            return
        self._seen = self.cycle
        self._check_due = self.loop.call_later(REQUEST_S, self._check)

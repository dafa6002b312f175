"""Conditions on every HTTP request, checked before it is routed.

A web page can reach a server of its visitor's network by pointing its own host name at that
server's address (DNS rebinding). The browser then sends that name as `Host`, so a name that is not
allowed is refused. Addresses are allowed, since a page cannot point them elsewhere; and so are
names without a dot, such as those of services of a container engine, since nobody can register
them. A request of HTTP/1.0 may lack `Host`, and is refused: there is nothing to compare.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

HEAD_BYTES_MAX = 16 * 1024
HEADERS_MAX = 64
"""A browser sends about 15 headers, and a proxy in front of the server adds some."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of each answer, besides `content-security-policy`."""

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""Of each answer: a browser loads the page's own files only, and embeds the page nowhere."""


OPEN = ("/livez", "/readyz", "/openapi.json", "/")
OPEN_FOLDER = "/static/"
"""Paths that need no token: kubelets have none, and the page, which asks for one, shows no data."""


class Guard:
    """Passes on requests for an allowed host that have a bounded head and no body.

    Args:
        app: the application that answers them.
        names: host names, lower case: `*.example.com` is any name below it, `*` is any name.
        is_admitted: whether the `Authorization` of a request is right.
    """

    def __init__(
        self, app: ASGIApp, names: Collection[str], is_admitted: Callable[[bytes], bool]
    ) -> None:
        self._app = app
        self._names = names
        self._is_admitted = is_admitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it and close its connection."""
        refusal = self._refusal(scope["headers"]) or self._missing(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, text = refusal
        headers = {"connection": "close"}
        if status == 401:
            headers["www-authenticate"] = 'Bearer realm="kstash"'
        answer = PlainTextResponse(f"{text}\n", status, headers=headers)
        await answer(scope, receive, send)

    def _missing(self, scope: Scope) -> tuple[int, str] | None:
        path = scope["path"]
        if path in OPEN or path.startswith(OPEN_FOLDER):
            return None
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        if self._is_admitted(given):
            return None
        return 401, "a request needs the header Authorization: Bearer and the http_token"

    def _refusal(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, str] | None:
        size = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > HEADERS_MAX or size > HEAD_BYTES_MAX:
            return 431, f"at most {HEADERS_MAX} headers, of {HEAD_BYTES_MAX} bytes together"
        if not any(name == b"host" for name, _ in headers):
            return 400, "a request names this worker in a Host header"
        for name, value in headers:
            if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
                return 413, "no request has a body here"
            if name == b"host" and not is_allowed(value.decode("latin-1"), self._names):
                return 421, "not a name of this worker: http_hosts_allowed has those that are"
        return None


def names_of(host: str, allowed: Collection[str]) -> frozenset[str]:
    """The names that a worker answers to, besides addresses and names without a dot.

    Args:
        host: what it listens on.
        allowed: names that the settings add.
    """
    return frozenset(name.lower() for name in (host, socket.gethostname(), *allowed))


def is_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` header may be answered.

    Args:
        host: its value: a name or address, perhaps with a port.
        names: see `Guard`.
    """
    if host.startswith("["):
        return _is_address(host[1:].partition("]")[0])
    name = host.partition(":")[0].removesuffix(".").lower()
    if not name:
        return False
    if "." not in name or _is_address(name) or name in names or "*" in names:
        return True
    _, *parents = name.split(".")
    return any(f"*.{'.'.join(parents[depth:])}" in names for depth in range(len(parents)))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

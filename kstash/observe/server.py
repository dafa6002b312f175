"""The HTTP server of a worker: a daemon thread beside the loop."""

from __future__ import annotations

import base64
import errno
import hashlib
import socket
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from kstash.errors import ConfigError
from kstash.observe.connections import BoundedConnection
from kstash.observe.guard import HEAD_BYTES_MAX, HEADERS, Guard, names_of
from kstash.observe.page import STYLE

KEEP_ALIVE_S = 5

_STOP_MAX_S = 5.0

_STYLE_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

CONTENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Of each answer: nothing is fetched, run, embedded or sent; one style is known. No `sandbox`: the
page would not renew itself any more."""

log = structlog.get_logger("kstash.http")


@dataclass(frozen=True, slots=True)
class Views:
    """What the server answers with; each is called on its thread.

    Attributes:
        metrics: text of `/metrics` and its content type.
        health: whether the loop turns, and why not.
        ready: whether all tasks are live, and why not.
        page: HTML of `/`.
    """

    metrics: Callable[[], tuple[bytes, str]]
    health: Callable[[], tuple[bool, str]]
    ready: Callable[[], tuple[bool, str]]
    page: Callable[[], str]


class HttpServer:
    """Serves `/metrics`, `/health`, `/ready` and `/` until `close`.

    Args:
        host: address to listen on.
        port: 1 to 65535, or 0 for one that is free (see the attribute).
        views: what to answer.
        allowed: names that it may be asked under, beside its own (see `kstash.observe.guard`).

    Attributes:
        port: the port that is listened on.

    Raises:
        ConfigError: the address cannot be used; names setting and fix.
    """

    def __init__(self, host: str, port: int, views: Views, allowed: Collection[str] = ()) -> None:
        self._socket = _listen(host, port)
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            _application(views, names_of(host, allowed)),
            access_log=False,
            log_config=None,
            # Whoever sends nonsense would write a line for each; what fails here is logged below.
            log_level="critical",
            server_header=False,
            headers=[*HEADERS.items(), ("content-security-policy", CONTENT_POLICY)],
            lifespan="off",
            timeout_graceful_shutdown=1,
            ws="none",
            http=BoundedConnection,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="kstash-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port; waits a few seconds at most. Again is fine."""
        self._server.should_exit = True
        self._thread.join(_STOP_MAX_S)
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
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
                "(each worker of a machine needs its own), or 0 for none",
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


def _application(views: Views, names: Collection[str]) -> Starlette:
    # Coroutines: others would each get a thread, of which a crowd of requests would make forty.
    async def metrics(_: Request) -> Response:
        content, content_type = views.metrics()
        return Response(content, headers={"content-type": content_type})

    async def health(_: Request) -> Response:
        return _verdict(views.health())

    async def ready(_: Request) -> Response:
        return _verdict(views.ready())

    async def page(_: Request) -> Response:
        return HTMLResponse(views.page())

    async def failed(request: Request, error: Exception) -> Response:
        log.error("an HTTP request failed", path=request.url.path, exc_info=error)
        return PlainTextResponse("Internal Server Error\n", status_code=500)

    application = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/health", health),
            Route("/ready", ready),
            Route("/", page),
        ],
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={Exception: failed},
    )
    # It would send whoever asks for `/health/` to the host that they named themselves.
    application.router.redirect_slashes = False
    return application


def _verdict(verdict: tuple[bool, str]) -> Response:
    is_good, text = verdict
    return PlainTextResponse(text + "\n", status_code=200 if is_good else 503)

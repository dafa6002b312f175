"""The HTTP server of a worker or supervisor: a daemon thread beside the loop."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Collection
from typing import Any, Protocol

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kstash.errors import ConfigError
from kstash.observe import schema
from kstash.observe.connections import BoundedConnection
from kstash.observe.files import page_files
from kstash.observe.guard import CONTENT_POLICY, HEAD_BYTES_MAX, HEADERS, Guard, names_of

KEEP_ALIVE_S = 5

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STOP_MAX_S = 5.0

log = structlog.get_logger("kstash.http")


class Source(Protocol):
    """What the server answers with; all of it is called in its thread."""

    async def metrics(self) -> bytes:
        """In Prometheus' text format."""

    async def livez(self) -> schema.Verdict:
        """Whether it makes progress, or need not."""

    async def readyz(self) -> schema.Verdict:
        """Whether it runs."""

    async def status(self) -> schema.Status:
        """What it does."""

    async def workers(self) -> schema.Workers:
        """What all workers of the application do."""

    def topology(self) -> bytes:
        """The application's stages and topics, as JSON."""

    def settings(self) -> schema.Settings:
        """Each setting and where it comes from."""


class HttpServer:
    """Serves what a source says, and the status page, until `close`.

    Args:
        host: address to listen on.
        port: 1 to 65535, or 0 for one that is free (see the attribute).
        source: what to answer.
        allowed: names that it may be asked under, beside its own (see `kstash.observe.guard`).

    Attributes:
        port: the port that is listened on.

    Raises:
        ConfigError: the address cannot be used; names setting and fix.
    """

    def __init__(self, host: str, port: int, source: Source, allowed: Collection[str] = ()) -> None:
        self._socket = _listen(host, port)
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            _application(source, names_of(host, allowed)),
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


def _application(source: Source, names: Collection[str]) -> Starlette:
    # Coroutines: others would each get a thread, of which a crowd of requests would make forty.
    async def metrics(_: Request) -> Response:
        return Response(await source.metrics(), headers={"content-type": METRICS_TYPE})

    async def livez(_: Request) -> Response:
        return _verdict(await source.livez())

    async def readyz(_: Request) -> Response:
        return _verdict(await source.readyz())

    async def status(_: Request) -> Response:
        return _json(await source.status())

    async def workers(_: Request) -> Response:
        return _json(await source.workers())

    async def topology(_: Request) -> Response:
        return Response(source.topology(), media_type="application/json")

    async def config(_: Request) -> Response:
        return _json(source.settings())

    async def failed(request: Request, error: Exception) -> Response:
        log.error("an HTTP request failed", path=request.url.path, exc_info=error)
        return PlainTextResponse("Internal Server Error\n", status_code=500)

    application = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/status", status),
            Route("/workers", workers),
            Route("/topology", topology),
            Route("/config", config),
            *_pages(),
        ],
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={Exception: failed},
    )
    # It would send whoever asks for `/livez/` to the host that they named themselves.
    application.router.redirect_slashes = False
    return application


def _pages() -> list[Route]:
    """`/` and `/static/…`: a route for each file, so that no path leads anywhere else."""

    def route(path: str, content: bytes, media_type: str) -> Route:
        async def send(_: Request) -> Response:
            return Response(content, media_type=media_type)

        return Route(path, send)

    return [
        route("/" if name == "index.html" else f"/static/{name}", content, media_type)
        for name, (content, media_type) in page_files().items()
    ]


def _json(answer: Any, status_code: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status_code, media_type="application/json")


def _verdict(verdict: schema.Verdict) -> Response:
    return _json(verdict, 200 if verdict.ok else 503)

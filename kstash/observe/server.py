"""The HTTP server of a worker or supervisor: a daemon thread beside the loop."""

from __future__ import annotations

import socket
import threading
from typing import Any, Protocol

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kstash.observe import schema
from kstash.observe.access import RENEW_S, Access
from kstash.observe.connections import BoundedConnection
from kstash.observe.files import page_files
from kstash.observe.guard import CONTENT_POLICY, HEAD_BYTES_MAX, HEADERS, Guard
from kstash.observe.listening import listen
from kstash.observe.openapi import openapi_document
from kstash.observe.peers import Peers
from kstash.settings.config import Config

KEEP_ALIVE_S = 5

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STOP_MAX_S = 5.0

log = structlog.get_logger("kstash.http")


class Answers(Protocol):
    """The source of the answers; its methods are called in the server's thread."""

    async def metrics(self) -> bytes:
        """In Prometheus' text format."""

    async def livez(self) -> schema.Verdict:
        """Whether it makes progress, or has nothing to do."""

    async def readyz(self) -> schema.Verdict:
        """Whether it runs."""

    async def status(self) -> schema.Status:
        """What it does."""

    async def own_workers(self) -> tuple[schema.WorkerEntry, ...]:
        """What it does, or what each of its workers does, if it is a supervisor."""

    def topology(self) -> bytes:
        """The application's stages and topics, as JSON."""

    def settings(self) -> schema.Settings:
        """Each setting and where it comes from."""


class HttpServer:
    """Serves a source's answers, and the status page, until `close`.

    Args:
        listening: socket that is listened on; closed with the server.
        source: of the answers.
        access: who may ask, and how.
        peers: the other servers of the application.
    """

    def __init__(
        self,
        listening: socket.socket,
        source: Answers,
        *,
        access: Access,
        peers: Peers | None = None,
    ) -> None:
        self._socket = listening
        certificate = access.certificate

        class Connection(BoundedConnection):
            tls = certificate.context if certificate is not None else None

        async def renew() -> None:
            if certificate is not None:
                certificate.renew()

        config = uvicorn.Config(
            _application(source, access, peers or Peers(())),
            access_log=False,
            log_config=None,
            # Each senseless request would write a line; failures of ours are logged below.
            log_level="critical",
            server_header=False,
            headers=[*HEADERS.items(), ("content-security-policy", CONTENT_POLICY)],
            lifespan="off",
            timeout_graceful_shutdown=1,
            ws="none",
            http=Connection,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
            callback_notify=renew,
            timeout_notify=RENEW_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="kstash-http", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop answering and free the port, within a few seconds; may be called again."""
        self._server.should_exit = True
        self._thread.join(_STOP_MAX_S)
        self._socket.close()


def serve(config: Config, port: int, source: Answers) -> HttpServer:
    """Serve a source on a port of `http_host`, to those whom the settings allow.

    Args:
        config: the settings.
        port: 1 to 65535, or 0 for one that is free (see `HttpServer.port`).
        source: of the answers.

    Raises:
        ConfigError: the address or the certificate cannot be used; names the setting.
    """
    access = Access.of(config)
    listening = listen(config.http_host, port)
    return HttpServer(listening, source, access=access, peers=Peers.of(config, access))


def _application(source: Answers, access: Access, peers: Peers) -> Starlette:
    async def failed(request: Request, error: Exception) -> Response:
        log.error("an HTTP request failed", path=request.url.path, exc_info=error)
        return PlainTextResponse("Internal Server Error\n", status_code=500)

    application = Starlette(
        routes=[*_routes(source, peers), *_pages()],
        middleware=[Middleware(Guard, names=access.names, is_admitted=access.is_admitted)],
        exception_handlers={Exception: failed},
    )
    # A redirect of `/livez/` would lead to whatever host the request named.
    application.router.redirect_slashes = False
    return application


def _routes(source: Answers, peers: Peers) -> list[Route]:
    """All routes but those of the page."""

    # Coroutines: other functions run in threads, and many requests would start forty of them.
    async def metrics(_: Request) -> Response:
        return Response(await source.metrics(), headers={"content-type": METRICS_TYPE})

    async def livez(_: Request) -> Response:
        return _verdict(await source.livez())

    async def readyz(_: Request) -> Response:
        return _verdict(await source.readyz())

    async def status(_: Request) -> Response:
        return _json(await source.status())

    async def workers(request: Request) -> Response:
        wanted = request.query_params.getlist("peers")
        if wanted not in ([], ["true"], ["false"]):
            return PlainTextResponse("peers is true or false\n", 400)
        own = await source.own_workers()
        if wanted == ["false"]:
            return _json(schema.Workers(workers=own))
        return _json(await peers.join(own))

    async def topology(_: Request) -> Response:
        return Response(source.topology(), media_type="application/json")

    async def config(_: Request) -> Response:
        return _json(source.settings())

    async def targets(request: Request) -> Response:
        if peers.are_known:
            addresses = tuple(str(address) for address in (await peers.find()).addresses)
        else:
            addresses = (request.headers["host"],)  # where whoever asks has reached this one
        return _json([schema.TargetGroup(targets=addresses, labels={"__scheme__": peers.scheme})])

    document = msgspec.json.encode(openapi_document())

    async def openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    return [
        Route("/metrics", metrics),
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/status", status),
        Route("/workers", workers),
        Route("/topology", topology),
        Route("/config", config),
        Route("/sd", targets),
        Route("/openapi.json", openapi),
    ]


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

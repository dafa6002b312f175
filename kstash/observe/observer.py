"""All that a worker shows: metrics, HTTP and logs. Made by the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kstash.observe.history import History
from kstash.observe.logs import configure_logs
from kstash.observe.metrics import PrometheusMetrics
from kstash.observe.probes import Probes
from kstash.observe.summary import Summary
from kstash.ports.status import WorkerStatus
from kstash.settings import derived
from kstash.settings.config import Config

if TYPE_CHECKING:
    from kstash.observe.server import HttpServer
    from kstash.observe.supervision import Endpoint
    from kstash.topology.model import Topology

STATUS_INTERVAL_S = 0.2
"""How often the loop's status is taken: `/readyz` shows a change within this time."""


class Observer:
    """A context manager: logs and, when `http_port` is set, HTTP are on inside it.

    The loop calls `show` at every turn; the HTTP thread reads only the frozen status it left.

    Args:
        config: settings.
        topology: of the application.
        monotonic: seconds, never back.
        http_socket: of a supervised worker: where its supervisor asks it, in place of a port.

    Raises:
        ConfigError: the port is in use; names it and the fix.
    """

    def __init__(
        self,
        config: Config,
        topology: Topology,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        http_socket: Path | None = None,
    ) -> None:
        self.metrics = PrometheusMetrics()
        self.config = config
        self.topology = topology
        self._monotonic = monotonic
        self._started = self._turned = monotonic()
        self.history = History(self.metrics, self._started)
        self._summary = Summary(self.metrics, self._started)
        self._probes = Probes(derived.stall_s(config), self._started)
        self._status_due = 0.0
        self.status = WorkerStatus(
            application_id=config.application_id,
            guarantee=config.guarantee,
            state="starting",
            tasks=(),
        )
        self._http_socket = http_socket
        self._server: HttpServer | None = None

    @property
    def http_port(self) -> int | None:
        """The port that is served, or None."""
        return self._server.port if self._server is not None else None

    @property
    def uptime_s(self) -> float:
        """Seconds since the worker started."""
        return self._monotonic() - self._started

    @property
    def stuck_s(self) -> float:
        """Seconds since the last turn of the loop."""
        return max(0.0, self._monotonic() - self._turned)

    def stalled(self) -> tuple[str, ...]:
        """What makes no progress, for people; empty when all is well."""
        return self._probes.stalled(self.status, self._monotonic(), self.stuck_s)

    def __enter__(self) -> Self:
        configure_logs(self.config.log_format, self.config.log_level)
        if self._http_socket is not None:
            self._serve_at(self._http_socket)
        elif self.config.http_port:
            self.serve(self.config.http_port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def serve(self, port: int) -> None:
        """Start the HTTP server; port 0 takes a free one (see `http_port`)."""
        # Imported late: this takes a tenth of a second, and most short runs serve nothing.
        from kstash.observe.answers import WorkerSource
        from kstash.observe.server import serve

        self._server = serve(self.config, port, WorkerSource(self))

    def _serve_at(self, path: Path) -> None:
        from kstash.observe.access import Access
        from kstash.observe.answers import WorkerSource
        from kstash.observe.listening import listen_at
        from kstash.observe.server import HttpServer

        self._server = HttpServer(listen_at(path), WorkerSource(self), access=Access())

    def beat(self) -> None:
        """Note that the loop is alive within a turn that takes long."""
        self._turned = self._monotonic()

    def show(self, status: Callable[[], WorkerStatus]) -> None:
        """Note that the loop turns; ask for its status a few times a second."""
        now = self._turned = self._monotonic()
        if self._server is not None and now >= self._status_due:
            self._status_due = now + STATUS_INTERVAL_S
            self.status = status()
            self._probes.note(self.status, now)
            self.history.sample(now)
        self._summary.log_when_due(now, status)


def endpoint_of(config: Config, topology: Topology) -> AbstractContextManager[Endpoint | None]:
    """The HTTP port of a supervisor; None where the settings have none.

    Raises:
        ConfigError: the port is in use; names it and the fix.
    """
    if not config.http_port:
        return nullcontext()
    # Imported late, like the server of a worker.
    from kstash.observe.supervision import Endpoint

    return Endpoint(config, topology)

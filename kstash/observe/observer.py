"""Joins what a worker shows: metrics, HTTP and logs. Made by the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kstash.config import Config
from kstash.observe.logs import configure_logs
from kstash.observe.metrics import CONTENT_TYPE, PrometheusMetrics
from kstash.observe.page import render_page
from kstash.ports import WorkerStatus

if TYPE_CHECKING:
    from kstash.observe.server import HttpServer

STATUS_INTERVAL_S = 0.2
"""How often the loop's status is taken: `/ready` follows a change this fast."""


class Observer:
    """A context manager: logs and, when `http_port` is set, HTTP are on inside it.

    The loop calls `show` at every turn; the HTTP thread reads only the frozen status it left. A
    loop that has not turned for as long as the group waits for a member is dead to `/health`: until
    then a slow function may hold it.

    Raises:
        ConfigError: the port is in use; names it and the fix.
    """

    def __init__(self, config: Config, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.metrics = PrometheusMetrics(monotonic=monotonic)
        self._config = config
        self._monotonic = monotonic
        self._started = self._turned = monotonic()
        self._status_due = 0.0
        self._status = WorkerStatus(
            application_id=config.application_id,
            guarantee=config.guarantee,
            state="starting",
            tasks=(),
        )
        self._server: HttpServer | None = None

    @property
    def http_port(self) -> int | None:
        """The port that is served, or None."""
        return self._server.port if self._server is not None else None

    def __enter__(self) -> Self:
        configure_logs(self._config.log_format, self._config.log_level)
        if self._config.http_port:
            self.serve(self._config.http_port)
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
        # Imported late: most short runs serve nothing, and this is a tenth of a second.
        from kstash.observe.server import HttpServer, Views

        views = Views(
            metrics=lambda: (self.metrics.render(), CONTENT_TYPE),
            health=self._health,
            ready=self._ready,
            page=self._page,
        )
        self._server = HttpServer(self._config.http_host, port, views, self._config.http_hosts())

    def beat(self) -> None:
        """Note that the loop is alive within a turn that takes long."""
        self._turned = self._monotonic()

    def show(self, status: Callable[[], WorkerStatus]) -> None:
        """Note that the loop turns; ask for its status a few times a second."""
        now = self._turned = self._monotonic()
        if self._server is not None and now >= self._status_due:
            self._status_due = now + STATUS_INTERVAL_S
            self._status = status()

    def _stuck_s(self) -> float:
        return self._monotonic() - self._turned

    def _health(self) -> tuple[bool, str]:
        stuck_s = self._stuck_s()
        if stuck_s > self._config.poll_interval_s:
            return False, f"the loop has not turned for {stuck_s:.0f} s"
        return True, "ok"

    def _ready(self) -> tuple[bool, str]:
        status = self._status
        is_healthy, text = self._health()
        if not is_healthy:
            return False, text
        if status.state != "live":
            return False, status.state
        waiting = [task.name for task in status.tasks if task.state != "live"]
        if waiting:
            return False, f"not live: {', '.join(waiting)}"
        return True, f"live: {len(status.tasks)} tasks"

    def _page(self) -> str:
        return render_page(
            self._status,
            self.metrics.total,
            uptime_s=self._monotonic() - self._started,
            is_stuck=self._stuck_s() > self._config.poll_interval_s,
        )

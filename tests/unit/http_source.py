"""A source of the HTTP server that says what a test gave it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kstash.observe import schema

STATUS = schema.Status(
    application_id="a",
    guarantee="exactly_once",
    kstash="0",
    state="live",
    worker="w",
    time=1.0,
    uptime_seconds=1.0,
)


@dataclass
class FakeSource:
    """See `kstash.observe.server.Answers`."""

    live: schema.Verdict = field(default_factory=lambda: schema.Verdict(ok=True))
    ready: schema.Verdict = field(
        default_factory=lambda: schema.Verdict(ok=False, reasons=("the worker is starting",))
    )
    text: Callable[[], bytes] = lambda: b"m 1\n"
    found: schema.Status = STATUS

    async def metrics(self) -> bytes:
        """What was given."""
        return self.text()

    async def livez(self) -> schema.Verdict:
        """What was given."""
        return self.live

    async def readyz(self) -> schema.Verdict:
        """What was given."""
        return self.ready

    async def status(self) -> schema.Status:
        """What was given."""
        return self.found

    async def own_workers(self) -> tuple[schema.WorkerEntry, ...]:
        """The status alone."""
        return (schema.WorkerEntry(address="127.0.0.1:1", is_reachable=True, status=self.found),)

    def topology(self) -> bytes:
        """Nothing."""
        return b"{}"

    def settings(self) -> schema.Settings:
        """Nothing."""
        return schema.Settings(settings=())

"""One HTTP port for all workers of a supervisor.

Each worker listens on a socket in a folder that only its supervisor can enter, so it needs neither
a port nor a token of its own. The supervisor asks all workers and answers for them, in the server's
thread and not in its loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, TypeVar

import msgspec

from kstash.errors import ConfigError
from kstash.observe import schema
from kstash.observe.answers import edges, errors_of_log, settings_of
from kstash.observe.asking import Address, UnreachableError, ask
from kstash.observe.catalog import OF_SUPERVISOR
from kstash.observe.merged import merge_metrics, merge_status
from kstash.observe.metrics import PrometheusMetrics
from kstash.observe.names import own_address, worker_name
from kstash.ports.status import SupervisedWorker
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.topology.model import Topology

if TYPE_CHECKING:
    from kstash.observe.server import HttpServer

T = TypeVar("T")

FOLDER_LENGTH_MAX = 70
FOLDER_PREFIX = ".http-"
LOCK = "lock"
LOCKED_WITHIN_S = 60.0

OK = frozenset({200})
VERDICTS = frozenset({200, 503})


class Endpoint:
    """A context manager: HTTP is on inside it.

    Args:
        config: settings of the application, with an `http_port`.
        topology: of the application.
        monotonic: seconds, never back.

    Attributes:
        folder: where the workers' sockets are.

    Raises:
        ConfigError: the port is in use; names it and the fix.
    """

    def __init__(
        self,
        config: Config,
        topology: Topology,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.topology = topology
        self.folder, self._lock = _make_folder(config.state_dir)
        self.started = monotonic()
        self.monotonic = monotonic
        self.members: tuple[SupervisedWorker, ...] = ()
        self._server: HttpServer | None = None

    @property
    def http_port(self) -> int | None:
        """The port that is served, or None."""
        return self._server.port if self._server is not None else None

    def __enter__(self) -> Self:
        try:
            self.serve(self.config.http_port)
        except BaseException:
            self._remove_folder()
            raise
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
        self._remove_folder()

    def serve(self, port: int) -> None:
        """Start the HTTP server; port 0 takes a free one (see `http_port`)."""
        from kstash.observe.server import serve

        self._server = serve(self.config, port, SupervisorSource(self))

    def _remove_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def show(self, members: Sequence[SupervisedWorker]) -> None:
        """Note which workers there are."""
        self.members = tuple(members)


def _make_folder(state_dir: str) -> tuple[Path, IO[bytes]]:
    """A folder that nobody else can enter, and the lock that marks it as in use.

    It is in the state folder where the root file system is read-only.
    """
    base = Path(state_dir).absolute()
    try:
        base.mkdir(parents=True, exist_ok=True)
        # The path of a socket may have some hundred characters only.
        is_short = len(str(base)) <= FOLDER_LENGTH_MAX
        place = base if is_short else Path(tempfile.gettempdir())
        _remove_old(place)
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=place))
        lock = (folder / LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return folder, lock
    except OSError as error:
        raise ConfigError(
            f"state_dir {state_dir!r} cannot be written to ({error.strerror}): set another folder",
            "state_dir",
        ) from error


def _remove_old(place: Path) -> None:
    """Remove the folders of supervisors that were killed, whose locks ended with them."""
    for folder in place.glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < LOCKED_WITHIN_S:
                continue  # it may be about to be locked
            with (folder / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


class SupervisorSource:
    """A source of the HTTP server (`kstash.observe.server.Answers`) that asks all workers.

    Args:
        endpoint: of the supervisor.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._config = endpoint.config
        self._version = metadata.version("kstash")
        self._topology = endpoint.topology.describe("json").encode()
        self._silent_since: dict[str, float] = {}
        self._metrics = PrometheusMetrics(OF_SUPERVISOR, has_process=False)
        self._restarts: dict[str, int] = {}

    async def metrics(self) -> bytes:
        """The metrics of all workers, with a label for each; and which workers answer."""
        found = await self._ask_all("/metrics", OK, lambda _, content: content.decode())
        for member, answer in found:
            is_up = isinstance(answer, str)
            self._metrics.gauge("worker_up", float(is_up), worker=member.name)
            before = self._restarts.get(member.name, 0)
            self._metrics.count("worker_restarts", member.restarts - before, worker=member.name)
            self._restarts[member.name] = member.restarts
        texts = {member.name: text for member, text in found if isinstance(text, str)}
        return self._metrics.render() + merge_metrics(texts).encode()

    async def livez(self) -> schema.Verdict:
        """Whether each running worker is alive: one that has died is started again."""
        reasons = []
        now, limit_s = self._endpoint.monotonic(), derived.stall_s(self._config)
        for member, verdict in await self._ask_all("/livez", VERDICTS, _verdict):
            if isinstance(verdict, schema.Verdict):
                self._silent_since.pop(member.name, None)
                reasons += [f"{member.name}: {reason}" for reason in verdict.reasons]
                continue
            silent_s = now - self._silent_since.setdefault(member.name, now)
            if silent_s > limit_s:
                reasons.append(f"{member.name}: no answer for {silent_s:.0f} s")
        return schema.Verdict(ok=not reasons, reasons=tuple(reasons))

    async def readyz(self) -> schema.Verdict:
        """Whether all workers are ready."""
        reasons = []
        found = await self._ask_all("/readyz", VERDICTS, _verdict)
        if not found:
            reasons.append("no worker was started yet")
        for member, verdict in found:
            if isinstance(verdict, schema.Verdict):
                reasons += [f"{member.name}: {reason}" for reason in verdict.reasons]
            else:
                reasons.append(f"{member.name}: {verdict}")
        return schema.Verdict(ok=not reasons, reasons=tuple(reasons))

    async def status(self) -> schema.Status:
        """One status of all workers."""
        found = await self._ask_all("/status", OK, _status)
        statuses = [status for _, status in found if isinstance(status, schema.Status)]
        own = schema.Status(
            application_id=self._config.application_id,
            guarantee=self._config.guarantee,
            kstash=self._version,
            state="starting",
            worker=worker_name(self._config),
            pid=os.getpid(),
            time=time.time(),
            uptime_seconds=max(0.0, self._endpoint.monotonic() - self._endpoint.started),
            edges=edges(self._endpoint.topology),
            errors=errors_of_log(),
        )
        return merge_status(own, statuses, is_complete=0 < len(found) == len(statuses))

    async def own_workers(self) -> tuple[schema.WorkerEntry, ...]:
        """Each worker."""
        address = own_address(self._config, self._endpoint.http_port)
        return tuple(
            schema.WorkerEntry(address=address, is_reachable=True, status=found)
            if isinstance(found, schema.Status)
            else schema.WorkerEntry(
                address=address, is_reachable=False, error=f"{member.name}: {found}"
            )
            for member, found in await self._ask_all("/status", OK, _status)
        )

    def topology(self) -> bytes:
        """The application's stages and topics, as JSON."""
        return self._topology

    def settings(self) -> schema.Settings:
        """Each setting and where it comes from."""
        return settings_of(self._config)

    async def _ask_all(
        self, target: str, wanted: frozenset[int], read: Callable[[int, bytes], T]
    ) -> list[tuple[SupervisedWorker, T | UnreachableError]]:
        """The answer of each worker that is not over; an error where there is none."""

        async def one(member: SupervisedWorker) -> T | UnreachableError:
            try:
                address = Address(socket=self._endpoint.folder / member.socket)
                return read(*await ask(address, target, wanted=wanted))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                return UnreachableError(str(error))
            except UnreachableError as error:
                return error

        members = [member for member in self._endpoint.members if not member.is_over]
        answers: list[Awaitable[T | UnreachableError]] = [one(member) for member in members]
        return list(zip(members, await asyncio.gather(*answers), strict=True))


def _verdict(_: int, content: bytes) -> schema.Verdict:
    return msgspec.json.decode(content, type=schema.Verdict)


def _status(_: int, content: bytes) -> schema.Status:
    return msgspec.json.decode(content, type=schema.Status)

"""Passwords that change while a process runs: their files are read again, and clients updated.

The client asks for user and password at each new connection, and takes other ones at any time;
connections that stand go on (decision 0054). Invariants:

- a client is updated only while nobody closes it;
- a file that cannot be used changes nothing.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from kstash.errors import ConfigError
from kstash.kafka import failures
from kstash.settings.config import Config, layers_of
from kstash.settings.credentials import content
from kstash.settings.sources import CREDENTIALS, credential_files

LOOK_S = 5.0
"""Between two checks: much less than the usual time between a new password and the end of the old
one."""

log = structlog.get_logger("kstash.kafka")


class Client(Protocol):
    """A Kafka client of any kind."""

    def set_sasl_credentials(self, username: str, password: str, /) -> None:
        """Take these for the connections to come."""


@dataclass(slots=True)
class _Watched:
    """A file, and the values that it has had in this process.

    Attributes:
        variable: that names it.
        value: what it holds now.
        known: that and what it held before: settings that were made then have it still.
        is_bad: whether it was reported already that it cannot be used.
    """

    variable: str
    value: str
    known: set[str] = field(default_factory=set)
    is_bad: bool = False


class Rotation:
    """The clients of a process whose user or password came from a file."""

    def __init__(self) -> None:
        # Reentrant: a garbage collection may close a client at any place.
        self._lock = threading.RLock()
        # By the client's setting and the path.
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._clients: weakref.WeakKeyDictionary[Client, dict[str, Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._thread: threading.Thread | None = None

    def follow(self, config: Config) -> None:
        """Check the files that gave an application user and password, from now on."""
        is_new = False
        for name, (variable, path) in credential_files(layers_of(config)).items():
            value = str(config.kafka[name])
            with self._lock:
                watched = self._watched.setdefault((name, path), _Watched(variable, value))
                # Settings that were read before the last check, or after it.
                is_new |= value not in watched.known
                watched.known.add(value)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="kstash-credentials", daemon=True
                    )
                    self._thread.start()
        if is_new:
            self.look()

    def renewed(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings of a client with user and password as their files have them now."""
        if not self._watched:
            return settings
        with self._lock:
            return self._renewed(settings)

    def add(self, client: Client, settings: Mapping[str, Any]) -> None:
        """Give changes to a client that was made with these settings, until it is closed."""
        if not self._watched:
            return
        with self._lock:
            if any(settings.get(name) in w.known for (name, _), w in self._watched.items()):
                chosen = {name: settings.get(name) for name in CREDENTIALS}
                self._clients[client] = chosen
                if self._renewed(chosen) != chosen:  # changed while it was being made
                    self._tell(client)

    def remove(self, client: Client) -> None:
        """Leave a client alone: it is about to be closed."""
        with self._lock:
            self._clients.pop(client, None)

    def look(self) -> None:
        """Read the files; where one has changed, update all clients that had its values."""
        with self._lock:
            files = list(self._watched.items())
        changed: list[str] = []
        for (_, path), watched in files:
            # Not under the lock: a disk may make it wait.
            try:
                value = content(watched.variable, path)
            except ConfigError as error:
                if not watched.is_bad:
                    watched.is_bad = True
                    log.warning(
                        "credentials cannot be read again, the old ones stay", reason=str(error)
                    )
                continue
            watched.is_bad = False
            if value != watched.value:
                with self._lock:
                    watched.value = value
                    watched.known.add(value)
                changed.append(path)
        if not changed:
            return
        with self._lock:
            for client in list(self._clients):
                self._tell(client)
        for path in changed:
            log.info("credentials read again", file=path)

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self.look()

    def _renewed(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(settings)
        for (name, _), watched in self._watched.items():
            if settings.get(name) in watched.known:
                found[name] = watched.value
        return found

    def _tell(self, client: Client) -> None:
        chosen = self._clients[client] = self._renewed(self._clients[client])
        try:
            client.set_sasl_credentials(*(str(chosen[name]) for name in CREDENTIALS))
        except failures.CLIENT_ERRORS as error:
            log.warning("a client did not take its credentials", reason=failures.describe(error))


ROTATION = Rotation()
"""Of this process, as its environment is, which names the files."""

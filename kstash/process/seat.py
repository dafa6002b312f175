"""The seat of a supervised process: how the process learns of it, and that its supervisor ended."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from kstash.core.names import worker_folder
from kstash.errors import ConfigError, KstashError
from kstash.settings.config import Config

SEAT_VARIABLE = "KSTASH_WORKER_SEAT"
"""Its value makes a process a supervised worker, and says which: see `Seat.encode`."""

STANDBY = -1

EXIT_ORPHANED = 4
"""Exit code of a worker whose supervisor has ended."""

EXIT_ERROR = 1

MESSAGE_CHARACTERS_MAX = 16_384
"""Of a reported error: it fits into the buffer of the link, so that the report never blocks."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker ends, when a restart would not mend it.

    Attributes:
        error: name of the error's class.
        message: its text.
    """

    error: str
    message: str

    def encode(self) -> bytes:
        """One line."""
        message = self.message[:MESSAGE_CHARACTERS_MAX]
        return json.dumps([self.error, message]).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """The failure that `encode` wrote."""
        return cls(*json.loads(line))


def socket_name(index: int) -> str:
    """The socket of a worker, in the folder that its supervisor has made."""
    return f"{index}.sock"


@contextmanager
def reporting_failures() -> Iterator[None]:
    """Report to the supervisor an error that a restart does not mend, and end without a traceback.

    In a process that has no supervisor the error passes through.
    """
    try:
        yield
    except KstashError as error:
        given = os.environ.get(SEAT_VARIABLE)
        if given is None or not error.is_lasting:
            raise
        with socket.socket(fileno=os.dup(int(given.split("/", 2)[1]))) as link:
            link.sendall(Failure(type(error).__name__, str(error)).encode())
        raise SystemExit(EXIT_ERROR) from error


@dataclass(frozen=True, slots=True)
class Seat:
    """What a supervisor gives to a process that it starts.

    Attributes:
        index: number of the worker on this machine, from 0; `STANDBY`: not yet known.
        link: file descriptor of the process's end of the socket pair.
        application_id: of the application that is supervised.
        http_folder: folder for the socket that answers HTTP; empty: none does.
    """

    index: int
    link: int
    application_id: str
    http_folder: str = ""

    def encode(self) -> str:
        """`index/link/application id/folder`: the value of `SEAT_VARIABLE`."""
        return f"{self.index}/{self.link}/{self.application_id}/{self.http_folder}"

    @property
    def http_socket(self) -> Path | None:
        """The socket to answer HTTP on."""
        return Path(self.http_folder, socket_name(self.index)) if self.http_folder else None

    @classmethod
    def of_this_process(cls, application_id: str) -> Self | None:
        """The seat of this process; None when it has no supervisor.

        Raises:
            ConfigError: the program runs another application before the supervised one.
        """
        given = os.environ.get(SEAT_VARIABLE)
        if given is None:
            return None
        index, link, supervised, http_folder = given.split("/", 3)
        if supervised != application_id:
            raise ConfigError(
                f"this process was started as a worker of {supervised!r}, and its program runs "
                f"{application_id!r} before that: give each application a program of its own",
                "workers",
            )
        return cls(int(index), int(link), supervised, http_folder)

    def settings(self, config: Config) -> Config:
        """The settings of this worker: its own name and folder; the supervisor serves HTTP."""
        base = config.instance_id or socket.gethostname()
        return config.override(
            "supervisor",
            instance_id=f"{base}-{self.index}",
            state_dir=os.path.join(config.state_dir, worker_folder(self.index)),  # noqa: PTH118 - stays as it was written
            http_port=0,
        )

    def wait(
        self, idle_s: float | None = None, on_idle: Callable[[], object] = lambda: None
    ) -> Self:
        """Stand by until this process is given a seat: that of a worker that has died.

        Args:
            idle_s: seconds of waiting after which, each time, `on_idle` is called; None: never.
            on_idle: keeps clients and connections ready for the seat.
        """
        with socket.socket(fileno=os.dup(self.link)) as link:
            # Not a time-out of the socket: that would change the link for all its holders.
            while not select.select([link], [], [], idle_s)[0]:
                on_idle()
            given = link.recv(16)
        if not given:
            os._exit(EXIT_ORPHANED)
        return replace(self, index=int(given))

    def join(self) -> Callable[[int], None]:
        """End with the supervisor from now on.

        Returns:
            What reports to the supervisor that this worker is ready. It is to be called with the
            number of task groups, since workers beyond that number get none.
        """
        link = socket.socket(fileno=self.link)
        link.set_inheritable(False)  # a child of the program's own must not keep it open

        def watch() -> None:
            while link.recv(1):
                pass
            os._exit(EXIT_ORPHANED)

        threading.Thread(target=watch, name="kstash-supervisor", daemon=True).start()

        def report_ready(group_count: int) -> None:
            link.sendall(b"%d\n" % group_count)

        return report_ready

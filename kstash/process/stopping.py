"""How a run is stopped: by a signal, or by `App.stop`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopRequest:
    """Whether a run is to end. Any thread may set it, and so may a signal handler."""

    is_set: bool = False


class StoppedEarlyError(BaseException):
    """A signal came before the run had begun anything that it would have to finish."""


class Stop:
    """A context manager: within it the first SIGTERM or SIGINT asks for an orderly stop.

    Before `begin` there is nothing to finish, and the start may wait for long: the signal raises a
    `StoppedEarlyError`. A second signal ends the process; in a process that is not kstash's, a
    second Ctrl-C raises KeyboardInterrupt. Python delivers signals to the main thread only: in
    other threads only `request` counts.

    Args:
        request: set by others to ask for the stop, and by a signal.
        is_guest: whether the process goes on after the run: a prompt, a notebook, a test.
    """

    def __init__(self, request: StopRequest, *, is_guest: bool = False) -> None:
        self.is_guest = is_guest
        self._request = request
        self._is_signalled = self._has_begun = False
        self._before: dict[int, signal.Handlers | int | Callable[..., object] | None] = {}

    @property
    def is_set(self) -> bool:
        """Whether the run is to stop."""
        return self._request.is_set

    def begin(self) -> None:
        """From now on the run checks `is_set`, and stops in order."""
        self._has_begun = True

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for number, handler in self._before.items():
            # None: it was not set by Python, which cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        # A client written in C that is stopped while it calls Python says only that it failed.
        if isinstance(error, SystemError) and isinstance(error.__cause__, StoppedEarlyError):
            raise error.__cause__

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._is_signalled:
            self._is_signalled = self._request.is_set = True
            if not self._has_begun:
                raise StoppedEarlyError
        elif self.is_guest and number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            os._exit(128 + number)

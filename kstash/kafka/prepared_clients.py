"""Clients made before they are needed, each in a thread of its own.

A new client connects and asks for metadata, some round trips to a broker that may be busy. One that
was made in advance spares its taker these, and those made at once cost as much as one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

THREADS_MAX = 8


class PreparedClients:
    """Clients by name, one of each, until somebody takes them. Not for several threads at once."""

    def __init__(self) -> None:
        self._made: dict[str, Future[Any]] = {}
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="kstash-client")

    def make(self, name: str, make: Callable[[], Any]) -> None:
        """Begin to make a client; not when there is one of that name."""
        if name not in self._made:
            self._made[name] = self._threads.submit(make)

    def keep(self, name: str, client: Any) -> None:
        """Hand in a client that its user needs no more, and the next one may have."""
        assert name not in self._made, f"{name} was prepared already"
        done: Future[Any] = Future()
        self._made[name] = done
        done.set_result(client)

    def take(self, name: str, make: Callable[[], Any]) -> Any:
        """The prepared client, once it is made, or a new one. The taker closes it."""
        future = self._made.pop(name, None)
        # One that failed to be made may have done so long ago.
        if future is None or future.exception() is not None:
            return make()
        return future.result()

    def drop(self, name: str) -> None:
        """Close a prepared client, if there is one."""
        future = self._made.pop(name, None)
        if future is not None and future.exception() is None:
            future.result().close()

    def clear(self) -> None:
        """Close what nobody has taken; others may be made."""
        for name in list(self._made):
            self.drop(name)

    def close(self, *, has_access: bool = True) -> None:
        """Close what nobody has taken, and end.

        Args:
            has_access: clients of a cluster that has never answered have nothing to close, and
                would wait for it.
        """
        if not has_access:
            self._made.clear()
            self._threads.shutdown(wait=False, cancel_futures=True)
            return
        self.clear()
        self._threads.shutdown()

"""TCP proxies between workers and brokers, to cut, stall and slow connections.

A lane is one worker's way to all brokers: a port for each of them. What is done to a lane hurts
that worker alone. All lanes run in one thread of their own; the methods of a lane may be called
from any thread and return when the thing is done.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16
ORDER_S_MAX = 20.0
ACCEPT_TURNS = 5
"""Turns of the loop from the acceptance of a connection to the first step of who serves it."""
# Below the ports that systems give to outgoing connections and those of the development broker,
# so that a port that is shut for a while is still there when it is opened again.
_PORTS = range(10_000, 20_000)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            return found
        with socket.socket() as trial, suppress(OSError):
            trial.bind((HOST, port))
            found.append(port)
    raise AssertionError(f"no {count} free ports")


class Lane:
    """One worker's connections to all brokers.

    Args:
        ways: per broker `(port to listen on, port of the broker)`.
        loop: where the connections are served; it runs in another thread.
    """

    def __init__(self, ways: Sequence[tuple[int, int]], loop: asyncio.AbstractEventLoop) -> None:
        self._ways = list(ways)
        self._loop = loop
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._delay_s = 0.0
        self._bytes_per_s = 0.0
        self._sign: bytes | None = None
        self.connection_count = 0
        self.held_answers = 0

    @property
    def bootstrap_servers(self) -> str:
        """What a worker on this lane connects to."""
        return ",".join(f"{HOST}:{port}" for port, _ in self._ways)

    def open(self) -> None:
        """Take connections, from now on or again."""
        self._order(self._open())

    def shut(self) -> None:
        """Break all connections and refuse new ones until `open`."""
        self._order(self._shut())

    def cut(self) -> None:
        """Break all connections; new ones are taken."""
        self._order(self._cut())

    def stall(self) -> None:
        """Let no byte pass until `heal`: connections stay, and neither side gets an error."""
        self._order(self._set(flows=False))

    def stall_at(self, sign: bytes) -> None:
        """Stall as soon as the worker sends something that contains `sign`: it is held up, too."""
        self._order(self._set(sign=sign))

    @property
    def is_stalled(self) -> bool:
        """Whether no byte passes."""
        return not self._flows.is_set()

    def mute(self) -> None:
        """Let requests pass and hold answers back until `heal`; `held_answers` counts them."""
        self._order(self._set(answers=False))

    def slow(self, *, delay_s: float, bytes_per_s: float) -> None:
        """Delay every chunk, and let so many bytes pass each way of a connection, until `heal`."""
        self._order(self._set(delay_s=delay_s, bytes_per_s=bytes_per_s))

    def heal(self) -> None:
        """Let everything pass at once."""
        self._order(self._set())

    def _order(self, order: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(order, self._loop).result(ORDER_S_MAX)

    async def _open(self) -> None:
        for port, target in self._ways if not self._servers else ():

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int = target
            ) -> None:
                await self._serve(reader, writer, target)

            server = await asyncio.start_server(serve, HOST, port, reuse_address=True)
            self._servers.append(server)

    async def _shut(self) -> None:
        # A connection that asyncio is about to hand over when its server closes is never closed by
        # anybody (CPython 109564): first nothing more is accepted, then what was is handed over.
        for server in self._servers:
            for listening in server.sockets:
                self._loop.remove_reader(listening.fileno())
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._cut()

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _set(
        self,
        *,
        flows: bool = True,
        answers: bool = True,
        delay_s: float = 0.0,
        bytes_per_s: float = 0.0,
        sign: bytes | None = None,
    ) -> None:
        self._delay_s, self._bytes_per_s, self._sign = delay_s, bytes_per_s, sign
        for event, passes in ((self._flows, flows), (self._answers, answers)):
            if passes:
                event.set()
            else:
                event.clear()
        self.held_answers = 0

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int
    ) -> None:
        self.connection_count += 1
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection(HOST, target)
        except OSError:
            # The broker is down: the worker sees the same as without a proxy.
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(back)
        pumps = [
            asyncio.create_task(self._pump(reader, back, is_answer=False)),
            asyncio.create_task(self._pump(there, writer, is_answer=True)),
        ]
        try:
            # Either side's end is the end of both: Kafka's connections are never half closed.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, back):
                end.transport.abort()
                self._writers.discard(end)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                pause_s = self._delay_s
                if self._bytes_per_s:
                    pause_s += len(chunk) / self._bytes_per_s
                if pause_s:
                    await asyncio.sleep(pause_s)
                if self._sign is not None and not is_answer and self._sign in chunk:
                    self._flows.clear()
                await self._flows.wait()
                if is_answer and not self._answers.is_set():
                    self.held_answers += 1
                    await self._answers.wait()
                writer.write(chunk)
                await writer.drain()


class Proxy:
    """All lanes, in a thread of their own. A context manager.

    Args:
        lanes: per lane and broker, `(port to listen on, port of the broker)`.
    """

    def __init__(self, lanes: Sequence[Sequence[tuple[int, int]]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.lanes = [Lane(ways, self._loop) for ways in lanes]

    def __enter__(self) -> Proxy:
        self._thread.start()
        for lane in self.lanes:
            lane.open()
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self.lanes:
            lane.heal()
            lane.shut()
        asyncio.run_coroutine_threadsafe(self._end_tasks(), self._loop).result(ORDER_S_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ORDER_S_MAX)
        self._loop.close()

    async def _end_tasks(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""The proxy does to connections what its orders say: else the faults would be none."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.chaos.harness import wait_until
from tests.chaos.proxy import HOST, Lane, Proxy, free_ports

DEADLINE_S = 20.0  # far above what a loaded machine takes for a few bytes


@pytest.fixture
def lane() -> Iterator[Lane]:
    """A lane to a server that sends back what it gets."""
    listening, target = free_ports(2)
    with socket.create_server((HOST, target)) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        with Proxy([[(listening, target)]]) as proxy:
            yield proxy.lanes[0]


def _echo(server: socket.socket) -> None:
    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    with suppress(OSError):  # the fixture closes the server
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


@contextmanager
def _connected(lane: Lane) -> Iterator[socket.socket]:
    host, port = lane.bootstrap_servers.split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
        yield connection


def _ask(connection: socket.socket, data: bytes = b"question") -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        more = connection.recv(1 << 16)
        if not more:
            break
        got += more
    return got


def _is_broken(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_bytes_pass_both_ways(lane: Lane) -> None:
    """What is sent comes back whole and in order."""
    data = bytes(range(256)) * 4000
    with _connected(lane) as connection:
        threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
        got = b""
        while len(got) < len(data):
            got += connection.recv(1 << 16)
        assert got == data


def test_a_cut_breaks_connections_and_takes_new_ones(lane: Lane) -> None:
    """After a cut the old connection is gone and a new one works."""
    with _connected(lane) as connection:
        assert _ask(connection) == b"question"
        lane.cut()
        assert _is_broken(connection)
    with _connected(lane) as connection:
        assert _ask(connection) == b"question"


def test_a_shut_lane_refuses_until_it_is_opened(lane: Lane) -> None:
    """A shut lane breaks what is there and refuses connections; opened again it takes them."""
    with _connected(lane) as connection:
        assert _ask(connection) == b"question"
        lane.shut()
        assert _is_broken(connection)
    with pytest.raises(ConnectionRefusedError), _connected(lane):
        pass
    lane.open()
    with _connected(lane) as connection:
        assert _ask(connection) == b"question"


def test_a_stalled_lane_says_nothing_and_loses_nothing(lane: Lane) -> None:
    """Bytes sent during a stall arrive after it; meanwhile neither side gets an error."""
    with _connected(lane) as connection:
        assert _ask(connection) == b"question"
        lane.stall()
        connection.sendall(b"later")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(DEADLINE_S)
        lane.heal()
        assert connection.recv(5) == b"later"


def test_a_lane_stalls_at_a_sign(lane: Lane) -> None:
    """What contains the sign is held up, and all after it, until the lane is healed."""
    with _connected(lane) as connection:
        lane.stall_at(b"sign")
        assert _ask(connection) == b"question"
        assert not lane.is_stalled
        connection.sendall(b"a sign")
        wait_until(lambda: lane.is_stalled, DEADLINE_S, "the stall")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(DEADLINE_S)
        lane.heal()
        assert connection.recv(6) == b"a sign"
        assert _ask(connection, b"a sign") == b"a sign"


def test_a_slow_lane_takes_its_time(lane: Lane) -> None:
    """Delay and bandwidth make an answer late by at least what they say; healed it is not."""
    with _connected(lane) as connection:
        lane.slow(delay_s=0.1, bytes_per_s=1000)
        start = time.monotonic()
        assert _ask(connection, b"x" * 100) == b"x" * 100
        assert time.monotonic() - start >= 0.4  # there and back: twice the delay and 100 bytes
        lane.heal()
        assert _ask(connection) == b"question"


def test_a_server_that_is_down_refuses_through_the_lane() -> None:
    """A connection to a dead broker breaks at once and does not hang."""
    listening, target = free_ports(2)
    with Proxy([[(listening, target)]]) as proxy, _connected(proxy.lanes[0]) as connection:
        assert _is_broken(connection)


def test_a_lane_that_shuts_leaves_no_connection_behind(lane: Lane) -> None:
    """Also one that comes in the same turn of the loop: nobody would ever close it."""
    host, port = lane.bootstrap_servers.split(":")

    async def come_and_shut() -> list[socket.socket]:
        connections = [socket.create_connection((host, int(port)), DEADLINE_S) for _ in range(3)]
        # The first turn accepts them, the second one has tasks that are to hand them over.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await lane._shut()
        return connections

    coming = asyncio.run_coroutine_threadsafe(come_and_shut(), lane._loop)
    connections = coming.result(DEADLINE_S)
    with warnings.catch_warnings(record=True) as unclosed:
        warnings.simplefilter("always", ResourceWarning)
        wait_until(lambda: all(map(_is_broken, connections)), DEADLINE_S, "the end of all")
        gc.collect()
    for connection in connections:
        connection.close()
    assert not unclosed

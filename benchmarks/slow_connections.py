"""What many slow HTTP connections cost a task: its speed with them and without, in turns.

Run with `python -m benchmarks.slow_connections [--connections N] [--turns N]`: a word count in
memory processes the same records again and again while another process has that many connections
to the worker's HTTP port, each of which sends a part of a request every half second and comes again
a second after it was closed.
What counts is the processor time of the HTTP thread in a second: it and the loop take turns in one
interpreter, so a loop that always has work is slowed by just that. Other programs on the machine do
not change it, as they change the time by the clock, which is printed beside it. Ends with 1 when
the connections take more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import kstash
from kstash.observe import Observer
from kstash.settings.config import Config
from kstash.testing import TestDriver

CONNECTIONS = 200
TURNS = 20
TURN_S = 1.0
SLOWER_MAX = 0.05
DRIP_S = 0.5
AGAIN_S = 1.0
WORDS = [f"word{number}" for number in range(2_000)]


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_connections")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--turns", type=int, default=TURNS, help=f"of each kind ({TURNS})")
    parser.add_argument("--clients-of", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clients_of:
        asyncio.run(crowd(options.clients_of, options.connections))
        return 0
    return measure(options.connections, options.turns)


def measure(connections: int, turns: int) -> int:
    """Process records with the connections and without, in turns."""
    app = kstash.App("slow", log_level="error")
    (
        app.stream("in", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .count("words")
        .to("out", key=kstash.text, value=kstash.int_text)
    )
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with Observer(
        Config.load(application_id="slow", log_level="error"), app.topology()
    ) as observer:
        observer.serve(0)
        assert observer.http_port is not None
        with TestDriver(app) as driver:
            turn(driver)  # all is imported and in caches
            for number in range(2 * turns):
                has_crowd = number % 2 == 1
                with crowded(observer.http_port, connections if has_crowd else 0):
                    found[has_crowd].append(turn(driver))
    return report(found, connections)


def turn(driver: TestDriver) -> tuple[float, float]:
    """Processor seconds of other threads in a second; microseconds for a record by the clock."""
    line = " ".join(random.Random(7).sample(WORDS, 50))
    started, count = time.monotonic(), 0
    of_all, of_loop = time.process_time(), time.thread_time()
    while time.monotonic() - started < TURN_S:
        for _ in range(20):
            driver.send("in", line)
        count += 20
    others_s = (time.process_time() - of_all) - (time.thread_time() - of_loop)
    passed_s = time.monotonic() - started
    return others_s / passed_s, 1e6 * passed_s / count


@contextlib.contextmanager
def crowded(port: int, connections: int) -> Iterator[None]:
    """Have that many slow connections."""
    if not connections:
        yield
        return
    command = [sys.executable, "-m", "benchmarks.slow_connections"]
    command += ["--clients-of", str(port), "--connections", str(connections)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as clients:
        assert clients.stdout is not None
        clients.stdout.readline()  # all have connected once
        yield
        clients.kill()


async def crowd(port: int, connections: int) -> None:
    """Be that many clients, for ever."""
    connected = asyncio.Semaphore(0)

    async def client() -> None:
        while True:
            with contextlib.suppress(OSError):
                await drip(port, connected)
            await asyncio.sleep(AGAIN_S * random.uniform(0.5, 1.5))

    clients = [asyncio.create_task(client()) for _ in range(connections)]
    for _ in range(connections):
        await connected.acquire()
    print("connected", flush=True)
    await asyncio.gather(*clients)


async def drip(port: int, connected: asyncio.Semaphore) -> None:
    """Send parts of a request until the other side closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connected.release()
    try:
        writer.write(b"GET /status HTTP/1.1\r\nhost: localhost\r\n")
        while not reader.at_eof():
            writer.write(b"x: y\r\n")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1024), DRIP_S)
    finally:
        writer.close()


def report(found: dict[bool, list[tuple[float, float]]], connections: int) -> int:
    """Print what was measured; returns the exit code."""
    medians: dict[bool, list[float]] = {}
    for has_crowd, turns in found.items():
        share, clock = medians[has_crowd] = [
            statistics.median(of) for of in zip(*turns, strict=True)
        ]
        what = f"{connections} slow connections" if has_crowd else "no connections"
        print(
            f"{what:>24}: {100 * share:5.2f} % of a processor for HTTP, {clock:7,.0f} us a record"
        )
    taken = medians[True][0] - medians[False][0]
    print(f"the connections take {100 * taken:.2f} %, {100 * SLOWER_MAX:g} % at most")
    return int(taken > SLOWER_MAX)


if __name__ == "__main__":
    sys.exit(main())

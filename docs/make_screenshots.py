"""Takes the pictures of the status page in the README: of a real run, in which a worker is killed.

    python docs/make_screenshots.py

Starts a Kafka and three workers of the program below, writes into its topics for two minutes,
kills a worker in between, and stores `status-page.png` and `status-page-dark.png` in `images/`, and
`status-page-narrow.png`, as a phone shows windows and timers.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from playwright.sync_api import Page, expect

import kstash
from kstash.broker import DevBroker
from kstash.process.seat import SEAT_VARIABLE

IMAGES = Path(__file__).parent / "images"
PARTITIONS = 3
WORKERS = 3
ITEMS = [f"item-{number}" for number in range(300)]
TOPICS = ("views", "orders", "returns", "item-views", "item-visits", "forgotten")
SPAN = timedelta(seconds=10)
BEFORE_S = 75.0
AFTER_S = 45.0
SIZE = {"width": 1280, "height": 1240}
NARROW = {"width": 390, "height": 844}


def is_human(view: str) -> bool:
    """Of the program's functions."""
    return not view.startswith("bot")


def item_of(text: str) -> str:
    """Of the program's functions."""
    return text.rpartition(" ")[2]


class Forgotten(kstash.Processor[str, int, str]):
    """Says which item has not been sent back for twenty minutes."""

    def on_record(self, record: kstash.Record, context: kstash.Context[str, str], /) -> None:  # noqa: ARG002
        """Wait anew."""
        context.timer("forgotten", at=context.time_ms + 20 * 60_000)

    def on_timer(self, timer: kstash.FiredTimer, context: kstash.Context[str, str], /) -> None:
        """Say it."""
        context.send(timer.name)


def build(**settings: Any) -> kstash.App:
    """What people look at in a shop by ten seconds, what they order, and what they send back."""
    app = kstash.App("shop", **settings)
    views = app.stream("views", value=kstash.text)
    orders = app.stream("orders", value=kstash.text)
    (
        views.filter(is_human)
        .key_by(item_of, key=kstash.text)
        .window(kstash.tumbling(SPAN), grace=timedelta(seconds=2), emit="final")
        .count("views")
        .to("item-views")
    )
    by_item = orders.key_by(item_of, key=kstash.text)
    by_item.window(kstash.session(timedelta(minutes=1)), every=SPAN).count("visits").to(
        "item-visits"
    )
    returns = app.stream("returns", key=kstash.text, value=kstash.int_text)
    returns.process("kept", Forgotten, value=kstash.text).to("forgotten")
    return app


def feed(bootstrap: str, is_over: threading.Event) -> None:
    """Write into the inputs, as many records as a small shop has, in waves."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    chance, begun = random.Random(7), time.monotonic()
    while not is_over.wait(0.05):
        for _ in range(chance.randint(40, 60)):
            who = "bot" if chance.random() < 0.1 else "somebody"
            # One in two hundred comes half a minute late, from a device that was offline.
            sent_ms = int(time.time() * 1000) - (30_000 if chance.random() < 0.005 else 0)
            text = f"{who} {chance.choice(ITEMS)}"
            producer.produce("views", text.encode(), timestamp=sent_ms)
        for _ in range(chance.randint(6, 10)):
            producer.produce("orders", f"somebody {chance.choice(ITEMS)}".encode())
        # Soon nothing comes of its last partition any more: time stands still there.
        is_silent = time.monotonic() > begun + SPAN.total_seconds()
        spread = PARTITIONS - is_silent
        item = chance.choice(ITEMS)
        producer.produce("returns", b"1", key=item.encode(), partition=ITEMS.index(item) % spread)
        producer.poll(0)
    producer.flush(10)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_ready(url: str) -> None:
    """Wait until all workers are."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the workers were not ready within 120 s")


def kill_a_worker(supervisor: int) -> None:
    """End one of them at once, as a machine that fails would."""
    for child in psutil.Process(supervisor).children():
        if child.environ().get(SEAT_VARIABLE, "").startswith("1/"):
            os.kill(child.pid, signal.SIGKILL)
            return
    raise SystemExit("there is no worker 1")


def take(page: Page) -> None:
    """Both pictures of a desk, and that of a phone."""
    for scheme, name in (("light", "status-page.png"), ("dark", "status-page-dark.png")):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # one of its literals
        page.screenshot(path=IMAGES / name)
    page.set_viewport_size(NARROW)  # type: ignore[arg-type] # a TypedDict
    page.emulate_media(color_scheme="light")
    page.locator("#operators").screenshot(path=IMAGES / "status-page-narrow.png")
    for name in ("status-page.png", "status-page-dark.png", "status-page-narrow.png"):
        print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size // 1024} KiB")


def work(bootstrap: str, port: str, folder: str) -> None:
    """Be the program; `run` executes this file again for each worker."""
    app = build(
        bootstrap_servers=bootstrap,
        http_port=int(port),
        state_dir=folder,
        instance_id="shop",
        checkpoint_interval_ms=5_000,
    )
    app.run(workers=WORKERS)


def main() -> None:
    """Run the program and take its pictures."""
    sys.path.insert(0, str(IMAGES.parent))
    from tests.chromium import chromium

    with tempfile.TemporaryDirectory() as folder, DevBroker() as broker, chromium() as browser:
        bootstrap = broker.bootstrap_servers
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for made in admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in TOPICS]).values():
            made.result(30)
        port = free_port()
        url = f"http://127.0.0.1:{port}/"
        program = [sys.executable, __file__, "work", bootstrap, str(port), folder]
        with subprocess.Popen(program) as workers:
            is_over = threading.Event()
            feeder = threading.Thread(target=feed, args=(bootstrap, is_over), daemon=True)
            try:
                wait_ready(url)
                feeder.start()
                page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type] # a TypedDict
                page.goto(url)
                time.sleep(BEFORE_S)
                kill_a_worker(workers.pid)
                time.sleep(AFTER_S)
                expect(page.locator("#state")).to_have_text("3 of 3 workers live")
                take(page)
            finally:
                is_over.set()
                workers.terminate()


if __name__ == "__main__":
    work(*sys.argv[2:]) if sys.argv[1:2] == ["work"] else main()

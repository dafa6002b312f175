"""The status page on real workers: what flows, a worker that is killed, its recovery."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from kstash.process.seat import SEAT_VARIABLE
from tests.chromium import chromium
from tests.integration.scene import Process, Scene, lines, sentences

WAIT_S = 60.0
"""Of a browser for what workers do; they start in seconds, on a busy machine later."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of this module."""
    with chromium(WAIT_S) as made:
        yield made


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that waits for workers."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@contextmanager
def feeding(scene: Scene, topic: str) -> Iterator[None]:
    """Sentences come into a topic of two partitions until it is left, some hundred a second."""
    is_over = threading.Event()

    def feed() -> None:
        texts = sentences(60)
        while not is_over.wait(0.2):
            scene.send(topic, lines(*texts, partitions=2))

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    yield
    is_over.set()
    feeder.join(30)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def shows_flow(page: Page) -> None:
    """Wait until records flow through all three edges of a word count, and all is live."""
    expect(page.locator("svg.topology .stage")).to_have_count(2)
    for edge in page.locator("svg.topology .label.facts").all():
        expect(edge).to_have_text(re.compile(r"^[1-9][\d.]*(\u2009k)?/s"))
    expect(page.locator("#figures .spark").first).to_be_visible()
    expect(page.locator("svg.topology").get_by_text("2 live")).to_have_count(2)


def recovered(page: Page, worker: str) -> Locator:
    """The recoveries of a worker."""
    return page.locator("#recoveries li", has_text=worker).locator(".phases")


def process_of(supervisor: Process, index: int) -> int:
    """The process of a supervised worker."""
    found = next(
        child.pid
        for child in psutil.Process(supervisor.pid).children()
        if child.environ().get(SEAT_VARIABLE, "").startswith(f"{index}/")
    )
    return int(found)


def test_a_worker_that_is_killed_and_comes_back(scene: Scene, page: Page) -> None:
    """Two workers that know each other: one's page shows the other's flow, end and recovery."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    ports = free_ports(2)
    peers = ",".join(f"127.0.0.1:{port}" for port in ports)

    def worker(name: str, port: int) -> Process:
        return scene.worker(
            "words",
            [source],
            sink,
            name=name,
            http_port=port,
            http_peers=peers,
            checkpoint_interval_ms=500,
        )

    one, other = map(worker, ("worker-one", "worker-other"), ports)
    one.start()
    other.start()
    one.wait_ready()
    other.wait_ready()
    with feeding(scene, source):
        page.goto(f"http://127.0.0.1:{ports[0]}/")
        expect(page.locator("#state")).to_have_text("2 of 2 workers live")
        shows_flow(page)
        expect(page.locator("#tasks tbody")).to_have_count(2)
        other.kill()
        expect(page.locator("#state")).to_have_text("1 of 2 workers live, 1 unreachable")
        expect(page.locator("#tasks tbody", has_text="unreachable")).to_contain_text("last seen")
        other.start()
        expect(page.locator("#state")).to_have_text("2 of 2 workers live")
        expect(recovered(page, "worker-other").first).to_have_text(re.compile(r"claim .* · fence "))
        shows_flow(page)


def test_a_supervisor_shows_all_its_workers(scene: Scene, page: Page) -> None:
    """One page for its workers; one that is killed is there again, with its recovery."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    (port,) = free_ports(1)
    app = scene.worker(
        "words", [source], sink, workers=2, http_port=port, checkpoint_interval_ms=500
    )
    app.start_ready()
    with feeding(scene, source):
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#state")).to_have_text("2 of 2 workers live")
        shows_flow(page)
        before = recovered(page, "worker-1").first.inner_text()
        os.kill(process_of(app, 1), signal.SIGKILL)
        expect(recovered(page, "worker-1").first).not_to_have_text(before)
        expect(page.locator("#state")).to_have_text("2 of 2 workers live")
        shows_flow(page)
    assert app.stop() == 0

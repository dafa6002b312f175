"""State in memory is bounded: with more keys than fit, it goes to disk and stays right."""

from __future__ import annotations

import re
import socket
import urllib.request

import pytest

from tests.integration.scene import Scene, lines

pytestmark = pytest.mark.integration

KEYS = 40_000
MEMORY_BYTES = 1024 * 1024


def test_more_keys_than_fit_into_memory(scene: Scene) -> None:
    """With the smallest bound, many keys are counted right, through a crash in the middle."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    words = [f"a-rather-long-word-{number:06}" for number in range(KEYS)]
    texts = [" ".join(words[i : i + 100]) for i in range(0, KEYS, 100)] * 2
    scene.send(source, lines(*texts))
    port = _free_port()
    worker = scene.worker(
        "words",
        [source],
        sink,
        state_memory_bytes=MEMORY_BYTES,
        checkpoint_interval_ms=60_000,
        http_port=port,
    )
    worker.start_ready()
    scene.wait_outputs(sink, KEYS)
    # Kept in memory, 40,000 entries of 160 bytes or more would be six times the bound; no
    # checkpoint was due yet that would have written them to disk.
    assert _state_bytes(port) < 1.5 * MEMORY_BYTES
    worker.kill()
    worker.start_ready()
    scene.wait_outputs(sink, 2 * KEYS)
    assert _state_bytes(port) < 1.5 * MEMORY_BYTES
    assert worker.stop() == 0
    scene.check_words(sink, texts)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _state_bytes(port: int) -> float:
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r"^kstash_state_memory_bytes (.+)$", text, re.MULTILINE)
    assert found, "the size of the state is not reported"
    return float(found[1])

"""Headers of records: the user's survive, kstash's own are never passed on."""

from __future__ import annotations

import pytest

from tests.integration.scene import Scene, Sent

pytestmark = pytest.mark.integration

OWN_PREFIX = "__kstash."


def test_user_headers_survive_frames_and_sinks(scene: Scene) -> None:
    """Headers arrive as they were, through frames and two applications; kstash's do not pass."""
    source, middle, sink = scene.topic("in", 2), scene.topic("mid", 2), scene.topic("out", 2)
    headers: list[tuple[str, str | bytes | None]] = [
        ("trace", b"\x00\xff"),
        ("empty", b""),
        ("null", None),
        ("trace", b"again"),
        ("Ünicode", "wörth".encode()),
    ]
    foreign: list[tuple[str, str | bytes | None]] = [(OWN_PREFIX + "s", b"forged"), ("x", b"1")]
    records = [
        Sent(b"with", b"k1", 0, headers),
        Sent(b"without", b"k2", 0),
        Sent(b"foreign", b"k3", 1, foreign),
        *[Sent(b"plain", b"k4", 1) for _ in range(20)],
    ]
    scene.send(source, records)
    first = scene.worker("through", [source], middle, until="end")
    assert first.run() == 0
    second = scene.worker(
        "copy", [middle], sink, name="second", until="end", application_id=f"second-{scene.mark}"
    )
    assert second.run() == 0

    seen = {}
    for topic in (middle, sink):
        for outputs in scene.outputs(topic).values():
            for output in outputs:
                own = [name for name, _ in output.headers if name.startswith(OWN_PREFIX)]
                assert own.count(OWN_PREFIX + "s") == 1
                assert len(own) == len(set(own))
                user = [(n, v) for n, v in output.headers if not n.startswith(OWN_PREFIX)]
                seen[topic, output.value] = user
    for topic in (middle, sink):
        assert seen[topic, b"with"] == [
            (name, value.encode() if isinstance(value, str) else value) for name, value in headers
        ]
        assert seen[topic, b"without"] == []
        assert seen[topic, b"foreign"] == [("x", b"1")]
        assert seen[topic, b"plain"] == []

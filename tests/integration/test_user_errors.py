"""An error in user code stops the worker with all that is known of it, and loses nothing."""

from __future__ import annotations

import pytest

from tests.integration.scene import WAIT_S_MAX, Scene, Sent, lines, sentences

pytestmark = pytest.mark.integration


def test_an_error_of_a_users_function(scene: Scene) -> None:
    """All about it is reported, with exit code 1; a fixed program goes on exactly once."""
    source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
    before, after = sentences(300), sentences(100)
    scene.send(source, lines(*before, partitions=2))
    bad = scene.worker("words", [source], sink, options={"poison": "poison"})
    bad.start_ready()
    scene.wait_outputs(sink, len(before) * 5)
    poisoned = [*after[:50], "some poison here", *after[50:]]
    scene.send(source, lines(*poisoned, partitions=2))
    assert bad.wait(WAIT_S_MAX) == 1
    log = bad.log()
    # Partition 0 holds 150 records of before and 25 of after in front of it.
    place = f"topic '{source}', partition 0, offset 175"
    assert f"failed: ValueError: cannot take poison ({place})" in log
    assert "operator 'flat_map" in log
    assert 'programs.py", line' in log
    assert "raise ValueError" in log

    fixed = scene.worker("words", [source], sink)
    fixed.start_ready()
    scene.wait_outputs(sink, sum(len(text.split()) for text in before + poisoned))
    assert fixed.stop() == 0
    scene.check_words(sink, before + poisoned)


def test_bytes_that_a_serde_cannot_take(scene: Scene) -> None:
    """A record that is no UTF-8 stops the worker with its place; so does every next start."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, [Sent(b"good one"), Sent(b"\xff\xfe"), Sent(b"never reached")])
    worker = scene.worker("words", [source], sink)
    for _ in range(2):
        assert worker.run() == 1
    log = worker.log()
    assert log.count(f"(topic '{source}', partition 0, offset 1)") >= 2
    assert "serde 'text' of" in log
    assert "cannot deserialize a value: UnicodeDecodeError" in log


def test_an_applications_error_line(scene: Scene) -> None:
    """An application's command line ends with the message; the log has its cause."""
    source, sink = scene.topic("queries-1"), scene.topic("counts")
    scene.send(source, [Sent(b'{"keyword": 1'), Sent(b"{}")])
    worker = scene.process(
        "app",
        [
            *("kstash.apps.keyword_count", "--bootstrap-servers", scene.bootstrap),
            *("--application-id", scene.application_id, "--output", sink, "--http-port", "0"),
            *("--input", source, "--input", scene.topic("queries-2")),
            *("--state-dir", str(scene.folder / "state")),
        ],
    )
    assert worker.run() == 1
    log = worker.log()
    assert f"(topic '{source}', partition 0, offset 0)" in log
    assert "DecodeError: Input data was truncated" in log
    assert "operators/columns.py" not in log  # what is ours helps nobody

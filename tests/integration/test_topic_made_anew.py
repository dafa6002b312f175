"""An input is deleted and made anew under a running worker on a real Kafka (H53)."""

from __future__ import annotations

import pytest

from tests.integration.scene import Scene, lines

pytestmark = pytest.mark.integration

ERROR = "TopicMadeAnewError: deleted and made anew since the application read it: '{}'"


def test_an_input_made_anew_under_a_running_worker(scene: Scene) -> None:
    """Within seconds the worker ends and names it; so does the next start; nothing is deleted."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    scene.send(source, lines(*["one"] * 50))
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    scene.wait_outputs(sink, 50)
    scene.delete(source)
    scene.wait_deleted(source)
    scene.exact_topic(source)
    scene.send(source, lines(*["two"] * 150))
    assert worker.wait() == 1
    assert worker.run() == 1
    log = worker.log()
    # The client may report first that its offset is not there, if it reads before all is written.
    assert log.count(ERROR.format(source)) >= 1
    assert "another application_id" in log

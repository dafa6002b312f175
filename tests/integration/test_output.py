"""What a person or a machine sees of real workers: JSON that is JSON, whatever happens."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kstash.broker import DevBroker
from tests.chaos.harness import MORTAL
from tests.integration.scene import Process, Scene, lines, sentences

pytestmark = pytest.mark.integration

READY_S_MAX = 45.0


@pytest.fixture(scope="module")
def fragile_broker() -> Iterator[DevBroker]:
    """A broker that these tests may hurt."""
    with DevBroker(config=MORTAL) as broker:
        yield broker


def _events(process: Process) -> list[dict[str, Any]]:
    """Its lines on standard error; each must be a JSON object."""
    found = []
    for line in process.log().splitlines():
        event = json.loads(line)
        assert isinstance(event, dict), line
        assert {"event", "logger"} <= event.keys(), line
        found.append(event)
    return found


def test_all_lines_are_json_through_an_outage(fragile_broker: DevBroker, tmp_path: Path) -> None:
    """A broker is killed and comes back after the session: the client logs much about it."""
    scene = Scene(fragile_broker.bootstrap_servers, tmp_path)
    try:
        source, sink = scene.topic("sentences", 2), scene.topic("counts", 2)
        texts = sentences(2_000)
        scene.send(source, lines(*texts, partitions=2))
        worker = scene.worker("words", [source], sink, log_format="json", session_timeout_ms=6_000)
        worker.start_ready()
        scene.wait_outputs(sink, 1)
        fragile_broker.kill()
        worker.wait_log("SESSTMOUT")
        fragile_broker.restart()
        worker.wait_log("broker reachable again")
        scene.wait_outputs(sink, len(texts) * 5)
        assert worker.stop() == 0
        events = _events(worker)
        said = [event for event in events if event["event"] == "the Kafka client says"]
        assert {"facility", "message", "level"} <= said[0].keys()
        assert any(event["facility"] == "SESSTMOUT" for event in said)
        assert events[0]["event"] == "starting"
        assert events[-1]["event"] == "stopped"
        scene.check_words(sink, texts)
    finally:
        scene.close()


def test_all_lines_are_json_when_a_place_is_taken(scene: Scene) -> None:
    """The client calls that fatal, in words of its own; so does one that ends by an error."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    first, second = (
        scene.worker(
            "words",
            [source],
            sink,
            name=name,
            instance_id="same",
            log_format="json",
            options={"poison": "poison"},
        )
        for name in ("first", "second")
    )
    first.start_ready()
    second.start()
    assert first.wait(READY_S_MAX) == 3
    second.wait_ready()
    scene.send(source, lines("a poison b"))
    assert second.wait(READY_S_MAX) == 1
    taken, failed = _events(first), _events(second)
    assert "another process took this worker's membership; it stops" in {e["event"] for e in taken}
    assert any(event.get("facility") == "FATAL" for event in taken)
    (error,) = (event for event in failed if event["event"].startswith("user code failed"))
    assert "cannot take poison" in error["exception"]
    assert failed[-1]["level"] == "error"


def test_what_a_supervised_worker_writes_beside_the_log_is_json(scene: Scene) -> None:
    """Also the words of a crash, which nobody in the process can catch."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    app = scene.worker("prints", [source], sink, workers=1, log_format="json")
    app.start_ready()
    scene.send(source, lines("a", "b", "crash"))
    app.wait_log("worker ended, it is started again")
    app.send(signal.SIGTERM)
    app.wait(READY_S_MAX)
    events = _events(app)
    raw = [event for event in events if event["logger"] == "stderr"]
    assert {event["worker"] for event in raw} == {"worker-0"}
    texts = " ".join(event["event"] for event in raw)
    assert "written beside the log: a" in texts
    assert "Fatal Python error: Segmentation fault" in texts
    assert os.linesep not in texts


def test_a_worker_that_waits_says_what_for(scene: Scene) -> None:
    """A dead member holds the group up for a session, and one too many stands by."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    first = scene.worker("words", [source], sink, name="first", instance_id=None)
    first.start_ready()
    first.kill()
    second = scene.worker("words", [source], sink, name="second", instance_id=None)
    second.start()
    second.wait_log("waiting for the members of the group; one that is dead is waited for")
    assert "task group live" not in second.log()
    second.wait_ready()
    third = scene.worker("words", [source], sink, name="third", instance_id=None)
    third.start()
    third.wait_log("no task group is left for this worker, it stands by")
    assert [third.stop(), second.stop()] == [0, 0]

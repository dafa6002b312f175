"""A password that is in a file, on a broker that asks for it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.integration.scene import Process, Scene, lines
from tests.integration.secured import PASSWORD, Rights, SecuredBroker, documented_rights

pytestmark = pytest.mark.integration

END_S_MAX = 60.0


@pytest.fixture
def scene_address(secured: SecuredBroker) -> str:
    """Topics and workers are there; the test itself is the superuser."""
    return secured.addresses["plain"]


def _topics(secured: SecuredBroker, scene: Scene) -> tuple[str, str]:
    """An input and a sink, with the rights that are documented."""
    source, sink = scene.topic("in"), scene.topic("out")
    Rights(secured.admin).give(documented_rights(scene.application_id, source, sink))
    return source, sink


def _without_password(
    secured: SecuredBroker, scene: Scene, source: str, sink: str, *, workers: int
) -> Process:
    """Supervised workers, not started, that have to find their password elsewhere."""
    return scene.worker(
        "words",
        [source],
        sink,
        workers=workers,
        bootstrap_servers=secured.addresses["scram"],
        kafka={name: value for name, value in secured.scram.items() if name != "sasl.password"},
    )


def test_workers_take_the_password_from_a_file(
    secured: SecuredBroker, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Supervised ones too: no command line or log has it; when it is wrong, all end at once."""
    source, sink = _topics(secured, scene)
    scene.send(source, lines("a a"))
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("KSTASH_KAFKA__SASL_PASSWORD_FILE", str(file))
    worker = _without_password(secured, scene, source, sink, workers=2)
    worker.start_ready()
    scene.wait_outputs(sink, 2)
    supervisor = psutil.Process(worker.pid)
    processes = [supervisor, *supervisor.children(recursive=True)]
    assert len(processes) >= 3
    assert not any(PASSWORD in " ".join(process.cmdline()) for process in processes)
    assert worker.stop() == 0
    assert PASSWORD not in worker.log()

    file.write_text("wrong horse")
    before = len(worker.log())
    assert worker.run(END_S_MAX) == 1
    log = worker.log()[before:]
    assert log.count("refuses the user or the password") == 1, log
    assert "it is started again" not in log
    assert "wrong horse" not in log


def test_a_password_changes_while_an_application_runs(
    secured: SecuredBroker, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has a new one, and so has the file: cut connections come back, nobody restarts."""
    source, sink = _topics(secured, scene)
    texts = ["a b", "a c"]
    scene.send(source, lines(texts[0]))
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    monkeypatch.setenv("KSTASH_KAFKA__SASL_PASSWORD_FILE", str(file))
    worker = _without_password(secured, scene, source, sink, workers=1)
    worker.start_ready()
    scene.wait_outputs(sink, 2)
    secured.change_password("battery staple")
    file.write_text("battery staple")
    worker.wait_log("credentials read again")
    secured.broker.kill()
    secured.broker.restart()
    scene.send(source, lines(texts[1]))
    scene.wait_outputs(sink, 4)
    assert worker.stop() == 0
    scene.check_words(sink, texts)
    log = worker.log()
    assert "it is started again" not in log
    assert "battery staple" not in log

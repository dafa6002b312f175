"""The disk under the state: full, or with damaged checkpoints. Nothing is lost, and it is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kstash.state.files import PARTIAL_PREFIX
from tests.chaos.checkers import read_everything
from tests.chaos.harness import wait_until
from tests.integration.scene import WAIT_S_MAX, Process, Scene, lines, sentences

pytestmark = pytest.mark.integration


def _checkpoints(scene: Scene) -> list[Path]:
    """Complete checkpoint folders of the counting task, oldest first."""
    state = scene.folder / "state-worker" / scene.application_id
    found = [
        path
        for path in state.glob("words_0/checkpoints/*")
        if not path.name.startswith(PARTIAL_PREFIX) and (path / "CURRENT").exists()
    ]
    return sorted(found, key=lambda path: int(path.name.rsplit("-", 1)[1]))


def _damage(checkpoint: Path) -> None:
    """Flip a byte in the middle of each table of a checkpoint."""
    tables = list(checkpoint.glob("*.sst"))
    assert tables, f"{checkpoint} holds no table"
    for table in tables:
        data = bytearray(table.read_bytes())
        data[len(data) // 2] ^= 0xFF
        # A new file: the other checkpoints may hold a hard link to the old one.
        table.unlink()
        table.write_bytes(bytes(data))


def test_a_full_disk(scene: Scene) -> None:
    """No room for a checkpoint: the worker stops and names the folder; with room it goes on."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    chance = random.Random(1)  # what cannot be compressed
    texts = [f"{chance.randbytes(100).hex()} {chance.randbytes(100).hex()}" for _ in range(3000)]
    # A limit on the size of files stands for the disk: it needs no privileges.
    full = scene.worker("words", [source], sink, file_bytes_max=100_000, checkpoint_interval_ms=300)
    full.start_ready()
    scene.send(source, lines(*texts))
    assert full.wait(WAIT_S_MAX) == 1
    log = full.log()
    assert "StateError" in log
    assert f"{scene.application_id}/words_0/checkpoints: checkpoint" in log
    assert "nothing is lost" in log
    roomy = scene.worker("words", [source], sink, checkpoint_interval_ms=300)
    roomy.start_ready()
    scene.wait_outputs(sink, 6000)
    assert roomy.stop() == 0
    scene.check_words(sink, texts)


def _published(scene: Scene) -> list[Path]:
    """Those that the lineage topic names, oldest first.

    The folder of one is there before its record is: a kill between leaves one that nobody knows.
    """
    lineage = read_everything(scene.bootstrap, f"{scene.application_id}-lineage")
    said = b"".join(record.value or b"" for records in lineage.values() for record in records)
    return [path for path in _checkpoints(scene) if f'"{path.name}"'.encode() in said]


def _crashed_with_checkpoints(scene: Scene, source: str, sink: str) -> tuple[Process, list[str]]:
    """A worker that has published two checkpoints of its count and then was killed."""
    worker = scene.worker(
        "words", [source], sink, checkpoint_interval_ms=200, checkpoint_store="none"
    )
    worker.start_ready()
    texts: list[str] = []
    for _ in range(3):
        more = sentences(100)
        texts += more
        before = {path.name for path in _checkpoints(scene)}
        scene.send(source, lines(*more))
        scene.wait_outputs(sink, len(texts) * 5)
        wait_until(
            lambda before=before: bool({p.name for p in _checkpoints(scene)} - before),  # type: ignore[misc]
            WAIT_S_MAX,
            "a checkpoint",
        )
    worker.kill()
    return worker, texts


@pytest.mark.parametrize("damaged", ["newest", "all", "folder"])
def test_damaged_checkpoints(scene: Scene, damaged: str) -> None:
    """A damaged checkpoint is reported, and an older one or the whole replay takes its place."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    worker, texts = _crashed_with_checkpoints(scene, source, sink)
    checkpoints = _published(scene)
    assert len(checkpoints) >= 2
    if damaged == "folder":
        for path in checkpoints:
            path.rename(path.parent.parent / f"moved-{path.name}")
    else:
        for path in checkpoints if damaged == "all" else checkpoints[-1:]:
            _damage(path)
    worker.start_ready()
    more = sentences(100)
    scene.send(source, lines(*more))
    scene.wait_outputs(sink, (len(texts) + 100) * 5)
    assert worker.stop() == 0
    log = worker.log()
    assert "checkpoint is not whole on this disk and not in the checkpoint store" in log
    assert f"label={checkpoints[-1].name}" in log
    if damaged != "newest":
        assert "base=0" in log
    scene.check_words(sink, texts + more)


def test_state_of_another_program(scene: Scene) -> None:
    """The state of a program that has changed is refused, with the difference and what to do."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    assert worker.stop() == 0
    changed = scene.worker("through", [source], sink)
    assert changed.run() == 1
    assert "ProgramChangedError" in changed.log()
    assert "- store words of stage words" in changed.log()
    assert "--drop-store NAME" in changed.log()


def test_two_workers_on_one_folder(scene: Scene) -> None:
    """A second worker on the same state folder stops at once and names the folder."""
    source, sink = scene.topic("sentences"), scene.topic("counts")
    worker = scene.worker("words", [source], sink)
    worker.start_ready()
    second = scene.worker("words", [source], sink, instance_id="other")
    second.log_path = second.log_path.with_name("second.log")
    assert second.run() == 1
    assert "StateError" in second.log()
    assert str(scene.folder / "state-worker") in second.log()
    assert worker.stop() == 0

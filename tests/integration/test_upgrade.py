"""Drains, upgrades and resets of an application, by the command line on a real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration.scene import Process, Scene, Sent, lines

pytestmark = pytest.mark.integration


class Shop:
    """The application of `tests.integration.shop` on topics of its own."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scene = scene
        self.id = scene.application_id
        self.source = scene.topic("lines", 2)
        self.counts, self.maxima = scene.topic("counts", 2), scene.topic("maxima", 2)
        self.state_dir = scene.folder / "state"
        names = f"{self.id} {self.source} {self.counts} {self.maxima}"
        monkeypatch.setenv("SHOP", names)
        monkeypatch.setenv("KSTASH_STATE_DIR", str(self.state_dir))
        monkeypatch.setenv("KSTASH_SESSION_TIMEOUT_MS", "6000")
        monkeypatch.setenv("KSTASH_BOOTSTRAP_SERVERS", scene.bootstrap)

    def worker(self, version: str, *options: str) -> Process:
        """`kstash run` of a version; not started."""
        return self.scene.process(
            version, ["kstash.cli.main", "run", f"tests.integration.shop:{version}", *options]
        )

    def command(self, *arguments: str, code: int = 0, is_error: bool = True) -> str:
        """A `kstash` command that ends by itself with `code`: what it prints, or its error."""
        done = subprocess.run(
            [sys.executable, "-m", "kstash.cli.main", *arguments],
            capture_output=True,
            text=True,
            timeout=90,  # a drain waits out a session of six seconds, and all on a busy machine
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code and is_error else done.stdout

    def send(self, *texts: str) -> None:
        """Append lines to the input's partitions in turn."""
        self.scene.send(self.source, lines(*texts, partitions=2))


@pytest.fixture
def shop(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """An application that has not run."""
    return Shop(scene, monkeypatch)


def program(version: str) -> str:
    """How the command line names a version."""
    return f"tests.integration.shop:{version}"


def test_an_upgrade_by_the_command_line(shop: Shop) -> None:
    """Refused with the difference, drained, started; a store that goes must be given up by name."""
    texts = ["a b a", "c a"]
    old = shop.worker("first")
    old.start_ready()
    shop.send(*texts)
    shop.scene.wait_outputs(shop.counts, 5)
    active = shop.command("drain", program("first"), code=1)
    assert f"workers of '{shop.id}' are active" in active
    assert old.is_running()
    old.kill()
    refused = shop.command("run", program("second"), code=1)
    assert "+ store longest of stage words: aggregate text -> text" in refused
    assert "kstash drain PROGRAM" in refused
    assert "a changed program" in shop.command("drain", program("first"))
    shop.send("a")
    shop.command("run", program("second"), "--until", "end")
    shop.scene.check_words(shop.counts, [*texts, "a"])
    found = shop.scene.outputs(shop.maxima)
    assert [o.value for outputs in found.values() for o in outputs] == [b"a"]
    refused = shop.command("run", program("third"), "--until", "end", code=1)
    assert "--drop-store NAME" in refused
    shop.command("run", program("third"), "--until", "end", "--drop-store", "words")
    shop.scene.check_words(shop.counts, [*texts, "a"])


def test_a_reset_by_the_command_line(shop: Shop) -> None:
    """Refused while a worker is active; dry first; then all is counted again from where it said."""
    worker = shop.worker("first")
    worker.start_ready()
    shop.send("a", "b")
    shop.scene.wait_outputs(shop.counts, 2)
    assert "are active" in shop.command("reset", shop.id, code=1)
    assert worker.stop() == 0
    shop.scene.wait_gone(shop.id)
    lineage, edge = f"{shop.id}-lineage", f"{shop.id}-by_word-repartition"
    expected = {
        f"delete topic {lineage} (2 partitions)",
        f"delete topic {edge} (2 partitions)",
        f"delete topic {shop.id}-checkpoints (2 partitions)",
        f"delete consumer group {shop.id} with its offsets",
        f"delete consumer group {shop.id}-positions with its offsets",
        f"delete folder {shop.state_dir / shop.id}",
    }
    planned = shop.command("reset", shop.id, "--dry-run", "--to", "latest").splitlines()
    assert {line.removeprefix("would ") for line in planned if "delete" in line} == expected
    assert f"input {shop.source} begins at offset 1 of partition 0" in planned
    assert (shop.state_dir / shop.id).exists()
    before = generation(shop)
    done = shop.command("reset", shop.id, "--to", "latest").splitlines()
    assert {line for line in done if "delete" in line} == expected
    assert generation(shop) > before
    assert not (shop.state_dir / shop.id).exists()
    shop.send("a")
    shop.command("run", program("first"), "--until", "end")
    # What was there stays; from the end on it is counted anew.
    found = shop.scene.outputs(shop.counts)
    assert sorted((o.key, o.value) for outputs in found.values() for o in outputs) == [
        (b"a", b"1"),
        (b"a", b"1"),
        (b"b", b"1"),
    ]


def test_a_reset_lets_the_changed_program_start(shop: Shop) -> None:
    """Without a drain, from the first record of a time on; nothing of the old state is left."""
    worker = shop.worker("first", "--until", "end")
    shop.send("a", "b")
    assert worker.run() == 0
    shop.scene.wait_gone(shop.id)
    shop.command("reset", program("second"), "--to", "2001-01-01T00:00Z")
    shop.command("run", program("second"), "--until", "end")
    found = shop.scene.outputs(shop.counts)
    assert sorted(o.key or b"" for outputs in found.values() for o in outputs) == [
        b"a",
        b"a",
        b"b",
        b"b",
    ]


def test_a_reset_deletes_checkpoints_in_an_object_store(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of this application only, and only after a dry run that counts them."""
    store = shop.scene.folder / "store"
    monkeypatch.setenv("KSTASH_CHECKPOINT_STORE", f"file://{store}")
    worker = shop.worker("first", "--until", "end")
    shop.send("a", "b")
    assert worker.run() == 0
    shop.scene.wait_gone(shop.id)
    other = store / "other" / "file"
    other.parent.mkdir()
    other.touch()
    count = len([path for path in (store / shop.id).rglob("*") if path.is_file()])
    assert count > 0
    line = f"delete {count} files below file://{store}/{shop.id}/"
    assert f"would {line}" in shop.command("reset", shop.id, "--dry-run").splitlines()
    assert line in shop.command("reset", shop.id).splitlines()
    assert [path for path in store.rglob("*") if path.is_file()] == [other]


def test_an_input_made_anew_is_refused(shop: Shop) -> None:
    """A topic of the same name is another one, also when it has as many records."""
    shop.send("a", "b", "c", "d")
    shop.command("run", program("first"), "--until", "end")
    shop.scene.delete(shop.source)
    shop.scene.wait_deleted(shop.source)
    shop.scene.exact_topic(shop.source, 2)
    shop.send("a", "b", "c", "d", "e", "f")
    printed = shop.command("run", program("first"), "--until", "end", code=1)
    assert f"deleted and made anew since the application read it: '{shop.source}'" in printed


def test_a_lineage_topic_made_anew_is_refused(shop: Shop) -> None:
    """By hand, beside the internal topics and state of the old one: `kstash reset` clears all."""
    shop.send("a", "b")
    shop.command("run", program("first"), "--until", "end")
    shop.scene.wait_gone(shop.id)
    lineage = f"{shop.id}-lineage"
    shop.scene.delete(lineage)
    shop.scene.wait_deleted(lineage)
    printed = shop.command("run", program("first"), "--until", "end", code=1)
    assert f"no such topic: '{lineage}'" in printed
    shop.scene.exact_topic(lineage, 2, cleanup_policy="compact")
    printed = shop.command("run", program("first"), "--until", "end", code=1)
    assert f"deleted and made anew since the application read it: '{lineage}'" in printed
    shop.command("reset", shop.id)
    shop.command("run", program("first"), "--until", "end")
    found = shop.scene.outputs(shop.counts)
    assert sorted(o.key or b"" for outputs in found.values() for o in outputs) == [
        b"a",
        b"a",
        b"b",
        b"b",
    ]


def test_verify_by_the_command_line(shop: Shop) -> None:
    """Nothing is found in what an application leaves; what is wrong is named by its offset."""
    shop.send("a b a", "c a")
    shop.command("run", program("first"), "--until", "end")
    assert "everything is as it should be" in shop.command("verify", shop.id)
    found = json.loads(shop.command("verify", shop.id, "--json"))
    assert found["findings"] == []
    counted = {p["topic"]: 0 for p in found["partitions"]}
    for partition in found["partitions"]:
        counted[partition["topic"]] += partition["records"]
    assert counted[shop.counts] == 5
    lineage = f"{shop.id}-lineage"
    end = sum(p["records"] for p in found["partitions"] if p["topic"] == lineage)
    outputs = shop.scene.outputs(shop.counts)
    number, record = next((p, records[0]) for p, records in outputs.items() if records)
    copy = Sent(record.value, record.key, number, [(n, v) for n, v in record.headers])
    shop.scene.send(shop.counts, [copy])
    shop.scene.send(lineage, [Sent(b"garbage", b"key", 0)])
    printed = shop.command("verify", shop.id, code=1, is_error=False)
    assert f"duplicate: {shop.counts}, partition {number}, offset" in printed
    assert f"unreadable: {lineage}, partition 0, offset" in printed
    assert end > 0


def generation(shop: Shop) -> int:
    """Of the lineage topic, by its first record."""
    shown = shop.command("lineage", "show", shop.id, "--json").splitlines()
    found: int = next(e for e in map(json.loads, shown) if e["kind"] == "config")["generation"]
    return found

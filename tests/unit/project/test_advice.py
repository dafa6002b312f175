"""What messages advise: nothing that destroys what somebody may still need."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kstash
from kstash.ports.kafka import NewTopic
from kstash.ports.state import StoreSpec
from kstash.startup.topic_settings import internal_topic_config
from kstash.startup.topics import check_topics
from kstash.state import rocks
from kstash.state.folder import METADATA_FILE, ApplicationFolder
from kstash.state.rocks import RocksBackend
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.cluster import MemoryCluster

PACKAGE = Path(kstash.__file__).parent
DESTROYING = re.compile(
    r"--delete\b|--delete-|\brm -|or delete\b|[,;:] delete $"
    r"|\bdelete (it|its|this|that|the) (\w+ )?(folder|topic|file|offsets|group|records)\b"
)
"""Commands and advice that take something away for good. `kstash reset` is what it says, and is
offered with what it gives up only."""


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Texts that a module may show, parts of one message joined; no docstrings."""
    for node in ast.walk(ast.parse(path.read_text())):
        parts: list[ast.expr] = []
        match node:
            case ast.Call():
                parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            case ast.Assign() | ast.Return():
                parts = [node.value] if node.value is not None else []
        for part in parts:
            found = [
                inner.value
                for inner in ast.walk(part)
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
            ]
            yield part.lineno, "".join(found)


def test_no_message_advises_what_destroys_data() -> None:
    """And whoever names `kstash reset` says what it gives up, or that all is made again."""
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in _texts(path)
        if DESTROYING.search(text)
        or (
            "kstash reset" in text
            and "is under way" not in text
            and not re.search("gives? up|again", text)
        )
    ]
    assert not wrong


def _checked(topic: str, config: dict[str, str]) -> kstash.errors.TopicMismatchError:
    """The error of an application of which this topic has these settings."""
    app = kstash.App("advised")
    keyed = app.stream("in", value=kstash.text).key_by(str, key=kstash.text)
    keyed.count("words").to("out")
    kafka = MemoryKafka(ManualClock(0))
    admin = MemoryCluster(kafka, "advised").admin()
    topology = app.topology()
    for name in {"in", "out", topic}:
        admin.create([NewTopic(name, 1, 1, config if name == topic else {})])
    with pytest.raises(kstash.errors.TopicMismatchError) as caught:
        check_topics(admin, topology, app.config)
    return caught.value


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_input_is_left_alone(policy: str) -> None:
    """No command puts retention on somebody's table; it says what can be done today."""
    error = _checked("in", {"cleanup.policy": policy})
    assert (error.topic, error.setting, error.found) == ("in", "cleanup.policy", policy)
    assert "--alter" not in str(error)
    assert "leave that topic as it is" in error.fix
    assert "guarantee='at_least_once'" in error.fix


def test_a_compacted_sink_is_left_alone() -> None:
    """It is a table likewise: another delivery or another topic, and no other policy."""
    error = _checked("out", {"cleanup.policy": "compact"})
    assert (error.topic, error.setting) == ("out", "cleanup.policy")
    assert "--alter" not in str(error)
    assert 'delivery="transactional"' in error.fix


@pytest.mark.parametrize("retention", ["retention.ms", "retention.bytes"])
def test_an_internal_topic_gets_all_of_its_settings_at_once(retention: str) -> None:
    """`delete` alone, beside a retention by age or size, would take what nobody has read yet."""
    config = internal_topic_config() | {"cleanup.policy": "compact", retention: "86400000"}
    error = _checked("advised-words-repartition", config)
    assert (error.topic, error.setting) == ("advised-words-repartition", "cleanup.policy")
    command = error.fix.partition(" --add-config ")[2]
    needed = {"cleanup.policy=delete", "retention.ms=-1", "retention.bytes=-1"}
    assert needed <= set(command.split(","))


@pytest.mark.parametrize(
    "setting",
    ["retention.ms", "retention.bytes", "message.timestamp.before.max.ms"],
)
def test_what_would_take_frames_away_is_refused(setting: str) -> None:
    """Or would refuse those of old records: the start says so, not a loss later."""
    error = _checked("advised-words-repartition", internal_topic_config() | {setting: "1000"})
    assert (error.topic, error.setting, error.found) == (
        "advised-words-repartition",
        setting,
        "1000",
    )
    assert f"{setting}={internal_topic_config()[setting]}" in error.fix


def _application(folder: Path, name: str = "app") -> ApplicationFolder:
    return ApplicationFolder(folder, name, topology_hash="h", program="{}")


def test_a_metadata_file_that_cannot_be_read_costs_no_state(tmp_path: Path) -> None:
    """The advice works: moved away it is written anew, and the checkpoints are where they were."""
    _application(tmp_path).close()
    file = tmp_path / "app" / METADATA_FILE
    file.write_text("{")
    (tmp_path / "app" / "kept").touch()
    with pytest.raises(kstash.StateError, match="move it out of this folder"):
        _application(tmp_path)
    file.rename(tmp_path / "elsewhere")
    _application(tmp_path).close()
    assert file.exists()
    assert (tmp_path / "app" / "kept").exists()


@pytest.mark.parametrize(
    ("text", "kind", "advice"),
    [
        ("IO error: No space left on device: LOCK", kstash.StateError, "free space"),
        ("IO error: Too many open files", kstash.StateError, "ulimit -n"),
        ("Corruption: bad block", kstash.errors.CheckpointCorruptError, "do not delete it"),
    ],
)
def test_a_full_disk_is_no_damaged_checkpoint(
    text: str, kind: type[Exception], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that cannot be opened for want of space or files is as good as it was."""
    backend = RocksBackend(tmp_path, "app", topology_hash="h", memory_bytes=64 << 20)
    specs = [StoreSpec("words", bytes, bytes)]
    state = backend.task("count", 0).open(specs, base=None)
    state.checkpoint("1", 1)
    state.close()

    def fail(*_: object, **__: object) -> None:
        raise OSError(text)

    monkeypatch.setattr(rocks, "RocksTaskState", fail)
    with pytest.raises(kind, match=advice) as caught:
        backend.task("count", 0).open(specs, base="1")
    assert type(caught.value) is kind
    backend.close()

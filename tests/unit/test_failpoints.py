"""Fail points: that there is one around everything that is written, and what an armed one does."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from kstash import failpoints
from kstash.errors import ConfigError
from kstash.failpoints import POINTS, arm, around
from kstash.runtime.lineage_points import ACKS, APPENDS
from kstash.runtime.task.frame_outputs import FrameOutput
from kstash.runtime.task.sink_outputs import SinkOutput
from tests.unit.project.test_docs import DOCS, table

ROOT = Path(__file__).parents[2]

WRITES = {
    # Kafka, by the ports and by the client
    *("produce", "_produce", "flush", "commit", "initialise", "create", "delete_records"),
    *("init_transactions", "send_offsets_to_transaction", "commit_transaction"),
    *("abort_transaction", "create_topics", "delete_topics", "create_partitions"),
    *("incremental_alter_configs", "delete_consumer_groups", "alter_consumer_group_offsets"),
    # the disk
    *("fsync", "sync_folder", "rename", "replace", "link", "hardlink_to", "copyfile", "copy2"),
    *("copyfileobj", "make_private_folder", "create_private"),
    *("rmtree", "unlink", "rmdir", "mkdir", "ftruncate", "pwrite", "write"),
    *("write_bytes", "write_text", "link_or_copy", "create_checkpoint", "Rdict"),
    # object stores
    *("put", "put_async", "delete", "delete_async"),
}
"""Names of everything that writes to a topic, a group, a disk or an object store."""

PER_RECORD = "called per record; the runtime's calls, one a batch, are enclosed"
BY_CALLER = "enclosed where it is called"
BY_STORE = "the upload and the collection enclose what they ask of a store"
IN_THREAD = "asks the adapter's thread, where the operation is enclosed"
NOTHING_YET = "an empty folder or a file without a name: a crash leaves what a start overwrites"
FOR_PEOPLE = "who holds the lock, for people: nothing reads it"

HARMLESS = {
    "self._jobs.put": "a queue in memory",
    "replace": "of dataclasses",
    "batch.put": "a batch in memory",
    "batch.delete": "a batch in memory",
    "self._entries.put": "a store in memory",
    "self._entries.delete": "a store in memory",
    "key.replace": "of bytes",
    "data[:end].replace": "of bytes",
    "program.flush": "of operators: results, and state in memory",
    "self.lineage.flush": "encloses its appends",
    "self._lineage.flush": "the same",
    "Producers.create": "makes clients",
}
"""Calls of such a name that write nothing, as they are spelt."""

NO_WORKER = "maintenance while no worker runs; it is run again"
EXEMPT = {
    ("kafka/fencing.py", "fence.fence_one", "init_transactions"): NO_WORKER,
    ("kafka/groups.py", "KafkaGroups.delete", "delete_consumer_groups"): NO_WORKER,
    ("kafka/admin.py", "KafkaAdmin.delete_topics", "delete_topics"): NO_WORKER,
    ("kafka/client_queue.py", "ClientQueue.produce", "_produce"): PER_RECORD,
    ("kafka/client_queue.py", "ClientQueue.produce", "produce"): PER_RECORD,
    ("kafka/client_queue.py", "ClientQueue._send", "_produce"): PER_RECORD,
    ("kafka/producers.py", "DelayedAcks.flush", "flush"): "what it calls encloses it",
    ("kafka/sink.py", "KafkaSinkProducer.flush", "flush"): "only tests call it",
    ("kafka/admin.py", "KafkaAdmin.create", "create_topics"): BY_CALLER,
    ("kafka/admin.py", "KafkaAdmin.delete_records", "delete_records"): BY_CALLER,
    ("runtime/worker/worker.py", "Worker._drain", "flush"): "the adapter encloses it",
    ("runtime/worker/intake.py", "Intake._commit", "commit"): "the adapter encloses it",
    ("runtime/task/frame_outputs.py", "FrameOutput._produce_frames", "_produce"): BY_CALLER,
    ("runtime/task/sink_outputs.py", "ImmediateOutput._produce_records", "produce"): BY_CALLER,
    ("runtime/task/sink_outputs.py", "ImmediateOutput._produce_with_headers", "produce"): BY_CALLER,
    ("runtime/task/sink_outputs.py", "TransactionalOutput._produce_records", "produce"): BY_CALLER,
    ("runtime/group/lineage_writer.py", "LineageWriter._produce", "produce"): BY_CALLER,
    ("runtime/recovery/fencing.py", "Fencing._initialise", "initialise"): IN_THREAD,
    ("runtime/group/sinks.py", "Sinks._close", "commit"): IN_THREAD,
    ("stores/topic.py", "CheckpointTopic._producing.send", "produce"): BY_STORE,
    ("stores/topic.py", "CheckpointTopic._producing.wait", "flush"): BY_STORE,
    ("stores/objects.py", "ObjectCheckpointStore.put", "put"): BY_STORE,
    ("stores/objects.py", "ObjectCheckpointStore.delete", "delete"): BY_STORE,
    ("stores/objects.py", "_sync", "fsync"): BY_STORE,
    ("stores/objects.py", "open_store", "mkdir"): NOTHING_YET,
    ("state/files.py", "assemble", "make_private_folder"): BY_CALLER,
    ("state/files.py", "assemble", "link"): BY_CALLER,
    ("state/files.py", "_copy", "copyfileobj"): BY_CALLER,
    ("state/files.py", "_copy", "create_private"): BY_CALLER,
    ("state/files.py", "_write", "create_private"): BY_CALLER,
    ("state/files.py", "_write", "write"): BY_CALLER,
    ("state/files.py", "_write", "flush"): BY_CALLER,
    ("state/files.py", "_write", "fsync"): BY_CALLER,
    ("state/rocks.py", "RocksTaskFolder.adopt", "make_private_folder"): NOTHING_YET,
    ("state/files.py", "link_or_copy", "make_private_folder"): BY_CALLER,
    ("state/files.py", "link_or_copy", "link"): BY_CALLER,
    ("state/folder.py", "ApplicationFolder.__init__", "make_private_folder"): NOTHING_YET,
    ("state/folder.py", "ApplicationFolder._write_metadata", "create_private"): NOTHING_YET,
    ("state/folder.py", "ApplicationFolder._write_metadata", "unlink"): NOTHING_YET,
    ("state/folder.py", "make_private_folder", "mkdir"): BY_CALLER,
    ("state/folder.py", "ApplicationFolder._acquire", "ftruncate"): FOR_PEOPLE,
    ("state/folder.py", "ApplicationFolder._acquire", "pwrite"): FOR_PEOPLE,
    ("state/folder.py", "ApplicationFolder._write_metadata", "write"): NOTHING_YET,
    ("state/folder.py", "ApplicationFolder._write_metadata", "flush"): NOTHING_YET,
    ("state/folder.py", "sync_folder", "fsync"): BY_CALLER,
    ("state/rocks_task.py", "RocksTaskState.checkpoint", "make_private_folder"): NOTHING_YET,
    ("state/rocks_task.py", "RocksTaskState.checkpoint", "rmtree"): (
        "a label is used once, so there is something to delete only after a failed attempt of the "
        "same process, which has to stop then"
    ),
}
"""Calls that need no point of their own: (file, function, name), with the reason."""

LEFT_OUT = {
    "kafka/console.py": "the command line's, not the worker's",
    "kafka/immediate.py": "other programs' reader: its offsets are theirs",
    "kafka/client_settings.py": "settings, no calls",
}

PACKAGES = ("runtime", "kafka", "state", "startup", "stores")


def modules() -> list[Path]:
    """The modules of the worker that do I/O, or ask for it."""
    package = ROOT / "kstash"
    found = [path for name in PACKAGES for path in (package / name).rglob("*.py")]
    return sorted(p for p in found if str(p.relative_to(package)) not in LEFT_OUT)


def name_of(call: ast.Call) -> str:
    """Last part of what is called."""
    return ast.unparse(call.func).rpartition(".")[2]


def is_write(call: ast.Call) -> bool:
    """Whether a call may write."""
    return name_of(call) in WRITES and ast.unparse(call.func) not in HARMLESS


def calls(node: ast.AST, place: str = "", *, inside: bool = False) -> Iterator[tuple[str, str]]:
    """(function, name) of each call that writes and that no `with around(…)` encloses."""
    for child in ast.iter_child_nodes(node):
        here, is_inside = place, inside
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            here = f"{place}.{child.name}".lstrip(".")
            is_inside = False  # a function runs when it is called, not where it is defined
        elif isinstance(child, ast.With):
            is_inside |= any(
                isinstance(item.context_expr, ast.Call) and name_of(item.context_expr) == "around"
                for item in child.items
            )
        elif isinstance(child, ast.Call) and not inside and is_write(child):
            yield here, name_of(child)
        yield from calls(child, here, inside=is_inside)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_write_is_between_two_points(path: Path) -> None:
    """Each call that writes stands in a `with around(…)`, or is exempt for a stated reason."""
    file = str(path.relative_to(ROOT / "kstash"))
    found = {(file, *call) for call in calls(ast.parse(path.read_text(encoding="utf-8")))}
    exempt = {call for call in EXEMPT if call[0] == file}
    assert not found - exempt, "no fail point around these"
    assert not exempt - found, "exempt, and not there"


def test_an_unenclosed_write_is_found() -> None:
    """The test above sees a write outside of a point, also in a function that a block defines."""
    program = ast.parse(
        "def f(path):\n"
        "    with around('checkpoint.rename'):\n"
        "        path.rename('a')\n"
        "        def later():\n"
        "            path.unlink()\n"
        "    path.rename('b')\n"
    )
    assert sorted(calls(program)) == [("f", "rename"), ("f.later", "unlink")]


def test_every_acknowledgement_is_a_point() -> None:
    """What takes a delivered record's acknowledgement encloses what follows from it."""
    silent = []
    for path in sorted((ROOT / "kstash" / "runtime").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            takes = [ast.unparse(a.annotation) for a in node.args.args if a.annotation]
            if "DeliveredMessage" in takes and "around(" not in ast.unparse(node):
                silent.append(f"{path.name}: {node.name}")
    assert not silent


def test_points_and_their_names_agree() -> None:
    """Each name that encloses something is listed, and each that is listed encloses something."""
    named: set[str] = set()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and name_of(node) == "around"):
                continue
            (argument,) = node.args
            if isinstance(argument, ast.Subscript):
                assert ast.unparse(argument) in (
                    "ACKS[type(record)]",
                    "APPENDS[type(record)]",
                ), f"{path.name}: {ast.unparse(argument)}"
                continue
            if ast.unparse(argument) == "self.ack_point":  # which each kind of output names
                named.update({FrameOutput.ack_point, SinkOutput.ack_point})
                continue
            assert isinstance(argument, ast.Constant), f"{path.name}: {ast.unparse(node)}"
            named.add(str(argument.value))
    assert named | set(ACKS.values()) | set(APPENDS.values()) == set(POINTS)


def test_points_are_documented() -> None:
    """The table of the testing page is the list of points, in its order."""
    page = (DOCS / "internals" / "testing.md").read_text(encoding="utf-8")
    assert [row[0].strip("`") for row in table(page, "Fail points")] == list(POINTS)


class Gone(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the end of the process raise instead; disarm in the end."""

    def end(code: int) -> NoReturn:
        assert code == failpoints.EXIT_FAILED
        raise Gone

    monkeypatch.setattr(os, "_exit", end)
    yield
    arm(None)


@pytest.mark.usefixtures("ends")
def test_before_ends_the_process_before_the_operation() -> None:
    """Armed before, the operation is not begun; other points do nothing."""
    arm("frame.append.before")
    with around("frame.ack"):
        pass
    with pytest.raises(Gone), around("frame.append"):
        pytest.fail("the operation was begun")


@pytest.mark.usefixtures("ends")
def test_after_ends_the_process_after_the_operation() -> None:
    """Armed after with a number, the operation is done that often; failed ones do not count."""
    arm("frame.append.after:2")
    done = []
    with pytest.raises(KeyError), around("frame.append"):
        raise KeyError
    with around("frame.append"):
        done.append(1)
    with pytest.raises(Gone), around("frame.append"):
        done.append(2)
    assert done == [1, 2]


def test_not_armed_nothing_is_made() -> None:
    """Without the variable every point is the same object that does nothing."""
    assert around("frame.append") is around("sink.append")


@pytest.mark.parametrize(
    "specification", ["frame.append", "frame.before", "frame.append.before:0", "x.after:y", ""]
)
def test_an_unknown_point_is_refused(specification: str) -> None:
    """A misspelt point must not make a crash test that never crashes."""
    with pytest.raises(ConfigError, match="KSTASH_FAIL_POINT"):
        arm(specification)

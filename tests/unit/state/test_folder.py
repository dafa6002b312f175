"""The application's state folder: its lock, its metadata, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kstash.errors import StateError
from kstash.state.folder import LOCK_FILE, METADATA_FILE, ApplicationFolder

HOLD = """
import sys
from pathlib import Path
from kstash.state.folder import ApplicationFolder
folder = ApplicationFolder(Path(sys.argv[1]), "app", topology_hash="h")
print("held", flush=True)
sys.stdin.read()
"""


def open_folder(path: Path, topology_hash: str = "h") -> ApplicationFolder:
    """The folder of `app`, without waiting for a lock."""
    return ApplicationFolder(path, "app", topology_hash=topology_hash, lock_wait_s=0)


def test_second_process_is_refused_and_the_lock_goes_with_sigkill(tmp_path: Path) -> None:
    """A folder in use names its holder's process id; after kill -9 it is free at once."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin
    assert holder.stdout
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=rf"in use by process {holder.pid};.*state_dir"):
            open_folder(tmp_path)
        holder.kill()
        holder.wait(10)
    open_folder(tmp_path).close()


def test_two_backends_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    """The lock also holds within a process, and closing gives it up."""
    first = open_folder(tmp_path)
    with pytest.raises(StateError, match="in use by process"):
        open_folder(tmp_path)
    first.close()
    first.close()
    open_folder(tmp_path).close()


def test_applications_do_not_exclude_each_other(tmp_path: Path) -> None:
    """Each application has its own folder below the state directory."""
    first = open_folder(tmp_path)
    second = ApplicationFolder(tmp_path, "other", topology_hash="h", lock_wait_s=0)
    assert first.task_folder("count", 3) == tmp_path / "app" / "count_3"
    first.close()
    second.close()


def test_metadata_is_written_once(tmp_path: Path) -> None:
    """The first use writes format, application and program; the same program changes nothing."""
    open_folder(tmp_path).close()
    path = tmp_path / "app" / METADATA_FILE
    expected = {"format": 1, "application_id": "app", "topology_hash": "h", "program": {}}
    assert json.loads(path.read_text()) == expected
    before = path.stat().st_ino
    open_folder(tmp_path).close()
    assert path.stat().st_ino == before


def test_another_program_leaves_its_name(tmp_path: Path) -> None:
    """Which checkpoints a program may take over stands in the lineage topic, not here."""
    open_folder(tmp_path).close()
    open_folder(tmp_path, "other").close()
    metadata = json.loads((tmp_path / "app" / METADATA_FILE).read_text())
    assert metadata["topology_hash"] == "other"


@pytest.mark.parametrize(("name", "value"), [("format", 2), ("application_id", "theirs")])
def test_another_format_or_application_is_refused(tmp_path: Path, name: str, value: object) -> None:
    """What this version cannot read stops the start, and the lock is free again."""
    open_folder(tmp_path).close()
    path = tmp_path / "app" / METADATA_FILE
    sound = path.read_text()
    path.write_text(json.dumps(json.loads(sound) | {name: value}))
    with pytest.raises(StateError, match=f"{name} {value!r}, this program has"):
        open_folder(tmp_path)
    path.write_text(sound)
    open_folder(tmp_path).close()


@pytest.mark.parametrize("text", ["", "{", "[]", "null5"])
def test_unreadable_metadata_is_refused(tmp_path: Path, text: str) -> None:
    """Garbage in the metadata file is a typed error that names the folder."""
    open_folder(tmp_path).close()
    (tmp_path / "app" / METADATA_FILE).write_text(text)
    with pytest.raises(StateError, match="app: "):
        open_folder(tmp_path)


def test_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """A file in the place of the state directory is a typed error with the path."""
    (tmp_path / "state").touch()
    with pytest.raises(StateError, match="state/app: opening the state folder failed"):
        ApplicationFolder(tmp_path / "state", "app", topology_hash="h")


def test_lock_file_may_stay(tmp_path: Path) -> None:
    """The lock is not the file: a file left by a dead process blocks nobody."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / LOCK_FILE).write_text("1\n")
    open_folder(tmp_path).close()

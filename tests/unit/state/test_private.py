"""State is for the user of the worker alone, and no link is followed in its place."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstash import int_text
from kstash.core.records import FileEntry
from kstash.errors import StateError
from kstash.ports.state import StoreSpec
from kstash.state import RocksBackend
from kstash.state.folder import LOCK_FILE, METADATA_FILE
from kstash.stores.objects import open_store

SPEC = StoreSpec("s", int_text.serialize, int_text.deserialize)


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """As of a service that was started without a thought for it."""
    before = os.umask(0)
    yield
    os.umask(before)


def backend(state_dir: Path) -> RocksBackend:
    """A backend of one application."""
    return RocksBackend(state_dir, "app", topology_hash="1", memory_bytes=1 << 20)


def modes(root: Path) -> dict[str, str]:
    """Of all folders and files below, live files of RocksDB's own left out."""
    return {
        str(path.relative_to(root)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in root.rglob("*")
        if not path.parent.name.startswith("live-")
    }


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    """Those of a checkpoint too, made here or fetched, and those above that were missing."""
    state_dir = tmp_path / "new" / "state"
    made = backend(state_dir)
    state = made.task("n", 0).open([SPEC], base=None)
    state.store("s").load([b"k"])[b"k"] = 5
    entries = state.checkpoint("1-1-1", 3)
    contents = {e.name: b"".join(made.task("n", 0).read("1-1-1", e.name)) for e in entries}
    state.close()

    def fetch(entry: FileEntry) -> list[bytes]:
        return [contents[entry.name]]

    made.task("m", 0).adopt("1-1-1", entries, fetch)
    made.task("m", 0).open([SPEC], base="1-1-1")
    found = modes(tmp_path)
    made.close()
    assert any(name.endswith("checkpoints/1-1-1/CURRENT") for name in found)
    for name, mode in found.items():
        is_folder = name in ("new", "new/state") or (tmp_path / name).is_dir() or "live-" in name
        assert mode == ("0o700" if is_folder else "0o600"), name


def test_nobody_else_enters_a_folder(tmp_path: Path) -> None:
    """Those of open databases too, of which RocksDB makes the files as the umask says."""
    made = backend(tmp_path)
    state = made.task("n", 0).open([SPEC], base=None)
    state.checkpoint("1-1-1", 3)
    made.task("m", 0).open([SPEC], base=None)
    folders = {
        str(path.relative_to(tmp_path)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in tmp_path.rglob("*")
        if path.is_dir()
    }
    made.close()
    assert folders == dict.fromkeys(
        [
            *("app", "app/n_0", "app/n_0/live-1", "app/n_0/checkpoints"),
            *("app/n_0/checkpoints/1-1-1", "app/m_0", "app/m_0/live-1"),
        ],
        "0o700",
    )


def test_folders_of_an_older_release_become_private(tmp_path: Path) -> None:
    """What was open to all is closed at the next start."""
    (tmp_path / "app").mkdir(0o755)
    (tmp_path / "app" / "n_0").mkdir(0o755)
    made = backend(tmp_path)
    made.task("n", 0).open([SPEC], base=None)
    found = modes(tmp_path)
    made.close()
    assert found["app"] == found["app/n_0"] == "0o700"


@pytest.mark.parametrize("name", [LOCK_FILE, METADATA_FILE])
@pytest.mark.parametrize("content", ["precious", None])
def test_a_link_in_place_of_a_file_is_not_followed(
    tmp_path: Path, name: str, content: str | None
) -> None:
    """What it points at, or would, stays as it is; the error says where the link is."""
    victim = tmp_path / "victim"
    if content is not None:
        victim.write_text(content)
    (tmp_path / "app").mkdir()
    link = tmp_path / "app" / name
    link.symlink_to(victim)
    with pytest.raises(StateError, match=f"{tmp_path / 'app'}.*a link stands"):
        backend(tmp_path)
    assert (victim.read_text() if victim.exists() else None) == content
    assert link.is_symlink()


def test_metadata_that_would_be_right_behind_a_link(tmp_path: Path) -> None:
    """It is not read either."""
    backend(tmp_path).close()
    metadata = tmp_path / "app" / METADATA_FILE
    metadata.rename(tmp_path / "victim")
    metadata.symlink_to(tmp_path / "victim")
    with pytest.raises(StateError, match=f"{metadata}.*a link stands"):
        backend(tmp_path)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody would ever write into it."""
    (tmp_path / "app").mkdir()
    os.mkfifo(tmp_path / "app" / METADATA_FILE)
    with pytest.raises(StateError, match="cannot be read"):
        backend(tmp_path)


def test_an_application_folder_that_is_a_link(tmp_path: Path) -> None:
    """Its target is neither written to nor closed to others; `state_dir` may be one."""
    victim = tmp_path / "victim"
    victim.mkdir(0o755)
    (tmp_path / "app").symlink_to(victim)
    with pytest.raises(StateError, match=f"{tmp_path / 'app'}.*a link stands"):
        backend(tmp_path)
    assert modes(tmp_path) == {"victim": "0o755", "app": "0o777"}
    (tmp_path / "large").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "large")
    backend(tmp_path / "state").close()
    assert (tmp_path / "large" / "app" / METADATA_FILE).is_file()


Use = Callable[[RocksBackend, tuple[FileEntry, ...]], object]
USES: dict[str, Use] = {
    "open": lambda made, _: made.task("n", 0).open([SPEC], base=None),
    "open at a checkpoint": lambda made, _: made.task("n", 0).open([SPEC], base="1-1-1"),
    "verify": lambda made, entries: made.task("n", 0).verify("1-1-1", entries),
    "read": lambda made, _: list(made.task("n", 0).read("1-1-1", "CURRENT")),
    "adopt": lambda made, entries: made.task("n", 0).adopt("1-1-1", entries, lambda _: []),
    "retain": lambda made, _: made.task("n", 0).retain([]),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "name",
    ["n_0", "n_0/live-7", "n_0/checkpoints", "n_0/checkpoints/1-1-1", "n_0/checkpoints/.partial-1"],
)
def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path, name: str, use: str) -> None:
    """Whatever is done there first; what it points at keeps all that it has."""
    made = backend(tmp_path)
    state = made.task("n", 0).open([SPEC], base=None)
    entries = state.checkpoint("1-1-1", 3)
    state.close()
    link, victim = tmp_path / "app" / name, tmp_path / "victim"
    if link.exists():
        link.rename(victim)
    else:
        victim.mkdir()
    (victim / "live-7").mkdir()
    link.symlink_to(victim)
    before = {path: path.lstat().st_mtime_ns for path in (victim, *victim.rglob("*"))}
    with pytest.raises(StateError, match=f"{link}.*a link stands") as caught:
        USES[use](made, entries)
    made.close()
    assert "delete" not in str(caught.value)
    assert {path: path.lstat().st_mtime_ns for path in (victim, *victim.rglob("*"))} == before


def test_a_link_that_comes_while_the_task_runs(tmp_path: Path) -> None:
    """The next checkpoint is not written through it, and the state stays."""
    made = backend(tmp_path)
    state = made.task("n", 0).open([SPEC], base=None)
    state.checkpoint("1-1-1", 3)
    folder = tmp_path / "app" / "n_0" / "checkpoints"
    folder.rename(tmp_path / "victim")
    folder.symlink_to(tmp_path / "victim")
    with pytest.raises(StateError, match="a link stands"):
        state.checkpoint("1-1-2", 4)
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["1-1-1"]
    made.close()


def test_a_link_in_place_of_a_file_of_a_checkpoint(tmp_path: Path) -> None:
    """It is not uploaded, nor made state of, should nobody have compared it before."""
    made = backend(tmp_path)
    state = made.task("n", 0).open([SPEC], base=None)
    state.checkpoint("1-1-1", 3)
    state.close()
    current = tmp_path / "app" / "n_0" / "checkpoints" / "1-1-1" / "CURRENT"
    current.rename(tmp_path / "victim")
    current.symlink_to(tmp_path / "victim")
    with pytest.raises(StateError, match="a link stands"):
        list(made.task("n", 0).read("1-1-1", "CURRENT"))
    with pytest.raises(StateError, match="a link stands"):
        made.task("n", 0).open([SPEC], base="1-1-1")
    made.close()


def test_a_link_in_place_of_a_partial_file_is_replaced(tmp_path: Path) -> None:
    """Nothing of worth is ever under that name."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "app").mkdir()
    partial = (tmp_path / "app" / METADATA_FILE).with_suffix(".partial")
    partial.symlink_to(victim)
    backend(tmp_path).close()
    assert victim.read_text() == "precious"
    assert (tmp_path / "app" / METADATA_FILE).is_file()


def test_a_link_is_no_file_of_a_checkpoint(tmp_path: Path) -> None:
    """Whatever it points at has the right content."""
    made = backend(tmp_path)
    state = made.task("n", 0).open([SPEC], base=None)
    entries = state.checkpoint("1-1-1", 3)
    state.close()
    assert made.task("n", 0).verify("1-1-1", entries)
    current = tmp_path / "app" / "n_0" / "checkpoints" / "1-1-1" / "CURRENT"
    current.rename(tmp_path / "elsewhere")
    current.symlink_to(tmp_path / "elsewhere")
    assert not made.task("n", 0).verify("1-1-1", entries)
    made.close()


def test_a_checkpoint_store_in_a_folder_is_private(tmp_path: Path) -> None:
    """Where it is new; who made it open to others keeps it so."""
    pytest.importorskip("obstore")
    store = open_store(f"file://{tmp_path}/store", "app")
    store.put(0, "n_0/1-1/ab", [b"x"])
    found = modes(tmp_path)
    assert found["store"] == found["store/app"] == "0o700"
    (tmp_path / "shared").mkdir(0o770)
    open_store(f"file://{tmp_path}/shared", "app")
    assert modes(tmp_path)["shared"] == "0o770"

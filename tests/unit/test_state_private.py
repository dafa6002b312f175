"""State is for the user of the worker alone, and no link is followed in its place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstash import int_text
from kstash.errors import StateError
from kstash.objects import open_store
from kstash.ports import FileEntry, StoreSpec
from kstash.state import RocksBackend
from kstash.state.folder import LOCK_FILE, METADATA_FILE

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
    state = made.open("n", 0, [SPEC], base=None)
    state.store("s").load([b"k"])[b"k"] = 5
    entries = state.checkpoint("1-1-1", 3)
    contents = {e.name: b"".join(made.read("n", 0, "1-1-1", e.name)) for e in entries}
    state.close()

    def fetch(entry: FileEntry) -> list[bytes]:
        return [contents[entry.name]]

    made.adopt("m", 0, "1-1-1", entries, fetch)
    made.open("m", 0, [SPEC], base="1-1-1")
    found = modes(tmp_path)
    made.close()
    assert any(name.endswith("checkpoints/1-1-1/CURRENT") for name in found)
    for name, mode in found.items():
        is_folder = name in ("new", "new/state") or (tmp_path / name).is_dir() or "live-" in name
        assert mode == ("0o700" if is_folder else "0o600"), name


def test_a_folder_of_an_older_release_becomes_private(tmp_path: Path) -> None:
    """What was open to all is closed at the next start."""
    (tmp_path / "app").mkdir(0o755)
    backend(tmp_path).close()
    assert modes(tmp_path)["app"] == "0o700"


@pytest.mark.parametrize("name", [LOCK_FILE])
def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path, name: str) -> None:
    """What it points at keeps its content, and the error says what is wrong."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / name).symlink_to(victim)
    with pytest.raises(StateError, match="a link stands"):
        backend(tmp_path)
    assert victim.read_text() == "precious"


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
    state = made.open("n", 0, [SPEC], base=None)
    entries = state.checkpoint("1-1-1", 3)
    state.close()
    assert made.verify("n", 0, "1-1-1", entries)
    current = tmp_path / "app" / "n_0" / "checkpoints" / "1-1-1" / "CURRENT"
    current.rename(tmp_path / "elsewhere")
    current.symlink_to(tmp_path / "elsewhere")
    assert not made.verify("n", 0, "1-1-1", entries)
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

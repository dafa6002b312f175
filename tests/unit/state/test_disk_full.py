"""A disk that takes no more bytes: a clear error, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstash.errors import StateError
from kstash.ports.state import StoreSpec
from kstash.state.rocks import RocksBackend

SPEC = StoreSpec("blobs", bytes, bytes)

LIMITED = """
import resource, sys
from pathlib import Path
from kstash.errors import StateError
from kstash.ports.state import StoreSpec
from kstash.state.rocks import RocksBackend

backend = RocksBackend(Path(sys.argv[1]), "app", topology_hash="h", memory_bytes=64 << 20)
state = backend.task("count", 0).open([StoreSpec("blobs", bytes, bytes)], base=None)
state.store("blobs").load([b"a"])[b"a"] = b"first"
entries = state.checkpoint("1", 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
import random
blob = random.Random(1).randbytes(1_000_000)
state.store("blobs").load([b"b"])[b"b"] = blob
try:
    state.checkpoint("2", 2)
except StateError as error:
    print(error)
else:
    sys.exit("a checkpoint beyond the limit was taken")
assert dict(state.store("blobs").items()) == {b"a": b"first", b"b": blob}
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
state.close()
assert backend.task("count", 0).verify("1", entries)
state = backend.task("count", 0).open([StoreSpec("blobs", bytes, bytes)], base="1")
assert state.store("blobs").items() == [(b"a", b"first")]
state.store("blobs").load([b"b"])[b"b"] = blob
entries = state.checkpoint("2", 2)
assert backend.task("count", 0).verify("2", entries)
print("recovered")
"""


def test_file_size_limit_gives_a_state_error_and_loses_nothing(tmp_path: Path) -> None:
    """Under `ulimit -f` the checkpoint fails typed; memory and the older checkpoint stay whole."""
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "checkpoints: checkpoint '2' failed" in run.stdout
    assert "nothing is lost" in run.stdout
    assert run.stdout.endswith("recovered\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "kstash-test", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_full_disk_gives_a_state_error_and_loses_nothing(small_disk: Path) -> None:
    """On a full disk the checkpoint fails typed; once space is free the next one passes."""
    backend = RocksBackend(small_disk, "app", topology_hash="h", memory_bytes=64 << 20)
    state = backend.task("count", 0).open([SPEC], base=None)
    state.store("blobs").load([b"a"])[b"a"] = b"first"
    entries = state.checkpoint("1", 1)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3 << 20))
    blob = os.urandom(1_500_000)
    state.store("blobs").load([b"b"])[b"b"] = blob
    with pytest.raises(StateError, match=r"count_0/checkpoints: .*disk is full.*nothing is lost"):
        state.checkpoint("2", 2)
    assert dict(state.store("blobs").items()) == {b"a": b"first", b"b": blob}
    assert backend.task("count", 0).verify("1", entries)
    state.close()
    filler.unlink()
    state = backend.task("count", 0).open([SPEC], base="1")
    assert state.store("blobs").items() == [(b"a", b"first")]
    state.store("blobs").load([b"b"])[b"b"] = blob
    assert backend.task("count", 0).verify("2", state.checkpoint("2", 2))
    backend.close()


def test_spill_on_a_full_disk_keeps_everything_in_memory(small_disk: Path) -> None:
    """Values that cannot be written stay resident; the error comes to the batch that spilled."""
    backend = RocksBackend(small_disk, "app", topology_hash="h", memory_bytes=1 << 20)
    state = backend.task("count", 0).open([SPEC], base=None)
    (small_disk / "filler").write_bytes(bytes(3 << 20))
    written: dict[bytes, bytes] = {}

    def fill() -> None:
        for number in range(500):
            key, value = b"k%d" % number, os.urandom(100_000)
            state.store("blobs").load([key])[key] = value
            written[key] = value

    with pytest.raises(StateError, match=r"count_0.*disk is full.*nothing is lost"):
        fill()
    assert len(written) > 10
    with pytest.raises(StateError, match=r"count_0.*disk is full.*nothing is lost"):
        state.checkpoint("1", 1)
    backend.close()

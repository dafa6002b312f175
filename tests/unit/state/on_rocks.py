"""What a state machine of a backend's test does on RocksDB, where files survive a crash."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kstash.ports.state import StateBackend
from kstash.state.rocks import RocksBackend

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine as Machine
else:
    Machine = object


class OnRocks(Machine):
    """To be put before a machine: a crash is a new backend on the same folder."""

    backend: StateBackend
    memory_bytes: int

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kstash-state-"))

    def make_backend(self, memory_bytes: int) -> StateBackend:
        """A backend on the machine's folder."""
        return RocksBackend(self.folder, "app", topology_hash="h", memory_bytes=memory_bytes)

    def crash(self) -> None:
        """Lose everything but what is on disk (a test cannot kill its own process)."""
        self.backend.close()
        self.backend = self.make_backend(self.memory_bytes)

    def teardown(self) -> None:
        """Close what is open and delete the folder."""
        super().teardown()
        shutil.rmtree(self.folder, ignore_errors=True)

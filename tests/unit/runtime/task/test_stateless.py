"""A task without stores."""

from __future__ import annotations

import pytest

from kstash.core.records import FileEntry
from kstash.ports.state import TaskState
from kstash.runtime.task.stateless import NoState


def test_its_checkpoint_has_no_files() -> None:
    """What has no state can be checkpointed at any time without touching a disk."""
    state: TaskState = NoState()
    files: tuple[FileEntry, ...] = state.checkpoint("c1", 7)
    assert files == ()
    state.close()


def test_it_has_no_stores() -> None:
    """Asking it for a store is a mistake of the program, named."""
    with pytest.raises(AssertionError, match="words"):
        NoState().store("words")

"""The state of a task without stores: there is nothing to keep but its position.

A state backend would open a database, and sync its files at each checkpoint, for no entry at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.records import FileEntry
from kstash.ports.state import KeyValueStore, OrderedStore, StoreSize, Timers


class NoState:
    """`kstash.ports.state.TaskState` of a stage without stores."""

    def store(self, name: str) -> KeyValueStore:
        """There is none."""
        raise AssertionError(f"a stage without stores was asked for {name!r}")

    def ordered(self, name: str) -> OrderedStore:
        """There is none."""
        raise AssertionError(f"a stage without stores was asked for {name!r}")

    def timers(self, name: str) -> Timers:
        """There are none."""
        raise AssertionError(f"a stage without stores was asked for {name!r}")

    def sizes(self) -> Mapping[str, StoreSize]:
        """There are none."""
        return {}

    def write_ahead(self) -> bool:
        """There is nothing to write."""
        return False

    def checkpoint(self, label: str, position: int) -> tuple[FileEntry, ...]:  # noqa: ARG002 - as the port has it
        """The checkpoint is its record alone: it has no files, and no lost disk can take it."""
        return ()

    def close(self) -> None:
        """Nothing to let go of."""

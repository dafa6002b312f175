"""What a bounded run leaves: the state of this worker's tasks at the ends of their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstash.core.partitioner import Partitioner
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.layout import Layout
from kstash.topology.model import Stage


class GroupsFinalState:
    """`kstash.ports.state.FinalState` over the task groups of a worker, before they are closed."""

    def __init__(self, layout: Layout, groups: Mapping[int, TaskGroup]) -> None:
        self._layout = layout
        self._groups = groups

    def owns(self, store: str, key: Any) -> bool:
        """Whether this worker ran the task of a key.

        Raises:
            ConfigError: the application has no such store.
        """
        return self._place(store, key)[1] in self._groups

    def get(self, store: str, key: Any, default: Any = None) -> Any:
        """The final value of a key, or `default` when it was never seen or is owned elsewhere.

        Raises:
            ConfigError: the application has no such store.
        """
        stage, number, raw_key = self._place(store, key)
        group = self._groups.get(number)
        if group is None:
            return default
        value = group.tasks[stage.index].state.store(store).load([raw_key]).get(raw_key)
        return default if value is None else value

    def _place(self, store: str, key: Any) -> tuple[Stage, int, bytes]:
        stage, found = self._layout.topology.store(store)
        raw_key = found.key.serialize(key)
        return stage, Partitioner(self._layout.task_count(stage))[raw_key], raw_key

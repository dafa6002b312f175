"""What a bounded run leaves: the state of this worker's tasks at the ends of their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstash.runtime.group.group import TaskGroup
from kstash.runtime.layout import Layout
from kstash.runtime.worker.store_view import StoreView


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
        return self._view(store).owns(key)

    def get(self, store: str, key: Any, default: Any = None) -> Any:
        """The final value of a key, or `default` when it was never seen or is owned elsewhere.

        Raises:
            ConfigError: the application has no such store.
        """
        value = self._view(store).get(key)
        return default if value is None else value

    def _view(self, store: str) -> StoreView:
        return StoreView(self._layout, self._groups, store)

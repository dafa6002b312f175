"""What the stores of a worker hold, by the keys that users know; to read changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from kstash.core.partitioner import Partitioner
from kstash.operators.stream_time import time_of
from kstash.ports.state import StoreKind
from kstash.runtime.group.group import TaskGroup
from kstash.runtime.layout import Layout
from kstash.topology.model import store_of

_ALL_MS = (1 << 63) - 1


class StoreView:
    """One store of an application, over the tasks that this worker has.

    Args:
        layout: where tasks are.
        groups: the worker's task groups, by number.
        name: of the store.

    Raises:
        ConfigError: the application has no such store.
    """

    def __init__(self, layout: Layout, groups: Mapping[int, TaskGroup], name: str) -> None:
        self._stage, self._store = store_of(layout.topology, name)
        self._groups = groups
        self._partitioner = Partitioner(layout.task_count(self._stage))

    def owns(self, key: Any) -> bool:
        """Whether this worker has the task of a key, whether the key was ever seen or not."""
        return self._group(self._store.key.serialize(key)) in self._groups

    def get(self, key: Any) -> Any:
        """The value of a key; None: it is not there, or its task is not here."""
        encoded = self._store.key.serialize(key)
        group = self._groups.get(self._group(encoded))
        task = group.tasks.get(self._stage.index) if group is not None else None
        if task is None:
            return None
        found = task.state.store(self._store.name).peek([encoded]).get(encoded)
        return None if found is None else self._store.shown(found)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All entries, task by task, in the order of the encoded keys: reads whole stores.

        Of timers, in the order in which they are due: the times by (key, name). Of a store with the
        stream time of an operator: that by task, such as `count_0`, of those that have one.
        """
        for _, group in sorted(self._groups.items()):
            task = group.tasks.get(self._stage.index)
            if task is None:
                continue
            if self._store.is_time:
                at_ms = time_of(task.state, self._store.name)
                if at_ms is not None:
                    yield task.name, at_ms
            elif self._store.kind is StoreKind.TIMERS:
                for timer in task.state.timers(self._store.name).due(_ALL_MS, limit=sys.maxsize):
                    yield (self._store.key.deserialize(timer.key), timer.name), timer.at_ms
            else:
                for encoded, value in task.state.store(self._store.name).items():
                    yield self._store.key.deserialize(encoded), self._store.shown(value)

    def _group(self, encoded: bytes) -> int:
        """The number of the task group that has a key."""
        decides = self._store.key.partitioned_by
        return self._partitioner[encoded if decides is None else decides(encoded)]

"""Where keys of an input of others belong, and whether they are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kstash.core.partitioner import Partitioner
from kstash.errors import MisplacedKeyError
from kstash.operators.calls import encode_keys
from kstash.operators.flow import Flow
from kstash.operators.interleaved import Share
from kstash.operators.scope import TaskScope
from kstash.operators.slices import deciding
from kstash.topology.nodes import Node


@dataclass(frozen=True, slots=True)
class Home:
    """What keys an input of others has: those that its partitioner gives to partition `number`."""

    number: int
    partitioner: Partitioner


def misplaced(keys: Sequence[bytes | None], home: Home) -> int | None:
    """Index of the first key that belongs elsewhere; null keys are the operator's business."""
    where = home.partitioner
    if set(map(where.__getitem__, keys)) == {home.number}:
        return None
    return next(
        (i for i, key in enumerate(keys) if key is not None and where[key] != home.number), None
    )


class Homes:
    """Where the keys of what is under way belong (H56).

    Args:
        homes: by input index, of inputs of which nobody knows that they are spread as others are.
    """

    def __init__(self, homes: Mapping[int, Home]) -> None:
        self._homes = homes
        # Of the records under way: where they belong, and which they are; None: all of them.
        self._asked: list[tuple[Home, frozenset[int] | None]] = []

    def begin(self, shares: Sequence[Share]) -> None:
        """Records come in; none: nothing is asked."""
        homes = self._homes
        self._asked = [
            (homes[share.input], None if share.places is None else frozenset(share.places))
            for share in shares
            if share.input in homes
        ]

    def __bool__(self) -> bool:
        return bool(self._asked)

    def check(self, node: Node, flow: Flow, scope: TaskScope) -> Flow | None:
        """The flow, of which all keys belong here; a key elsewhere fails under any policy.

        Args:
            node: an operator with state, whose turn it is.
            flow: its records.
            scope: of the task.

        Raises:
            MisplacedKeyError: one does not; with its index in the stage's batch.
            SerdeError: a key cannot be encoded, and its record is not skipped.
        """
        serde = node.record_key
        left, keys = encode_keys(flow, serde, node.title, scope)
        if left is None:
            return None
        decisive = deciding(keys, serde.partitioned_by)
        found = min(self._misplaced(left, decisive), key=lambda it: it[0], default=None)
        if found is None:
            return left
        index, home = found
        raise MisplacedKeyError(
            node.title,
            scope.first + left.origin_of(index),
            key=keys[index],
            partition=home.number,
            needed=home.partitioner[decisive[index]],
        )

    def _misplaced(
        self, flow: Flow, decisive: Sequence[bytes | None]
    ) -> Iterator[tuple[int, Home]]:
        """Of each input the first record that belongs elsewhere."""
        for home, places in self._asked:
            where: Sequence[int] = range(flow.count)
            if places is not None:
                where = [index for index, at in enumerate(flow.origins()) if at in places]
            found = misplaced([decisive[index] for index in where], home)
            if found is not None:
                yield where[found], home

"""What all windows do with records first: those that belong to none are dropped, and counted."""

from __future__ import annotations

from typing import Any, Protocol

from kstash.operators.flow import Flow
from kstash.operators.keyed import keep_keyed
from kstash.operators.step import Scope, Stores
from kstash.operators.windows.unsent import Unsent
from kstash.topology.record import Late
from kstash.topology.traits import FlushReason
from kstash.topology.window_nodes import DROPS, LATE, WindowFold

TOO_LATE, NO_WINDOW = DROPS[2:]

Bounds = tuple[tuple[int, int], ...]
"""Windows: start and end of each, in Unix milliseconds."""


class WindowLogic(Protocol):
    """What one kind of windows does with the records of keys. It keeps all in stores.

    Attributes:
        unsent: results that wait for their interval; None: all are sent at once.
    """

    @property
    def unsent(self) -> Unsent | None:
        """See there."""

    def run(self, keys: list[bytes], flow: Flow, scope: Scope) -> None:
        """Process records in order; none may depend on where the batch ends.

        Args:
            keys: encoded, one for each record; never None.
            flow: the records, their times, and their values as far as the node reads them.
            scope: takes the results.
        """

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """Close what is closed at a time that no record brought; see `TimeStep`."""

    def idle_time_ms(self, stores: Stores) -> int | None:
        """The stream time that closes all open windows; None: none is open."""


class WindowStep:
    """Finds the keys of records, and gives those to the logic that are of a window."""

    def __init__(self, node: WindowFold[Any], logic: WindowLogic) -> None:
        self.label = node.title
        self.key_serde = node.record_key
        self.drops_nulls = node.drops_nulls
        self.logic = logic
        self.arrived = 0

    def run(self, side: int, flow: Flow, scope: Scope) -> None:  # noqa: ARG002 - one parent
        """Encode the keys; null keys are of no window, and null values of none but of counts."""
        self.arrived += flow.count
        left, keys = keep_keyed(
            flow, self.key_serde, self.label, scope, drops_nulls=self.drops_nulls
        )
        if left is not None:
            self.logic.run(keys, left, scope)

    def pass_time(self, time_ms: int, scope: Scope) -> None:
        """Time has come so far, and no record with it."""
        self.logic.pass_time(time_ms, scope)

    def wants_flush(self, why: FlushReason, stores: Stores) -> bool:
        """Whether windows are open that no record has closed; or whether results wait."""
        if why != "interval":
            return self.logic.idle_time_ms(stores) is not None
        unsent = self.logic.unsent
        return unsent is not None and unsent.are_there(stores)

    def flush(self, why: FlushReason, scope: Scope) -> None:
        """Close all windows, as no record comes; or send results that wait.

        Time stays where the first has moved it.
        """
        unsent = self.logic.unsent
        if why == "interval":
            assert unsent is not None
            unsent.send(scope)
        elif (time_ms := self.logic.idle_time_ms(scope.stores)) is not None:
            self.logic.pass_time(time_ms, scope)


def drop_late(flow: Flow, missed: list[Bounds], scope: Scope) -> None:
    """Count records that came too late for all of their windows, and hand them on as such.

    Args:
        flow: the records.
        missed: the windows of each; none where no window is around its time.
        scope: of the batch.
    """
    pairs = sum(map(len, missed))
    scope.dropped(TOO_LATE, pairs)
    scope.dropped(NO_WINDOW, missed.count(()))
    values = flow.values or [None] * flow.count
    scope.out(flow.with_values(list(map(Late, values, missed))), LATE)

"""The transaction coordinator of the in-memory Kafka: epochs, open transactions, positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kstash.errors import ProducerFailedError
from kstash.ports.kafka import Partition
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.log import Outcome, Transaction


@dataclass(slots=True)
class _Session:
    epoch: int = 0
    open: Transaction | None = None
    opened_s: float = 0.0


class TransactionCoordinator:
    """Fences producers by the epoch of their transactional id, and keeps committed positions.

    Attributes:
        timeout_s: a transaction that is open for longer is aborted, and its producer fenced; by
            default none ever is.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.timeout_s = math.inf
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self.positions: dict[tuple[str, Partition], str] = {}
        """Metadata last committed, by (consumer group, partition)."""

    def fence(self, transactional_id: str) -> int:
        """`init_transactions`: abort the open transaction and return a new, higher epoch."""
        session = self._sessions.setdefault(transactional_id, _Session())
        if session.open is not None:
            session.open.end(Outcome.ABORTED)
            session.open = None
        session.epoch += 1
        return session.epoch

    def time_out(self, transactional_id: str) -> None:
        """`transaction.timeout.ms` has passed: abort what is open and fence its producer."""
        self.fence(transactional_id)

    def begun(self, transactional_id: str, epoch: int, since_s: float) -> Transaction:
        """The open transaction of a producer; begins one, at `since_s`, when there is none.

        Raises:
            ProducerFailedError: a newer producer took over.
        """
        session = self._checked(transactional_id, epoch)
        if session.open is None:
            session.open = Transaction(transactional_id)
            session.opened_s = since_s
        return session.open

    def commit(
        self, transactional_id: str, epoch: int, position: tuple[str, Partition], metadata: str
    ) -> None:
        """Commit what is open, and the position with it.

        Raises:
            ProducerFailedError: a newer producer took over.
        """
        session = self._checked(transactional_id, epoch)
        if session.open is not None:
            session.open.end(Outcome.COMMITTED)
            session.open = None
        self.positions[position] = metadata

    def _checked(self, transactional_id: str, epoch: int) -> _Session:
        session = self._sessions[transactional_id]
        is_open = session.open is not None
        if is_open and self._clock.monotonic() > session.opened_s + self.timeout_s:
            self.time_out(transactional_id)
        if epoch != session.epoch:
            raise ProducerFailedError(
                f"transactional id {transactional_id!r}: epoch {epoch} is fenced by"
                f" {session.epoch}",
                is_fenced=True,
            )
        return session

"""When the transaction of a task group's sinks may be committed, and at which positions.

Invariants (protocol, section 7):

- a transaction with position `pos` of a task, with those before it, contains every sink output of
  the task up to `pos`, held ones too: in a replay the cap may hold an output although the lineage
  through its own position is stable, since its chunk reaches to the adopted end (H37, H42);
- it is committed only when the lineage topic is acknowledged through `pos` (H27);
- it ends where an event ends, however many parts that makes its outputs in;
- newer outputs are produced into the next transaction only after `switch`, when every record of
  the one being closed is acknowledged: so the order in each partition, and what a chunk relies on,
  are those of one producer. Transactions are committed in the order in which they were opened, each
  after its switch.

A group has two producers, so that the wait for stable lineage and for the commit holds nothing up
(decision 0012).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kstash.core.fields import number, tag
from kstash.errors import WireCorruptError

METADATA_BYTES_MAX = 4096
"""Kafka's default of `offset.metadata.max.bytes`."""

_VERSION = "1"
_LONG_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CommittedPositions:
    """What every commit of a group names, so that a successor knows which outputs are out.

    Attributes:
        generation: of the incarnation that commits: those of an earlier life of the lineage topic
            are none of ours.
        positions: by stage, of each task that writes sinks: all outputs up to it are committed.
    """

    generation: int
    positions: Mapping[int, int]

    def encode(self) -> str:
        """Return the metadata string of the committed offset."""
        table = ",".join(
            f"{stage}:{position}" for stage, position in sorted(self.positions.items())
        )
        return f"{_VERSION};{self.generation};{table}"

    @classmethod
    def bytes_max(cls, stages: Iterable[int]) -> int:
        """Size that the metadata of a group with sinks in these stages may grow to, in bytes."""
        return len(cls(_LONG_MAX, dict.fromkeys(stages, _LONG_MAX)).encode())

    @classmethod
    def newest(cls, answers: Iterable[str | None], generation: int) -> CommittedPositions | None:
        """The newest position of each task, of what was read after each initialisation (H28).

        A predecessor may commit by one producer until that one is barred too, so the answers may
        differ, and may be reported in another order than they were read. Positions only grow.

        Returns:
            None when nothing was committed under this generation of the lineage topic.

        Raises:
            WireCorruptError: an answer is not what `encode` gives.
        """
        newest: dict[int, int] | None = None
        for found in (cls.decode(answer) for answer in answers if answer):
            if found.generation == generation:
                newest = newest or {}
                for stage, position in found.positions.items():
                    newest[stage] = max(position, newest.get(stage, 0))
        return None if newest is None else cls(generation, newest)

    @classmethod
    def decode(cls, metadata: str) -> CommittedPositions:
        """Decode a metadata string.

        Raises:
            WireCorruptError: not what `encode` gives.
        """
        try:
            version, generation, table = metadata.split(";")
            pairs = [entry.split(":") for entry in table.split(",") if entry]
            positions = {number(int(stage)): number(int(position)) for stage, position in pairs}
            if version != _VERSION:
                raise WireCorruptError(f"committed position of version {version[:80]!r}")
            found = cls(tag(int(generation)), positions)
            if found.encode() != metadata:
                raise ValueError
        except ValueError as error:
            raise WireCorruptError(f"malformed committed position {metadata[:80]!r}") from error
        return found


class SinkTask(Protocol):
    """What the commit rule needs of a task (`core.task.TaskCore`)."""

    def is_held_through(self, position: int) -> bool:
        """Whether the cap holds a sink output of a position up to this one."""

    @property
    def stable(self) -> int:
        """End of the stable lineage."""

    @property
    def is_under_way(self) -> bool:
        """Whether the last event is, of which more outputs may come."""


class CommitState(enum.Enum):
    """The life of the transaction that is committed next."""

    OPEN = "open"
    CLOSING = "closing"
    COMMITTING = "committing"


class SinkCommitter:
    """The commit rule of one task group.

    The open transaction takes outputs; at most one other is being closed or committed. Positions
    are by stage, of all tasks with sinks.

    Attributes:
        state: of the transaction that is committed next; OPEN is the only one without another.
        committed: positions of the last commit; each only rises.
        is_fresh: nothing was committed yet; the first checkpoint waits for it (H33). Once false, it
            stays.
        is_switched: newer outputs go into the next transaction; the one being closed is complete.
            Never true while OPEN, always while COMMITTING.
    """

    def __init__(self, generation: int, positions: Mapping[int, int]) -> None:
        """Start from the committed positions of all tasks with sinks (0 where there is none)."""
        self.state = CommitState.OPEN
        self.committed = CommittedPositions(generation, dict(positions))
        # Position of the last output in the open transaction, of the tasks that have any there.
        self._sent: dict[int, int] = {}
        # Where the transaction that is closed or committed next ends, of all tasks: at `committed`
        # or beyond. While OPEN, where the last one ended.
        self._closing: dict[int, int] = dict(positions)
        # An empty transaction is committed too, once at the start and when positions may expire.
        self._is_refresh_due = self._is_closing_empty = True
        self.is_fresh = True
        self.is_switched = False
        self._check()

    def _check(self) -> None:
        """Assert what the fields promise of each other, at each change of the state."""
        assert self.is_switched or self.state is not CommitState.COMMITTING, "committed too early"
        assert not self.is_switched or self.state is not CommitState.OPEN, "nothing to switch from"
        committed = self.committed.positions
        assert self._closing.keys() == committed.keys(), "positions of other tasks"
        assert all(position >= committed[stage] for stage, position in self._closing.items())

    def admits(self, stage: int, position: int) -> bool:
        """Whether an output made at `position` may be produced now; if not, queue it.

        While closing, what the cap held back from this very transaction still goes in (H37).
        """
        if self.state is CommitState.OPEN or self.is_switched:
            return True
        return position <= self._closing[stage]

    def on_sent(self, stage: int, position: int) -> None:
        """An output was produced: into the open transaction, or the one being closed (H37)."""
        if self.state is CommitState.CLOSING and not self.is_switched:
            self._is_closing_empty = False
            return  # its position is at or below the closing one
        self._sent[stage] = max(self._sent.get(stage, 0), position)

    def refresh(self) -> None:
        """Let the next transaction commit even when it is empty (positions expire)."""
        self._is_refresh_due = True

    @property
    def is_settled(self) -> bool:
        """Whether no transaction, open or on its way to the commit, holds an output."""
        return not self._sent and (self.state is CommitState.OPEN or self._is_closing_empty)

    @property
    def is_due(self) -> bool:
        """Whether there is something to commit."""
        return self.state is CommitState.OPEN and (bool(self._sent) or self._is_refresh_due)

    def may_close(self, tasks: Mapping[int, SinkTask]) -> bool:
        """Whether the open transaction may end here: no event is under way; `tasks` by stage.

        Its outputs have one position. Once that is committed, a replay suppresses them all, and
        those that were to come would be lost.
        """
        return self.is_due and not any(task.is_under_way for task in tasks.values())

    def close(self) -> None:
        """Hold back newer outputs: the transaction ends at the last output sent per task."""
        assert self.is_due
        self.state = CommitState.CLOSING
        self._closing = {**self.committed.positions, **self._sent}
        self._is_closing_empty = not self._sent
        self._sent = {}
        self._is_refresh_due = False
        self._check()

    def may_switch(self, tasks: Mapping[int, SinkTask], unacked: int) -> bool:
        """Whether newer outputs may go on into the next transaction.

        Args:
            tasks: by stage.
            unacked: records of the transaction being closed that are not acknowledged.
        """
        if self.state is not CommitState.CLOSING or self.is_switched or unacked:
            return False
        # What the cap holds up to the closing positions belongs into this transaction.
        return not any(
            tasks[stage].is_held_through(position) for stage, position in self._closing.items()
        )

    def switch(self) -> None:
        """The transaction is complete: newer outputs go on into the next one."""
        assert self.state is CommitState.CLOSING
        assert not self.is_switched
        self.is_switched = True
        self._check()

    def may_commit(self, tasks: Mapping[int, SinkTask]) -> bool:
        """Whether the transaction being closed may be committed; `tasks` by stage."""
        return self.state is CommitState.CLOSING and self.is_switched and self.is_stable(tasks)

    def is_stable(self, tasks: Mapping[int, SinkTask]) -> bool:
        """Whether lineage is stable through the closing positions (H27); `tasks` by stage.

        A task that has nothing in the transaction is not waited for: its position was committed
        before, and while it replays it is below that, for as long as that takes (H59).
        """
        committed = self.committed.positions
        return all(
            tasks[stage].stable >= position
            for stage, position in self._closing.items()
            if position > committed.get(stage, 0)
        )

    def commit(self) -> str:
        """All outputs are in: start the commit and return its metadata."""
        assert self.state is CommitState.CLOSING
        assert self.is_switched
        self.state = CommitState.COMMITTING
        self._check()
        return CommittedPositions(self.committed.generation, self._closing).encode()

    def on_committed(self) -> Mapping[int, int]:
        """The commit is done; returns the committed positions per stage."""
        assert self.state is CommitState.COMMITTING
        self.state = CommitState.OPEN
        self.is_fresh = self.is_switched = False
        self.committed = CommittedPositions(self.committed.generation, self._closing)
        self._check()
        return self._closing

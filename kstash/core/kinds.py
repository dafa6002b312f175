"""What inputs and outputs are: said once, by the topology; all else about them follows."""

from __future__ import annotations

import enum


class InputKind(enum.Enum):
    """How an input's records are read."""

    FRAMES = "frames"
    """An internal topic: each Kafka record is a frame of logical ones, under the reader rule."""

    PLAIN = "plain"
    """A user topic, whose every committed record counts."""

    IMMEDIATE = "immediate"
    """Another application's immediate sink: read uncommitted, under the reader rule."""

    @property
    def is_ruled(self) -> bool:
        """Whether the reader rule decides which records count (`core.reader`)."""
        return self is not InputKind.PLAIN

    @property
    def is_uncommitted(self) -> bool:
        """Whether records are read before their transaction is committed."""
        return self is InputKind.IMMEDIATE


class OutputKind(enum.Enum):
    """What an output's records carry, and when they are there for good."""

    FRAMES = "frames"
    """An internal topic: frames of logical records, with an identity and lineage each."""

    IMMEDIATE = "immediate"
    """A user topic whose readers see records at once; each has an identity, the first lineage."""

    TRANSACTIONAL = "transactional"
    """A user topic whose readers see records with their commit, and without headers of ours."""

    @property
    def carries_lineage(self) -> bool:
        """Whether records carry lineage, so that recoveries scan the tail of the topic."""
        return self is not OutputKind.TRANSACTIONAL

    @property
    def counts_when_committed(self) -> bool:
        """Whether records leave in transactions, and are settled by their commit.

        Under the guarantees without transactions there is no commit to wait for: acknowledged is
        done.
        """
        return self is not OutputKind.FRAMES

"""Where the life of a task group on this worker stands."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """Life of a group on this worker, in this order; it goes on only."""

    RECOVERING = "recovering"
    LIVE = "live"
    DRAINING = "draining"
    RELEASING = "releasing"
    RELEASED = "released"

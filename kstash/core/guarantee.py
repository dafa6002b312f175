"""What a crash may do to results, and what keeps it from doing more."""

from __future__ import annotations

import enum


class Guarantee(enum.StrEnum):
    """The setting `guarantee`, in its spelling."""

    EXACTLY_ONCE = "exactly_once"
    """Outputs leave at once and carry the lineage that is not stable."""

    WRITE_FIRST = "write_first"
    """Outputs wait until their lineage is stable."""

    AT_LEAST_ONCE = "at_least_once"
    """Tasks restore their checkpoints and repeat outputs."""

    NONE = "none"
    """Nothing is restored: tasks begin anew."""

    @property
    def logs_lineage(self) -> bool:
        """Whether results are exact: lineage, fences, transactions, and the reader rule."""
        return self in (Guarantee.EXACTLY_ONCE, Guarantee.WRITE_FIRST)

    @property
    def recovers(self) -> bool:
        """Whether task groups are claimed and checkpointed at all."""
        return self is not Guarantee.NONE

    @property
    def sends_lineage(self) -> bool:
        """Whether outputs may carry lineage, so that they need not wait for it."""
        return self is Guarantee.EXACTLY_ONCE

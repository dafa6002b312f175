"""Where the time of a recovery goes, phase by phase."""

from __future__ import annotations

from kstash.core.group_state import GroupState

PHASES: dict[GroupState, str] = {
    GroupState.NEW: "claim",
    GroupState.READING: "claim",
    GroupState.CONFIGURING: "claim",
    GroupState.CLAIMING: "claim",
    GroupState.READING_CLAIM: "claim",
    GroupState.FENCING: "fence",
    GroupState.SEALING: "fence",
    GroupState.READING_SEAL: "scan",
    GroupState.READING_CONFIG: "scan",
    GroupState.VERIFYING: "restore",
    GroupState.SCANNING: "scan",
    GroupState.LOCATING: "start",
    GroupState.STARTING: "start",
    GroupState.REPLAYING: "replay",
}
"""Phase of the recovery metrics that each step belongs to."""


class PhaseTimes:
    """Seconds of each phase of one attempt.

    Args:
        now: monotonic seconds at which it begins.

    Attributes:
        seconds: of each phase, as far as it is over, by its name; they add up.
    """

    def __init__(self, now: float) -> None:
        self.seconds = dict.fromkeys(PHASES.values(), 0.0)
        self._since = now

    def charge(self, phase: str, now: float) -> float:
        """Put the time since the last such call down to a phase; returns the seconds."""
        seconds = now - self._since
        self.seconds[phase] += seconds
        self._since = now
        return seconds

"""Where a recovery of a task group is."""

from __future__ import annotations

import enum


class GroupState(enum.Enum):
    """Steps of a recovery, in order."""

    NEW = "new"
    READING = "reading the lineage"
    CONFIGURING = "configuring"
    CLAIMING = "claiming"
    READING_CLAIM = "reading to the claim"
    FENCING = "fencing"
    SEALING = "sealing"
    READING_SEAL = "reading to the seal"
    READING_CONFIG = "reading the config again"
    VERIFYING = "verifying checkpoints"
    SCANNING = "scanning"
    LOCATING = "locating skips"
    STARTING = "starting"
    REPLAYING = "replaying"
    LIVE = "live"

"""What the protocol's text calls the records of the lineage topic, by their class."""

from __future__ import annotations

from collections.abc import Mapping

from kstash.core.records import (
    BoundedRun,
    Checkpoint,
    Claim,
    Generation,
    Hint,
    LineageRecord,
    Release,
    Seal,
    Segment,
    Start,
)

WORDS: Mapping[type[LineageRecord], str] = {
    Generation: "config",
    Claim: "claim",
    Seal: "seal",
    Start: "start",
    BoundedRun: "run",
    Segment: "segment",
    Hint: "hint",
    Checkpoint: "checkpoint",
    Release: "release",
}

"""The fail points of records that are appended to the lineage topic, by their kind."""

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

APPENDS: Mapping[type[LineageRecord], str] = {
    Generation: "lineage.config.append",
    Claim: "lineage.claim.append",
    Seal: "lineage.seal.append",
    Start: "lineage.start.append",
    BoundedRun: "lineage.run.append",
    Segment: "lineage.segment.append",
    Hint: "lineage.hint.append",
    Checkpoint: "lineage.checkpoint.append",
    Release: "lineage.release.append",
}
"""Around the append, which only queues the record: it is on its way some time later."""

ACKS: Mapping[type[LineageRecord], str] = {
    Generation: "lineage.config.ack",
    Claim: "lineage.claim.ack",
    Seal: "lineage.seal.ack",
    Start: "lineage.start.ack",
    BoundedRun: "lineage.run.ack",
    Segment: "lineage.segment.ack",
    Hint: "lineage.hint.ack",
    Checkpoint: "lineage.checkpoint.ack",
    Release: "lineage.release.ack",
}
"""Around what follows from the acknowledgement: the record is in the topic."""

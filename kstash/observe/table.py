"""Every metric of kstash. Names get the prefix `kstash_`, counters end in `_total`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "kstash_"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: as the runtime says it, without prefix and `_total`.
        kind: counter, gauge or histogram (of seconds).
        text: what it says, for `# HELP`.
        labels: label names; every call gives exactly these.
        buckets: upper bounds in seconds, rising; for histograms only.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_FAST = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Work on the loop: a batch takes well under a millisecond, a pause above 0.1 s is felt."""

_ROUND_TRIP = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Answers of the cluster."""

_LATENCY = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0)
"""From a record's timestamp on: milliseconds when all is well, minutes after an outage."""

_RECOVERY = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)

METRICS = (
    # What flows
    MetricSpec("records_in", "counter", "Input records processed, replayed ones too.", ("stage",)),
    MetricSpec("records_out", "counter", "Output records handed to the producers.", ("stage",)),
    MetricSpec(
        "process_seconds",
        "histogram",
        "Time that a stage takes for a batch of input records.",
        ("stage",),
        _FAST,
    ),
    MetricSpec(
        "end_to_end_seconds",
        "histogram",
        "Age of the newest record of a batch (by its timestamp) when its outputs are handed over.",
        ("stage",),
        _LATENCY,
    ),
    MetricSpec(
        "input_lag_records",
        "gauge",
        "Offsets between the end of an input partition and the task that reads it.",
        ("topic", "partition"),
    ),
    MetricSpec(
        "input_margin_records",
        "gauge",
        "Offsets between an input partition's log start and the oldest retained checkpoint.",
        ("topic", "partition"),
    ),
    MetricSpec("task_position", "gauge", "Number of events that a task has processed.", ("task",)),
    MetricSpec("task_live", "gauge", "Whether a task is live (1) or recovering (0).", ("task",)),
    # Lineage
    MetricSpec("lineage_appended_entries", "counter", "Determinants sent to the lineage topic."),
    MetricSpec("lineage_appended_bytes", "counter", "Bytes of lineage sent to the lineage topic."),
    MetricSpec("lineage_acked_entries", "counter", "Determinants that the lineage topic has."),
    MetricSpec("lineage_acked_bytes", "counter", "Bytes of lineage that the lineage topic has."),
    MetricSpec("lineage_unacked_entries", "gauge", "Determinants not yet acknowledged."),
    MetricSpec("lineage_unacked_bytes", "gauge", "Bytes of lineage not yet acknowledged."),
    MetricSpec(
        "lineage_ack_seconds",
        "histogram",
        "Time from sending lineage to its acknowledgement.",
        (),
        _ROUND_TRIP,
    ),
    MetricSpec("tombstones", "counter", "Records of the lineage topic given up as covered."),
    MetricSpec("purged_offsets", "counter", "Offsets of internal topics deleted as covered."),
    MetricSpec("header_bytes", "counter", "Bytes of kstash headers on outputs.", ("stage",)),
    MetricSpec("stalls", "counter", "Times that inputs were paused to wait for acknowledgements."),
    # Recovery
    MetricSpec(
        "fenced",
        "counter",
        "Task groups given up: this worker lost its place, or another incarnation took them.",
    ),
    MetricSpec("recoveries", "counter", "Recoveries of task groups that went live."),
    MetricSpec(
        "recovery_seconds",
        "histogram",
        "Time of a task group from the process's start, or from its move here, to its going live.",
        (),
        _RECOVERY,
    ),
    MetricSpec(
        "recovery_phase_seconds",
        "histogram",
        "Time of the phases of a recovery: detect, claim, fence, scan, restore, start, replay.",
        ("phase",),
        _RECOVERY,
    ),
    MetricSpec("replayed_records", "counter", "Input records processed again.", ("stage",)),
    MetricSpec(
        "suppressed_outputs", "counter", "Outputs of a replay that were out already.", ("stage",)
    ),
    # State
    MetricSpec("state_memory_bytes", "gauge", "Estimated size of the live state in memory."),
    MetricSpec("checkpoints", "counter", "Checkpoints published in the lineage topic."),
    MetricSpec("checkpoint_bytes", "counter", "Bytes of the files of published checkpoints."),
    MetricSpec(
        "checkpoint_seconds",
        "histogram",
        "Time that processing stands still for a checkpoint.",
        (),
        _FAST,
    ),
    MetricSpec("checkpoints_remote", "counter", "Remote checkpoints published."),
    MetricSpec("checkpoint_uploads", "counter", "Checkpoints stored in the checkpoint store."),
    MetricSpec("checkpoint_upload_bytes", "counter", "Bytes of new files stored there."),
    MetricSpec(
        "checkpoint_upload_seconds",
        "histogram",
        "Time from the start of an upload to its end.",
        (),
        _RECOVERY,
    ),
    MetricSpec("checkpoint_upload_failures", "counter", "Uploads that failed and are tried again."),
    MetricSpec(
        "checkpoint_files_deleted", "counter", "Old files deleted from the checkpoint store."
    ),
    MetricSpec("restore_bytes", "counter", "Bytes fetched from the checkpoint store."),
    MetricSpec(
        "restore_seconds",
        "histogram",
        "Time of a task group's restore that fetched something.",
        (),
        _RECOVERY,
    ),
    MetricSpec(
        "restore_eta_seconds",
        "gauge",
        "Time that the restore of a task group will still take, at its speed so far.",
        ("group",),
    ),
    MetricSpec("commits", "counter", "Transactions of sinks committed."),
    MetricSpec("app_state", "gauge", "1 for the state that this worker is in, else 0.", ("state",)),
)

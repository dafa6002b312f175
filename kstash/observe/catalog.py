"""Every metric of kstash. Names get the prefix `kstash_`, counters end in `_total`."""

from __future__ import annotations

from kstash.observe.metric_spec import MetricSpec

METRIC_PREFIX = "kstash_"

_FAST = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Work on the loop: a batch takes well under a millisecond, a pause above 0.1 s is felt."""

_ROUND_TRIP = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Answers of the cluster."""

_LATENCY = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0)
"""From a record's timestamp on: milliseconds when all is well, minutes after an outage."""

_RECOVERY = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)

_COMMIT = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
"""Of a transaction: the broker aborts one that takes longer than its time-out, 10 s by default."""

METRICS = (
    MetricSpec(
        "build_info",
        "gauge",
        "1, of what runs here: kstash, Python, and the Kafka client's library.",
        ("version", "python", "client"),
    ),
    # What flows
    MetricSpec("records_in", "counter", "Input records processed, replayed ones too.", ("stage",)),
    MetricSpec("records_out", "counter", "Output records handed to the producers.", ("stage",)),
    MetricSpec(
        "records_dropped",
        "counter",
        "Input records that count for nothing: repeated, of a fenced writer, or skipped by a "
        "setting.",
        ("stage", "reason"),
    ),
    MetricSpec(
        "operator_errors",
        "counter",
        "Records that an operator's function or serde failed on, or no topic takes.",
        ("stage", "operator"),
    ),
    MetricSpec(
        "operator_dropped_records",
        "counter",
        "Records that an operator left out, by why; those of a replay were counted before.",
        ("stage", "operator", "reason"),
    ),
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
        "stream_time_seconds",
        "gauge",
        "Greatest timestamp of the last record of a batch that a task has processed (Unix time).",
        ("task",),
    ),
    MetricSpec(
        "stream_time_delay_seconds", "gauge", "How far that is behind the clock.", ("task",)
    ),
    MetricSpec("time_held_seconds", "gauge", "How far time is behind its newest input.", ("task",)),
    MetricSpec(
        "operator_time_seconds",
        "gauge",
        "Stream time of an operator in a task (Unix time).",
        ("task", "operator"),
    ),
    MetricSpec(
        "operator_time_delay_seconds",
        "gauge",
        "How far that is behind the clock; below 0 it is ahead, as after a record of the future.",
        ("task", "operator"),
    ),
    MetricSpec(
        "input_lag_records",
        "gauge",
        "Offsets between the stable end of an input partition and the task that reads it; 0 when "
        "it has read everything.",
        ("topic", "partition"),
    ),
    MetricSpec(
        "input_lag_seconds",
        "gauge",
        "How long the oldest record that is not processed has been waiting, at most; 0 when the "
        "task has read everything.",
        ("topic", "partition"),
    ),
    MetricSpec(
        "input_margin_records",
        "gauge",
        "Offsets between an input partition's log start and the oldest retained checkpoint.",
        ("topic", "partition"),
    ),
    MetricSpec(
        "input_awaited_seconds",
        "gauge",
        "How long a task that takes its inputs in the order of their times has waited for this one "
        "while others have records; 0 when it does not.",
        ("topic", "partition"),
    ),
    MetricSpec("task_position", "gauge", "Number of events that a task has processed.", ("task",)),
    MetricSpec("task_live", "gauge", "Whether a task is live (1) or recovering (0).", ("task",)),
    MetricSpec(
        "task_stalled_seconds",
        "gauge",
        "How long a task has had work and made no progress; 0 else.",
        ("task",),
    ),
    MetricSpec(
        "loop_stalled_seconds",
        "gauge",
        "Time since the worker's loop has turned; a function that does not return holds it up.",
    ),
    MetricSpec(
        "group_waiting_seconds",
        "gauge",
        "How long a task group that this worker should own has not been live; 0 else.",
        ("group",),
    ),
    MetricSpec(
        "group_idle_seconds",
        "gauge",
        "For how long of that nothing has moved, no restore and no replay: what `/livez` judges "
        "by; 0 else.",
        ("group",),
    ),
    MetricSpec(
        "group_restarts", "counter", "Times that a task group started over here.", ("group",)
    ),
    MetricSpec("task_groups", "gauge", "Task groups of the application, all workers together."),
    MetricSpec(
        "rebalances",
        "counter",
        "Times that the membership gave this worker task groups, or took some.",
    ),
    # Lineage
    MetricSpec("lineage_appended_entries", "counter", "Determinants sent to the lineage topic."),
    MetricSpec("lineage_appended_bytes", "counter", "Bytes of lineage sent to the lineage topic."),
    MetricSpec("lineage_acked_entries", "counter", "Determinants that the lineage topic has."),
    MetricSpec("lineage_acked_bytes", "counter", "Bytes of lineage that the lineage topic has."),
    MetricSpec("lineage_unacked_entries", "gauge", "Determinants not yet acknowledged."),
    MetricSpec("lineage_unacked_bytes", "gauge", "Bytes of lineage not yet acknowledged."),
    MetricSpec(
        "lineage_oldest_unacked_seconds",
        "gauge",
        "Age of the oldest lineage that is not acknowledged; 0 when all is.",
    ),
    MetricSpec(
        "lineage_ack_seconds",
        "histogram",
        "Time from sending lineage to its acknowledgement.",
        (),
        _ROUND_TRIP,
    ),
    MetricSpec("tombstones", "counter", "Records of the lineage topic given up as covered."),
    MetricSpec("purged_offsets", "counter", "Offsets of internal topics deleted as covered."),
    MetricSpec(
        "producer_queue_records",
        "gauge",
        "Kafka records of all producers that are not acknowledged, or wait for a commit.",
    ),
    MetricSpec(
        "producer_queue_bytes",
        "gauge",
        "Bytes of outputs and lineage that are made and not acknowledged.",
    ),
    MetricSpec("header_bytes", "counter", "Bytes of kstash headers on outputs.", ("stage",)),
    MetricSpec("stalls", "counter", "Times that inputs were paused to wait for acknowledgements."),
    # Recovery
    MetricSpec(
        "fenced",
        "counter",
        "Task groups given up: this worker lost its membership, or another incarnation took them.",
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
    MetricSpec("state_entries", "gauge", "Estimated number of entries of a store.", ("store",)),
    MetricSpec(
        "state_bytes",
        "gauge",
        "Estimated bytes of a store on this disk; what is only in memory is not in it.",
        ("store",),
    ),
    MetricSpec(
        "windows_open",
        "gauge",
        "Estimated number of windows of an operator that are not closed.",
        ("stage", "operator"),
    ),
    MetricSpec(
        "timers_pending",
        "gauge",
        "Estimated number of timers of an operator that are set.",
        ("stage", "operator"),
    ),
    MetricSpec(
        "wall_timers_pending",
        "gauge",
        "Estimated number of timers of the wall clock of an operator that are set.",
        ("stage", "operator"),
    ),
    MetricSpec(
        "wall_timers_late_seconds", "gauge", "How late wall timers are.", ("stage", "operator")
    ),
    MetricSpec("checkpoints", "counter", "Checkpoints published in the lineage topic."),
    MetricSpec("checkpoint_bytes", "counter", "Bytes of the files of published checkpoints."),
    MetricSpec(
        "checkpoint_seconds",
        "histogram",
        "Time that processing stands still for a checkpoint, after what was written ahead.",
        (),
        _FAST,
    ),
    MetricSpec(
        "checkpoint_age_seconds",
        "gauge",
        "How much time of a task's work is in no published checkpoint; 0 when one has all of it.",
        ("task",),
    ),
    MetricSpec(
        "checkpoint_remote_age_seconds",
        "gauge",
        "The same for checkpoints that outlive this machine.",
        ("task",),
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
        "restore_remaining_bytes",
        "gauge",
        "Bytes that the restore of a task group has still to fetch; 0 when none is under way.",
        ("group",),
    ),
    MetricSpec(
        "restore_eta_seconds",
        "gauge",
        "Time that the restore of a task group will still take, at its speed so far.",
        ("group",),
    ),
    MetricSpec("commits", "counter", "Transactions of sinks committed."),
    MetricSpec(
        "commit_seconds",
        "histogram",
        "Time from closing a transaction of sinks to its commit, acknowledgements included.",
        (),
        _COMMIT,
    ),
    # The client
    MetricSpec(
        "broker_connections",
        "gauge",
        "Connections of this worker's producers and reader to brokers: up, connecting, down (also "
        "of brokers that were known when all connections were lost), or idle (not needed yet).",
        ("state",),
    ),
    MetricSpec(
        "broker_round_trip_seconds",
        "summary",
        "Time that a broker takes to answer a producer, over the last ten seconds.",
        ("broker", "quantile"),
    ),
    MetricSpec("app_state", "gauge", "1 for the state that this worker is in, else 0.", ("state",)),
)

OF_SUPERVISOR = (
    MetricSpec("worker_up", "gauge", "Whether a worker answers its supervisor.", ("worker",)),
    MetricSpec(
        "worker_restarts",
        "counter",
        "Times that a worker's process was started again.",
        ("worker",),
    ),
)
"""Of a supervisor's endpoint, beside those of its workers."""

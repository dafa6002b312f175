"""The panels of the dashboard with their queries, row by row.

A new metric gets its panel here; `python -m deploy.make_dashboard` writes the JSON anew.
"""

from __future__ import annotations

from deploy.queries import BY_WORKER, HERE, WORKER, Panel, Query, Row, halves, largest, rate, total
from deploy.time_panels import TIME

OVERVIEW = Row(
    "Is it well?",
    [
        Panel(
            "Workers live",
            "Workers whose task groups are all live. See the runbook for KstashNotRunning.",
            [Query(f'sum(kstash_app_state{{state="live",{HERE[1:]})', "live")],
            kind="stat",
        ),
        Panel(
            "Greatest lag",
            "How long the oldest record that was not processed has waited, in any partition.",
            [Query(f"max(kstash_input_lag_seconds{HERE})", "lag")],
            unit="s",
            kind="stat",
            warn=60,
        ),
        Panel(
            "Tasks that stand still",
            "Tasks that have had work for a minute and made no progress.",
            [Query(f"count(kstash_task_stalled_seconds{HERE} > 60) or vector(0)", "tasks")],
            kind="stat",
            warn=1,
        ),
        Panel(
            "State of each worker",
            "Starting, recovering, live or stopping.",
            [
                Query(
                    f"max by (instance, worker, state) (kstash_app_state{HERE}) == 1",
                    "{{instance}} {{worker}} {{state}}",
                )
            ],
            kind="state-timeline",
            thirds=2,
        ),
        Panel(
            "Supervised workers",
            "Those that answer their supervisor, and starts after a death.",
            [
                Query(f"sum by (instance) (kstash_worker_up{HERE})", "{{instance}} answer"),
                Query(
                    f"sum by (instance) (increase(kstash_worker_restarts_total{HERE}[5m]))",
                    "{{instance}} started again",
                ),
            ],
        ),
        Panel(
            "Versions",
            "More than one in an application: a deployment is under way, or was left half done.",
            [
                Query(
                    f"count by (version, python, client) (kstash_build_info{HERE})",
                    "kstash {{version}}, Python {{python}}, client {{client}}",
                )
            ],
        ),
    ],
)

FLOW = Row(
    "Flow",
    [
        Panel(
            "Records in",
            "Processed by stage, replayed ones too.",
            [Query(rate("kstash_records_in_total", "stage"), "{{stage}}")],
            unit="cps",
        ),
        Panel(
            "Records out",
            "Handed to the producers by stage.",
            [Query(rate("kstash_records_out_total", "stage"), "{{stage}}")],
            unit="cps",
        ),
        Panel(
            "Records dropped, errors",
            "What was passed over, by reason; errors of functions by operator.",
            [
                Query(
                    rate("kstash_records_dropped_total", "stage, reason"), "{{stage}} {{reason}}"
                ),
                Query(
                    rate("kstash_operator_errors_total", "stage, operator"),
                    "error {{stage}} {{operator}}",
                ),
            ],
            unit="cps",
        ),
        Panel(
            "Lag in time",
            "By topic, internal ones too: the stage that reads the topic with the lag is slow.",
            [Query(largest("kstash_input_lag_seconds", "topic"), "{{topic}}")],
            unit="s",
        ),
        Panel(
            "Lag in records",
            "By topic, over all partitions. An autoscaler goes by the sum of all.",
            [Query(total("kstash_input_lag_records", "topic"), "{{topic}}")],
        ),
        Panel(
            "Partitions that lag most",
            "One that stands out has a key with most of the records.",
            [
                Query(
                    f"topk(5, {largest('kstash_input_lag_records', 'topic, partition')})",
                    "{{topic}}/{{partition}}",
                )
            ],
        ),
        Panel(
            "End to end",
            "Age of the newest record of a batch when its outputs are handed over.",
            halves("kstash_end_to_end_seconds", "stage"),
            unit="s",
        ),
        Panel(
            "Time of a batch",
            "How long a stage takes for one.",
            halves("kstash_process_seconds", "stage"),
            unit="s",
        ),
        Panel(
            "Stream time behind the clock",
            "The greatest timestamp that a task has processed, against now.",
            [Query(largest("kstash_stream_time_delay_seconds", "task"), "{{task}}")],
            unit="s",
        ),
        Panel(
            "Stalls",
            "Inputs paused until Kafka has acknowledged; tasks that make no progress.",
            [
                Query(rate("kstash_stalls_total", BY_WORKER), WORKER),
                Query(largest("kstash_task_stalled_seconds", "task") + " > 0", "{{task}} s"),
                Query(largest("kstash_loop_stalled_seconds", BY_WORKER) + " > 1", WORKER + " s"),
            ],
        ),
        Panel(
            "Commits",
            "Transactions of sinks in a second.",
            [Query(rate("kstash_commits_total", BY_WORKER), WORKER)],
            unit="cps",
        ),
        Panel(
            "Time of a commit",
            "Readers with read_committed see outputs that much later.",
            halves("kstash_commit_seconds"),
            unit="s",
        ),
    ],
)

LINEAGE = Row(
    "Lineage",
    [
        Panel(
            "Unacknowledged bytes",
            "Lineage that outputs carry with them. At stash_bytes_max inputs are paused.",
            [Query(total("kstash_lineage_unacked_bytes", BY_WORKER), WORKER)],
            unit="bytes",
        ),
        Panel(
            "Oldest unacknowledged",
            "At lineage_ack_timeout_ms inputs are paused.",
            [Query(largest("kstash_lineage_oldest_unacked_seconds", BY_WORKER), WORKER)],
            unit="s",
        ),
        Panel(
            "Time to acknowledge",
            "From sending lineage to its acknowledgement.",
            halves("kstash_lineage_ack_seconds"),
            unit="s",
        ),
        Panel(
            "Lineage written",
            "Bytes sent to the lineage topic, and acknowledged.",
            [
                Query(rate("kstash_lineage_appended_bytes_total", "job"), "sent"),
                Query(rate("kstash_lineage_acked_bytes_total", "job"), "acknowledged"),
            ],
            unit="Bps",
        ),
        Panel(
            "Headers of outputs",
            "Bytes of kstash headers on outputs, by stage.",
            [Query(rate("kstash_header_bytes_total", "stage"), "{{stage}}")],
            unit="Bps",
        ),
        Panel(
            "Trimming",
            "Records of the lineage topic given up, offsets of internal topics purged.",
            [
                Query(rate("kstash_tombstones_total", "job"), "tombstones"),
                Query(rate("kstash_purged_offsets_total", "job"), "purged offsets"),
            ],
            unit="cps",
        ),
    ],
)

RECOVERY = Row(
    "Recovery",
    [
        Panel(
            "Recoveries, rebalances, fenced",
            "Those that rise without a deployment: workers taken for dead.",
            [
                Query(
                    f"sum(increase(kstash_recoveries_total{HERE}[$__rate_interval]))", "recoveries"
                ),
                Query(
                    f"max(increase(kstash_rebalances_total{HERE}[$__rate_interval]))", "rebalances"
                ),
                Query(f"sum(increase(kstash_fenced_total{HERE}[$__rate_interval]))", "fenced"),
            ],
        ),
        Panel(
            "Time of a recovery",
            "From the process's start, or the group's move, to its going live.",
            halves("kstash_recovery_seconds"),
            unit="s",
        ),
        Panel(
            "Where its time went",
            "Mean of each phase.",
            [
                Query(
                    rate("kstash_recovery_phase_seconds_sum", "phase")
                    + " / "
                    + rate("kstash_recovery_phase_seconds_count", "phase"),
                    "{{phase}}",
                )
            ],
            unit="s",
        ),
        Panel(
            "Tasks live",
            "Falls while task groups move or recover.",
            [Query(f"sum by (instance, worker) (kstash_task_live{HERE})", WORKER)],
        ),
        Panel(
            "Groups that wait",
            "How long a task group that a worker should have has not been live.",
            [Query(largest("kstash_group_waiting_seconds", "group") + " > 0", "group {{group}}")],
            unit="s",
        ),
        Panel(
            "Groups that stand still",
            "How long neither a restore nor a replay has moved: what alerts and /livez judge by.",
            [
                Query(largest("kstash_group_idle_seconds", "group") + " > 0", "group {{group}}"),
                Query(
                    f"sum by (group) (increase(kstash_group_restarts_total{HERE}[5m])) > 0",
                    "group {{group}} started over",
                ),
            ],
        ),
        Panel(
            "Groups live or recovering",
            "Task groups that are live, or whose recovery makes progress, of all task groups.",
            [
                Query(f"max(kstash_task_groups{HERE})", "all"),
                Query(
                    f"count(min by (group) (kstash_group_idle_seconds{HERE}) < 120)",
                    "with progress",
                ),
            ],
        ),
        Panel(
            "Replayed and suppressed",
            "Input records made again, and outputs of them that were out already.",
            [
                Query(rate("kstash_replayed_records_total", "stage"), "replayed {{stage}}"),
                Query(rate("kstash_suppressed_outputs_total", "stage"), "suppressed {{stage}}"),
            ],
            unit="cps",
        ),
        Panel(
            "Restore still to come",
            "What a task group still has to fetch from the checkpoint store.",
            [Query(largest("kstash_restore_remaining_bytes", "group"), "group {{group}}")],
            unit="bytes",
        ),
        Panel(
            "Restore will take",
            "At the speed so far.",
            [Query(largest("kstash_restore_eta_seconds", "group"), "group {{group}}")],
            unit="s",
        ),
        Panel(
            "Time of a restore, bytes fetched",
            "Of task groups that fetched something.",
            [
                *halves("kstash_restore_seconds"),
                Query(rate("kstash_restore_bytes_total", "job"), "bytes/s"),
            ],
        ),
    ],
)

STATE = Row(
    "State and checkpoints",
    [
        Panel(
            "Keys by store",
            "Entries of each store, all tasks together.",
            [Query(total("kstash_state_entries", "store"), "{{store}}")],
        ),
        Panel(
            "State by store",
            "Bytes of each store, all tasks together.",
            [Query(total("kstash_state_bytes", "store"), "{{store}}")],
            unit="bytes",
        ),
        Panel(
            "State in memory",
            "Estimated; state_memory_bytes bounds it.",
            [Query(total("kstash_state_memory_bytes", BY_WORKER), WORKER)],
            unit="bytes",
        ),
        Panel(
            "Age of the newest checkpoint",
            "What a crash would have replayed.",
            [Query(largest("kstash_checkpoint_age_seconds", "task"), "{{task}}")],
            unit="s",
        ),
        Panel(
            "Age of the newest remote checkpoint",
            "What a lost disk would have replayed.",
            [Query(largest("kstash_checkpoint_remote_age_seconds", "task"), "{{task}}")],
            unit="s",
        ),
        Panel(
            "Retention margin",
            "Records between an input's start and the oldest retained checkpoint. Never below 0.",
            [
                Query(
                    "min by (topic, partition) (kstash_input_margin_records" + HERE + ")",
                    "{{topic}}/{{partition}}",
                )
            ],
        ),
        Panel(
            "Checkpoints",
            "Published, stored remotely, and uploads that failed, each second.",
            [
                Query(rate("kstash_checkpoints_total", "job"), "published"),
                Query(rate("kstash_checkpoints_remote_total", "job"), "remote"),
                Query(rate("kstash_checkpoint_upload_failures_total", "job"), "failed uploads"),
                Query(rate("kstash_checkpoint_files_deleted_total", "job"), "files deleted"),
            ],
            unit="cps",
        ),
        Panel(
            "Processing stands still for a checkpoint",
            "Part of every latency.",
            [*halves("kstash_checkpoint_seconds")],
            unit="s",
        ),
        Panel(
            "Uploads",
            "Bytes of checkpoints published and of new files stored.",
            [
                Query(rate("kstash_checkpoint_bytes_total", "job"), "published"),
                Query(rate("kstash_checkpoint_upload_bytes_total", "job"), "stored"),
            ],
            unit="Bps",
        ),
        Panel(
            "Time of an upload",
            "Above checkpoint_interval_ms: the store or the bandwidth is the bound.",
            halves("kstash_checkpoint_upload_seconds"),
            unit="s",
        ),
    ],
)

CLIENT = Row(
    "Kafka client and process",
    [
        Panel(
            "Producer queue",
            "Records that no broker has acknowledged.",
            [Query(total("kstash_producer_queue_records", BY_WORKER), WORKER)],
        ),
        Panel(
            "Producer queue, bytes",
            "Above 64 MiB no further batch begins.",
            [Query(total("kstash_producer_queue_bytes", BY_WORKER), WORKER)],
            unit="bytes",
        ),
        Panel(
            "Broker connections",
            "By state, over all clients.",
            [Query(total("kstash_broker_connections", "state"), "{{state}}")],
        ),
        Panel(
            "Round trips",
            "Of requests to each broker: one that stands out is slow, or far.",
            [
                Query(
                    largest("kstash_broker_round_trip_seconds", "broker, quantile"),
                    "{{broker}} {{quantile}}",
                )
            ],
            unit="s",
        ),
        Panel(
            "CPU",
            "Cores that each process uses; one is the most for functions in Python.",
            [Query(rate("process_cpu_seconds_total", BY_WORKER), WORKER)],
        ),
        Panel(
            "Memory",
            "Resident, of each process.",
            [Query(largest("process_resident_memory_bytes", BY_WORKER), WORKER)],
            unit="bytes",
        ),
        Panel(
            "Open files",
            "Of those that the process may have.",
            [
                Query(
                    f"max by (instance, worker) (process_open_fds{HERE} / process_max_fds{HERE})",
                    WORKER,
                )
            ],
            unit="percentunit",
        ),
        Panel(
            "Garbage collections",
            "Each second, by generation.",
            [Query(rate("python_gc_collections_total", "generation"), "generation {{generation}}")],
            unit="cps",
        ),
    ],
)

ROWS = (OVERVIEW, FLOW, TIME, LINEAGE, RECOVERY, STATE, CLIENT)

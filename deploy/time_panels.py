"""The panels of operators that go by time; see `deploy.panels`."""

from __future__ import annotations

from deploy.queries import HERE, Panel, Query, Row, largest, rate, total

TIME = Row(
    "Time, windows and timers",
    [
        Panel(
            "Stream time of operators behind the clock",
            "Of those that go by time, in the slowest task. Below 0: a record of the future came.",
            [
                Query(largest("kstash_operator_time_delay_seconds", "operator"), "{{operator}}"),
                Query(
                    f"min by (operator) (kstash_operator_time_delay_seconds{HERE}) < 0",
                    "{{operator}} ahead",
                ),
            ],
            unit="s",
        ),
        Panel(
            "Time held back",
            "How far time is behind the newest that a task was given: one partition holds it back. "
            "kstash time says which, and why.",
            [Query(largest("kstash_time_held_seconds", "task"), "{{task}}")],
            unit="s",
        ),
        Panel(
            "Windows open, timers pending",
            "Estimated. A rise without an end: time stands still, or the grace is long.",
            [
                Query(total("kstash_windows_open", "operator"), "{{operator}} windows"),
                Query(total("kstash_timers_pending", "operator"), "{{operator}} timers"),
                Query(total("kstash_wall_timers_pending", "operator"), "{{operator}} wall timers"),
            ],
        ),
        Panel(
            "Timers of the wall clock late",
            "How long the first one has been due: the task is down, behind, or does not keep up.",
            [Query(largest("kstash_wall_timers_late_seconds", "operator"), "{{operator}}")],
            unit="s",
        ),
        Panel(
            "Inputs awaited",
            "For how long a task that merges by time has waited for one input while others have "
            "records.",
            [Query(largest("kstash_input_awaited_seconds", "topic"), "{{topic}}")],
            unit="s",
        ),
        Panel(
            "Records dropped by operators",
            "By why: late for all their windows, too far ahead, without a key.",
            [
                Query(
                    rate("kstash_operator_dropped_records_total", "operator, reason"),
                    "{{operator}} {{reason}}",
                )
            ],
            unit="cps",
        ),
    ],
)

"""Knobs under which a hole is met often: directed schedules for the rare ones."""

from __future__ import annotations

from collections.abc import Mapping

Shape = Mapping[str, object]
"""Knobs to fix, by name."""

RECREATED: Shape = {
    "rate_recreate": 1.0,
    "rate_purge": 0.0,
    "has_finale": False,
}

ZOMBIES: Shape = {
    "rate_follow": 0.03,
    "rate_move": 0.05,
    "rate_checkpoint": 0.2,
    "rate_remote": 1.0,
    "rate_flush": 0.9,
}

SLOW_ZOMBIES: Shape = {
    "slow_kinds": "data",
    "slow_worker": 0,
    "rate_follow": 0.03,
    "rate_move": 0.05,
    "rate_hint": 0.5,
    "rate_flush": 0.9,
    "rate_checkpoint": 0.02,
    "sparse": (1, 1),
}

IDLE_SUCCESSORS: Shape = {
    **SLOW_ZOMBIES,
    "slow_worker": -1,
    "rate_hint": 0.9,
    "rate_land": 0.9,
    "rate_crash": 0.03,
    "sparse": (4, 1),
    "steps": 160,
    "rate_recreate": 0.0,
}

BRANCHES: Shape = {
    "sparse": (1, 8),
    "programs": ((True, False, False, False), (False, True, False, False)),
    "rate_remote": 0.1,
    "rate_checkpoint": 0.2,
    "rate_move": 0.05,
    "rate_disk_loss": 0.0,
    "rate_commit": 0.8,
}

SELDOM_FLUSHED: Shape = {
    "programs": ((True, True, False, False), (True, False, True, True)),
    "sparse": (1, 1),
    "second_sink": "immediate",
    "rate_flush": 0.1,
    "rate_hint": 0.5,
    "rate_commit": 0.1,
    "rate_crash": 0.03,
    "rate_checkpoint": 0.02,
    "header_bytes_max": 4096,
}

HELD: Shape = {
    "first_inputs": ("first", "second"),
    "first_sink": "both",
    "header_bytes_max": 16,
    "segment_entries_max": 2,
    "slow_kinds": "lineage",
    "slow_worker": -1,
    "sparse": (1, 4),
    "rate_flush": 0.1,
    "rate_commit": 0.8,
    "rate_crash": 0.06,
    "rate_checkpoint": 0.02,
    "rate_hint": 0.02,
    "rate_recreate": 0.0,
    "switches": True,
}
"""Replays of more lineage than the cap, some of it stable, with outputs that carry none."""

HANDED_ON: Shape = {
    "programs": ((True, True, False, False), (False, True, False, False)),
    "sparse": (1, 2),
    "rate_hint": 0.5,
    "rate_commit": 0.1,
    "rate_crash": 0.06,
    "rate_checkpoint": 0.02,
}

PURGED: Shape = {
    "first_inputs": ("first", "second"),
    "programs": ((True, True, False, False), (False, True, False, False)),
    "first_sink": "",
    "rate_flush": 0.03,
    "rate_purge": 0.4,
    "rate_checkpoint": 0.5,
    "rate_remote": 1.0,
    "rate_crash": 0.06,
    "rate_recreate": 0.0,
    "rate_land": 0.9,
    "rate_commit": 0.8,
    "header_bytes_max": 4096,
}

IMPLICIT: Shape = {
    "first_inputs": ("first",),
    "programs": ((False, True, False, False), (True, True, False, True)),
    "sparse": (4, 2),
    "rate_crash": 0.06,
    "rate_checkpoint": 0.02,
    "rate_hint": 0.5,
}

RECORDS_ONLY: Shape = {
    "programs": ((False, True, False, False), (False, True, False, False)),
    "events": ((False, False, False), (False, False, False)),
    "merges": False,
    "beside": (),
    "calls": (False, False),
    "has_releases": False,
}
"""For holes that are met seldom: nothing else than records, and tasks of one input log nothing."""

PURGED_AND_DAMAGED: Shape = {
    **IMPLICIT,
    **RECORDS_ONLY,
    "first_sink": "",
    "rate_hint": 0.0,
    "rate_recreate": 0.0,
    "is_bounded": False,
    "has_finale": True,
}

LATE_ENDS: Shape = {
    "is_bounded": True,
    "rate_hint": 0.02,
    "input_count": 12,
    "steps": 160,
    "rate_recreate": 0.0,
}

EXPLICIT_ENDS: Shape = {
    **LATE_ENDS,
    "first_inputs": ("first", "second"),
    "programs": ((True, True, True, True), (False, False, False, False)),
    "sparse": (4, 1),
    "rate_crash": 0.06,
    "rate_flush": 0.1,
    "rate_checkpoint": 0.02,
    "rate_land": 0.9,
}

ENDS: Shape = {
    "is_bounded": True,
    "slow_kinds": "data",
    "rate_follow": 0.03,
    "rate_move": 0.05,
    "input_count": 12,
    "steps": 160,
}

SLOW_DATA: Shape = {**ZOMBIES, "slow_kinds": "data"}

TRIMMED: Shape = {**ZOMBIES, "rate_compact": 0.1, "has_loss": True}

TRIMMED_CLAIMS: Shape = {
    **ZOMBIES,
    "first_sink": "",
    "sparse": (1, 8),
    "slow_kinds": "lineage",
    "slow_worker": 0,
    "rate_compact": 0.1,
    "rate_commit": 0.8,
    "rate_land": 0.9,
    "rate_hint": 0.9,
    "rate_crash": 0.0,
    "rate_recreate": 0.0,
    "has_loss": True,
    "is_bounded": False,
    "steps": 240,
    "input_count": 60,
}
"""Zombies that commit nothing, and so do not notice; their checkpoints are late."""

HALF_CLEANED: Shape = {**TRIMMED_CLAIMS, "rate_compact": 0.03, "rate_purge": 0.4}

LOST_DISKS: Shape = {
    "rate_checkpoint": 0.2,
    "rate_remote": 0.3,
    "rate_follow": 0.6,
    "rate_flush": 0.9,
    "rate_commit": 0.8,
    "rate_land": 0.9,
    "has_loss": True,
}

IMPLICIT_ENDS: Shape = {**IMPLICIT, **LATE_ENDS}

HEADERLESS: Shape = {
    "first_sink": "transactional",
    "second_sink": "transactional",
    "rate_commit": 0.8,
    "rate_move": 0.05,
    "rate_crash": 0.03,
    "rate_follow": 0.03,
    "switches": True,
}
"""Plain sinks only, so that nothing but the committed position says what was seen."""

TAKEN_OVER: Shape = {
    "first_inputs": ("first", "second"),
    "rate_checkpoint": 0.2,
    "rate_remote": 0.3,
    "rate_crash": 0.03,
    "rate_disk_loss": 0.0,
    "rate_follow": 0.6,
    "rate_flush": 0.4,
    "rate_commit": 0.8,
    "rate_land": 0.9,
    "rate_recreate": 0.0,
    "has_loss": True,
}
"""Local checkpoints that successors on the same disk find, and store in their own name."""

STALLED: Shape = {
    "first_inputs": ("first", "second"),
    "first_sink": "immediate",
    "worker_count": 3,
    "rate_move": 0.1,
    "rate_pause": 0.15,
    "rate_crash": 0.0,
    "rate_follow": 0.03,
    "rate_land": 0.9,
    "rate_flush": 0.1,
    "rate_hint": 0.02,
    "rate_recreate": 0.0,
    "header_bytes_max": 4096,
    "is_bounded": False,
    "steps": 160,
}
"""Claimants that stall between SEAL and the ends of the sinks."""

RESET: Shape = {
    **ZOMBIES,
    "resets": True,
    "rate_recreate": 0.0,
    "rate_hint": 0.5,
    "rate_pause": 0.05,
    "rate_crash": 0.01,
    "rate_commit": 0.8,
    "has_loss": True,
}

MOVED_RESET: Shape = {**RESET, **RECORDS_ONLY, "worker_count": 2, "rate_move": 0.08}
"""After a reset groups move to and fro between a fresh worker and one that slept."""

LATE_FENCES: Shape = {
    "resets": True,
    "rate_recreate": 0.0,
    "slow_kinds": "markers",
    "slow_worker": -1,
    "worker_count": 3,
    "rate_move": 0.1,
    "rate_land": 0.9,
    "rate_pause": 0.0,
    "sparse": (1, 1),
}
"""FENCEs that are on their way for long, also across a reset."""

EVENTS: Shape = {
    "first_inputs": ("first", "second"),
    "programs": ((False, False, False, True), (False, False, False, True)),
    "events": ((True, True, True), (True, True, True)),
    "sparse": (1, 1),
    "rate_crash": 0.06,
    "rate_checkpoint": 0.02,
    "rate_recreate": 0.0,
}
"""Ticks, outputs in parts, flushes and idle inputs, and many replays."""

GIVEN_UP: Shape = {**EVENTS, "is_bounded": False, "rate_release": 0.2, "rate_crash": 0.01}
"""Groups that are released now and then."""

MERGED: Shape = {
    **EVENTS,
    "merges": True,
    "beside": ("beside",),
    "batch": 6,
    "rate_pause": 0.0,
}

MERGED_IN_PARTS: Shape = {
    **MERGED,
    "segment_entries_max": 2,
    "programs": ((True, False, False, False), (True, False, False, False)),
    "rate_flush": 0.1,
    "header_bytes_max": 4096,
}
"""Merged batches with attachments, in segments that end within what they bound."""

RELEASES: Shape = {
    "first_inputs": ("first",),
    "programs": ((False, True, False, False), (False, True, False, False)),
    "events": ((True, False, False), (True, False, False)),
    "has_releases": True,
    "rate_move": 0.05,
    "rate_crash": 0.06,
    "rate_checkpoint": 0.02,
    "rate_recreate": 0.0,
}
"""Tasks of one input that log under one worker, and do not under another."""

ASKING: Shape = {**EVENTS, "programs": ((True, False, True, False), (True, False, True, False))}
"""Records that read the clock and call others, and many replays."""

IN_PARTS: Shape = {
    **RELEASES,
    "has_releases": False,
    "first_sink": "both",
    "rate_checkpoint": 0.2,
    "rate_commit": 0.8,
    "rate_land": 0.6,
}
"""Events that make their outputs in parts, with crashes in between."""

ENDS_IN_PARTS: Shape = {**IN_PARTS, "is_bounded": True, "input_count": 12, "steps": 160}

OUTSIDE: Shape = {
    **EVENTS,
    "worker_count": 3,
    "slow_kinds": "lineage",
    "slow_worker": 0,
    "rate_move": 0.05,
    "rate_pause": 0.05,
    "rate_follow": 0.6,
    "rate_flush": 0.9,
    "header_bytes_max": 0,
    "is_bounded": False,
    "steps": 160,
}
"""Zombies whose lineage lands after their successor's SEAL; no output carries any."""

ENDS_OF_EVENTS: Shape = {
    **EVENTS,
    "is_bounded": True,
    "first_inputs": ("first",),
    "input_count": 12,
    "steps": 160,
}

ENDS_OF_FLUSHES: Shape = {**ENDS_OF_EVENTS, "flushes_at_end": True}
"""Bounded runs of which each task flushes what it has kept before it says END."""

FILES: Shape = {
    **ZOMBIES,
    "has_files": True,
    "rate_flush": 0.9,
    "rate_commit": 0.8,
    "rate_land": 0.9,
    "rate_pause": 0.1,
    "rate_crash": 0.01,
    "rate_checkpoint": 0.5,
    "rate_recreate": 0.0,
    "is_bounded": False,
    "steps": 240,
    "input_count": 60,
}
"""Many remote checkpoints, and zombies that delete old files late."""

FILES_TWICE: Shape = {**FILES, "has_loss": True, "has_finale": True}
"""Tasks are checkpointed where they stand, and the newest files of some are damaged then."""

CALLS: Shape = {**EVENTS, "calls": (True, True), "worker_count": 3, "rate_move": 0.05}
"""Calls in both stages, and zombies that make them too."""

CALLED_AGAIN: Shape = {
    **CALLS,
    "outside_forgets": True,
    "slow_kinds": "lineage",
    "rate_follow": 0.6,
    "rate_flush": 0.9,
}
"""A system that gives another answer each time, and answers that come late."""

ANSWERS_GIVEN_UP: Shape = {
    **CALLED_AGAIN,
    "slow_kinds": "",
    "rate_checkpoint": 0.2,
    "rate_remote": 1.0,
    "rate_commit": 0.8,
    "rate_land": 0.9,
    "rate_compact": 0.1,
    "has_loss": True,
    "is_bounded": False,
    "steps": 240,
    "input_count": 60,
}

READ_AGAIN: Shape = {
    **ANSWERS_GIVEN_UP,
    "rate_flush": 0.2,
    "rate_hint": 0.02,
    "rate_land": 0.6,
    "rate_checkpoint": 0.5,
    "header_bytes_max": 0,
}
"""Answers to reads whose events were lost: they are other events then."""

ENDS_OF_CALLS: Shape = {**CALLS, "is_bounded": True, "input_count": 12, "steps": 160}

DIVERGENT: Shape = {
    "first_sink": "immediate",
    "second_sink": "immediate",
    "rate_crash": 0.03,
    "rate_hint": 0.5,
    "rate_commit": 0.8,
    "rate_flush": 0.9,
    "rate_checkpoint": 0.02,
}
"""Programs that diverge: what went to a transactional sink after the last HINT is compared with
nothing, so there are immediate ones only."""

CHANGED: Shape = {
    **EVENTS,
    "merges": False,
    "rate_flush": 0.9,
    "has_loss": False,
    "has_finale": False,
    "is_bounded": False,
}
"""Runs of several inputs, one of which is changed before a replay."""

CHANGED_MERGED: Shape = {**CHANGED, **MERGED}

HOLES: Shape = {**CHANGED, "has_releases": False}

CHANGED_RELEASES: Shape = {**CHANGED, **RELEASES, "rate_flush": 0.9}
"""Inputs that are changed where one incarnation has logged, and the one before it has not."""

TIMED: Shape = {"is_timed": True}
"""Watermark mode."""

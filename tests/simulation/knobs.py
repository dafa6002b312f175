"""What one run is like: sizes, programs, rates of faults; and where mutants disobey."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kstash.core.watermark import EventTimes
    from tests.simulation.programs import Emission, Snapshot
    from tests.simulation.sim_group import SimGroup
    from tests.simulation.sim_kafka import Log
    from tests.simulation.sim_task import SimTask
    from tests.simulation.world import Worker


class Knobs:
    """What one seed chooses once: program, sizes, rates of faults (swarm testing)."""

    def __init__(self, rng: Random) -> None:
        self.through_bytes = rng.random() < 0.1
        self.header_bytes_max = rng.choice((0, 16, 40, 4096, 4096, 4096))
        self.segment_entries_max = rng.choice((2, 5, 2000, 2000))
        self.worker_count = rng.choice((2, 2, 3))
        self.first_sink = rng.choice(("", "immediate", "immediate", "transactional", "both"))
        self.second_sink = rng.choice(("immediate", "immediate", "transactional", "both"))
        self.programs = (self._traits(rng), self._traits(rng))
        self.sparse = (rng.choice((1, 1, 2, 4)), rng.choice((1, 1, 2, 4, 8)))
        self.first_inputs = rng.choice((("first", "second"), ("first", "second"), ("first",)))
        self.input_count = rng.choice((12, 24, 40))
        self.steps = rng.choice((60, 110, 160))
        self.batch = rng.choice((1, 3, 6))
        self.is_bounded = rng.random() < 0.3
        self.rate_crash = rng.choice((0.0, 0.01, 0.03, 0.06))
        self.rate_move = rng.choice((0.0, 0.02, 0.05))
        self.rate_pause = rng.choice((0.0, 0.02, 0.05))
        self.rate_fail = rng.choice((0.0, 0.0, 0.01))
        self.rate_checkpoint = rng.choice((0.02, 0.08, 0.2))
        self.rate_remote = rng.choice((0.3, 0.7, 1.0))
        self.rate_flush = rng.choice((0.1, 0.4, 0.9))
        self.rate_commit = rng.choice((0.1, 0.4, 0.8))
        self.rate_hint = rng.choice((0.02, 0.2, 0.5))
        self.rate_land = rng.choice((0.3, 0.6, 0.9))
        self.rate_compact = rng.choice((0.0, 0.03, 0.1))
        self.rate_purge = rng.choice((0.0, 0.03, 0.1))
        self.rate_disk_loss = rng.choice((0.0, 0.5))
        self.rate_follow = rng.choice((0.03, 0.25, 0.25, 0.6))
        # Kinds of writes that are slow in this run: data, lineage, sinks, of all or one worker.
        self.slow_kinds = rng.choice(("", "", "data", "lineage", "data", "lineage", "sink"))
        self.slow_worker = rng.choice((-1, 0, 1))
        self.starts_twice = rng.random() < 0.3
        self.has_loss = rng.random() < 0.3
        self.rate_recreate = rng.choice((0.0, 0.0, 0.0, 0.5))
        # Likewise of choices that are made already.
        self.resets = self.batch == 1 and self.starts_twice
        self.has_finale = rng.random() < 0.4
        self.switches = rng.random() < 0.6
        # Graceful moves; of a choice that is made already, so that older seeds stay what they were.
        self.rate_release = 0.05 if self.steps == 160 and not self.is_bounded else 0.0
        # Likewise of choices that are made already.
        self.rate_lead = 0.05 if self.batch == 6 else 0.0
        self.expires = self.rate_hint == 0.2 and not self.is_bounded
        self.has_files = self.steps == 160
        # Work that is left, flushes and idle inputs of both stages; and whether a release logs what
        # others do not: of choices that are made already.
        kinds = (self.input_count, self.steps, self.batch)
        self.events = (
            (kinds[2] != 3, self.rate_land == 0.9, self.rate_follow == 0.25),
            (kinds[1] != 60, self.rate_land == 0.3, self.rate_follow == 0.6),
        )
        self.has_releases, self.flushes_at_end = self.input_count == 24, self.input_count == 40
        # Calls of both stages, of a system that remembers what it was asked, or does not.
        self.calls = (self.rate_commit == 0.4, self.rate_flush == 0.4)
        self.outside_forgets = self.input_count == 40
        # Tasks of several inputs merge them; the second stage may have another one, beside frames.
        self.merges = self.segment_entries_max == 2000 and self.worker_count == 2
        self.beside: tuple[str, ...] = ("beside",) if self.rate_hint == 0.02 else ()
        if self.first_sink == "both" and self.header_bytes_max == 16 and not self.is_bounded:
            # Replays that hold outputs, beside some that carry no lineage (H42).
            self.first_inputs = ("first", "second")
            self.segment_entries_max = 2
            self.slow_kinds = "lineage"
            self.rate_crash = max(self.rate_crash, 0.03)
        if self.rate_recreate:
            # A purged internal topic cannot be read anew from 0 under a new lineage topic.
            self.rate_purge = 0.0
            self.has_finale = False

        self.is_timed = False

    def become_timed(self) -> None:
        """Watermark mode: windows in both stages, and nothing else but records, ticks and idling.

        Nothing that begins anew: a topic of frames of two lives would count twice.
        """
        self.is_timed = True
        self.programs = ((False, False, False, False), (False, False, False, False))
        self.events = ((False, False, False), (False, False, False))
        self.calls = (False, False)
        self.merges = self.is_bounded = self.has_releases = False
        self.resets = self.expires = False
        self.rate_recreate = 0.0

    @staticmethod
    def _traits(rng: Random) -> tuple[bool, bool, bool, bool]:
        return (
            rng.random() < 0.5,
            rng.random() < 0.5,
            rng.random() < 0.4,
            rng.random() < 0.5,
        )


class Mutations:
    """Places where a mutant makes the *driver* disobey; all are off in the complete rules."""

    hand_over_within_event = False
    skips_on_failure = False
    claims_are_retried = False
    generation_is_constant = False
    trims_without_reading_back = False
    ends_before_stable = False
    ends_before_flushes = False
    deletes_without_reading_back = False
    releases_before_checkpoints = False
    releases_before_commits = False
    counts_first_position = False
    merge_grows = False
    merges_anew = False
    ticks_anew = False
    flushes_at_once = False
    places_forgotten = False
    freezes_within_event = False
    completes_early = False
    ends_with_open_calls = False
    gives_up_by_position = False
    says_no_times = False
    never_idle = False

    def first_question(self, worker: Worker) -> int:
        """Number of the worker's question whose answer counts for tasks that are opened now."""
        return worker.questions

    def cleaner_key(self, key: bytes) -> bytes:
        """The key that a lineage record is written under."""
        return key

    def before_fence(self, group: SimGroup, logs: list[Log]) -> None:
        """Called before the FENCEs are sent."""

    def scan_end(self, group: SimGroup, log: Log, end: int) -> int:
        """Where the scan of an output partition ends."""
        del group, log
        return end

    def read_end(self, group: SimGroup, through: int) -> int:
        """Offset up to which the lineage topic is read, the own record's."""
        del group
        return through

    def frozen(self, snapshot: Snapshot) -> Snapshot:
        """What a checkpoint keeps of a state."""
        return snapshot

    def begins(self, task: SimTask) -> None:
        """Called before a task of a new incarnation begins its replay."""

    def frozen_times(self, times: EventTimes) -> EventTimes:
        """What a checkpoint keeps of event time."""
        return times

    def made_again(self, task: SimTask, emissions: list[Emission]) -> list[Emission]:
        """What the program makes in a replay of a batch."""
        del task
        return emissions

    def committed_before_fence(self, group: SimGroup) -> list[str | None] | None:
        """The committed position as read before `init_transactions()`, when a mutant does so."""
        del group
        return None

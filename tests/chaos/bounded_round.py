"""A round of bounded runs: each takes what was there before it, however often its workers die."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.chaos.acts import RUN_SIGN, last_line
from tests.chaos.harness import Record, wait_until
from tests.chaos.rounds import Round

RUNS = 2
RUN_S_MAX = 150.0
"""For a run to end when nobody hurts it any more."""

RUN_SIGN_S_MAX = 60.0
"""For a worker that is alone to begin a run."""

LOAD = (600, 2_500)
LOAD_RATE = 3_000


class BoundedRound(Round):
    """Two runs under acts, while more input comes; what is left, the auditor's run takes."""

    def play(self) -> None:
        """One run after the other, each checked at its end."""
        # Acts on a worker that is alone need the guest's lane.
        if len(self.stage.workers) > 1 and self.chaos.random.random() < 0.7:
            self.check("late RUN", self.hold_up_run)
        for number in range(1, RUNS + 1):
            self.load(self.chaos.random.randint(*LOAD))
            before = self.read_inputs()
            self.chaos.note(f"run {number} has {len(before)} inputs before it")
            self.feed(self.tower.shape.rate // 2)
            for worker in self.stage.workers:
                worker.start()
            if number == RUNS:
                self.stage.pause(0.0, 6.0)
                self.stage.lanes[self.stage.guest.name].heal()
                self.chaos.note("what was held up arrives")
            self.play_acts()
            is_over = self.check(f"run {number}", self.wait_end)
            self.end_input()
            if not is_over:
                self.show_stacks()
            else:
                self.check(f"what run {number} took", lambda before=before: self.check_run(before))  # type: ignore[misc]

    def hold_up_run(self) -> None:
        """A guest begins a run and dies; its RUN arrives as late as in the last run.

        The ends that it names lie far before those of the last run.
        """
        guest = self.stage.guest
        lane = self.stage.lanes[guest.name]
        self.load(50)
        lane.stall_at(RUN_SIGN)
        guest.start()
        wait_until(lambda: lane.is_stalled, RUN_SIGN_S_MAX, f"the RUN of {guest.name}")
        self.stage.kill(guest, "with its RUN on the way")
        self.acts["hold_up_run"] += 1

    def load(self, count: int) -> None:
        """Much input at once."""
        feeder = self.feed(LOAD_RATE)
        while len(feeder.sent) < count:
            time.sleep(0.01)
        self.end_input()

    def wait_end(self) -> None:
        """Wait until all workers have ended with exit code 0."""
        deadline = time.monotonic() + RUN_S_MAX
        while any(worker.exit_code() != 0 for worker in self.stage.workers):
            late = [w.name for w in self.stage.workers if w.exit_code() != 0]
            shown = [f"{w.name}: {last_line(w)}" for w in self.stage.workers if w.name in late]
            assert time.monotonic() < deadline, f"no end within {RUN_S_MAX:g} s: {shown}"
            self.stage.restart_ended()
            time.sleep(0.1)

    def check_run(self, before: Sequence[Record]) -> None:
        """What was there before the run has made its outputs, and nothing is half done."""
        self.tower.check_run(self.read_views(), before)

    def wait_outputs(self, due: dict[str, int]) -> None:
        """Nobody works any more: what came during the last run is the auditor's."""

    def check_vacancies(self) -> None:
        """Groups whose part of a run is done need no owner."""

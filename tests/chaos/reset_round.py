"""A round with a reset, and a worker of before it that sleeps meanwhile and wakes afterwards.

What was put out before the reset stays in the sinks; from the reset on, each sink must have the
outputs of all inputs that the reset leaves to be read, once, of the new generation alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from tests.chaos.acts import (
    SESSION_S,
    STEPS,
    STOP_S_MAX,
    kill_all,
    last_line,
    log_end,
    wait_ready,
    wait_step,
)
from tests.chaos.checkers import Outputs, generation_of, read_inputs
from tests.chaos.counts import Counts
from tests.chaos.ends import ends_of
from tests.chaos.harness import REPOSITORY, Record, Worker, wait_until
from tests.chaos.rounds import Round
from tests.chaos.tower import Views, check_generation, outputs_from

EMPTY_S_MAX = 40.0
ENDS_S_MAX = 40.0
RESET_S_MAX = 90.0
HEIRS_S_MAX = 120.0
_BEGINS = re.compile(r"input (\S+) begins at offset (\d+) of partition (\d+)")


class ResetRound(Round):
    """Work, sleep, reset, work anew; the sleeper wakes, and the others are hurt."""

    first: Mapping[tuple[str, int], int] = {}
    starts: Mapping[tuple[str, int], int] = {}

    def play(self) -> None:
        """The whole story; the zombie stays alive for as long as it wants."""
        stage, choice = self.stage, self.chaos.random
        self.feed(self.tower.shape.rate)
        for worker in stage.workers:
            stage.start(worker)
        for worker in stage.workers:
            wait_ready(worker)
        stage.pause(2.0, 6.0)
        self.zombie = stage.workers[0]
        others = stage.workers[1:]
        self.put_to_sleep()
        for worker in others:
            stage.kill(worker, "before the reset")
        self.owners.finish()
        self.check("vacancies before the reset", self.check_vacancies)
        wait_until(self.is_empty, SESSION_S + EMPTY_S_MAX, "the end of all sessions")
        self.reset(others)
        heirs = others or [stage.twin if choice.random() < 0.5 else stage.guest]
        stage.workers = heirs
        # Whoever joins last under a name has it: then the twin must be there already.
        when = "after" if stage.twin in heirs else choice.choice(("before", "among", "after"))
        self.acts[f"wake_{when}"] += 1
        if when == "before":
            self.wake()
        for worker in heirs:
            stage.start(worker)
        if stage.twin in heirs and self.tower.shape.is_static:
            stage.doomed.add(stage.twin.name)
        if when == "among":
            wait_step(heirs[0], choice.choice(STEPS), 0)
            self.wake()
        for worker in heirs:
            if not wait_ready(worker, HEIRS_S_MAX):
                stage.violate(f"{worker.name} is not READY after the reset: {last_line(worker)}")
        self.watch_owners()
        self.owners.start()
        if when == "after":
            stage.pause(0.0, 3.0)
            self.wake()
        self.hurt_heirs()
        self.play_acts()
        self.chaos.note(f"{self.zombie.name} has exit code {self.zombie.exit_code()}")

    def put_to_sleep(self) -> None:
        """SIGSTOP at work or in a recovery, with requests on their way or without."""
        stage, zombie, choice = self.stage, self.zombie, self.chaos.random
        stage.pause(0.0, 2.0)
        if choice.random() < 0.4:
            stage.kill(zombie, "to see it recover")
            begin = log_end(zombie)
            stage.start(zombie)
            wait_step(zombie, choice.choice(STEPS), begin)
        stage.stopped.add(zombie.name)
        stage.doomed.add(zombie.name)
        if choice.random() < 0.6:
            stage.lanes[zombie.name].stall()
            self.chaos.note(f"stall the connections of {zombie.name}")
            stage.pause(0.0, 1.5)
        zombie.send(SIGSTOP)
        self.chaos.note(f"stop {zombie.name}")

    def wake(self) -> None:
        """The zombie goes on, and what it had sent arrives."""
        self.stage.lanes[self.zombie.name].heal()
        self.zombie.send(SIGCONT)
        self.stage.stopped.discard(self.zombie.name)
        self.chaos.note(f"continue {self.zombie.name}")

    def hurt_heirs(self) -> None:
        """What the zombie has said may be the newest: a recovery must not take it for true."""
        stage = self.stage
        stage.pause(0.0, stage.random.choice((0.3, 1.0, 3.0)))
        if stage.random.random() < 0.5:
            kill_all(stage)

    def is_empty(self) -> bool:
        """Whether the group has no member any more."""
        with closing(KafkaAdminClient(bootstrap_servers=self.bootstrap)) as admin:
            (group,) = admin.describe_groups([self.tower.application_id]).values()
        return not group["members"]

    def reset(self, others: Sequence[Worker]) -> None:
        """`kstash reset`, and what its manual says about other machines."""
        self.counts.finish()
        self.starts = self.sink_ends()
        to = ["--to", "latest"] if self.chaos.random.random() < 0.4 else []
        command = [str(Path(sys.executable).with_name("kstash")), "reset"]
        command += [self.tower.application_id, *to, "--bootstrap-servers", self.bootstrap]
        command += ["--state-dir", str(self.chaos.folder / "nothing")]
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=RESET_S_MAX
        )
        self.chaos.note(f"reset {' '.join(to)}: exit code {done.returncode}")
        self.acts["_".join(["reset", *to[1:]])] += 1
        (self.chaos.folder / "reset.log").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, f"kstash reset: {done.stderr[-500:]}"
        self.first = {
            (topic, int(partition)): int(offset)
            for topic, offset, partition in _BEGINS.findall(done.stdout)
        }
        assert bool(to) == bool(self.first), f"kstash reset says: {done.stdout}"
        for worker in others:
            shutil.rmtree(self.chaos.state_folder(worker.name), ignore_errors=True)
        count = self.tower.shape.partition_count
        self.counts = Counts(self.bootstrap, self.tower.sinks, count, self.starts)
        self.counts.start()

    def sink_ends(self) -> dict[tuple[str, int], int]:
        """The ends of all sinks, aborted and open transactions included."""
        count = self.tower.shape.partition_count
        places = [TopicPartition(t, p) for t in self.tower.sinks for p in range(count)]
        ends = ends_of(self.bootstrap, places, deadline_s=ENDS_S_MAX)
        return {(place.topic, place.partition): end for place, end in ends.items()}

    def read_inputs(self) -> list[Record]:
        """The input that the reset leaves to be read."""
        super().read_inputs()
        return read_inputs(self.bootstrap, self.tower.inputs, starts=self.first)

    def read_views(self) -> list[Views]:
        """What readers find after the reset; the rule is applied from the beginning on."""
        views = super().read_views()
        if not views:
            return []
        for number, seen in zip(self.tower.stages, views, strict=True):
            for what, outputs in (("committed", seen.committed), ("accepted", seen.accepted)):
                self.check(
                    f"stage {number}, generation of what is {what}",
                    lambda outputs=outputs: check_generation(outputs, generation_of),  # type: ignore[misc]
                )
        return views

    def cut(self, topic: str, outputs: Outputs) -> Outputs:
        """The outputs after the reset."""
        return outputs_from(
            outputs, {p: at for (name, p), at in self.starts.items() if name == topic}
        )

    def stop_workers(self) -> None:
        """The heirs in order; the zombie, if it still lives, in any way but soon."""
        super().stop_workers()
        if self.zombie.is_running():
            self.zombie.send(SIGTERM)
            self.zombie.wait(STOP_S_MAX)

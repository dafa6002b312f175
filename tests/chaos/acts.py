"""What an adversary does to the workers of a tower: one act after the other, chosen by a seed.

An act waits for its moment (a line of a log, a commit that a reader sees), does its harm, and
leaves all workers running again. It records on the stage what a worker that it hurt may do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

from tests.chaos.cluster import Cluster
from tests.chaos.harness import Chaos, Worker, wait_until
from tests.chaos.proxy import Lane
from tests.chaos.tower import MODULE, SESSION_TIMEOUT_MS, Tower

SESSION_S = SESSION_TIMEOUT_MS / 1000
SIGN_S_MAX = 15.0
"""For a line of a log or a commit: when it does not come, the act goes on without."""

READY_S_MAX = 40.0
"""A worker that gets no task group never reports READY."""

STOP_S_MAX = 60.0
TWIN_S_MAX = 30.0
"""For one of two processes under one name to notice that it must go."""

CHECK_INTERVAL_S = 0.005

STEPS = (
    "reading the lineage",
    "claiming",
    "reading to the claim",
    "fencing",
    "sealing",
    "reading to the seal",
    "reading the config again",
    "verifying checkpoints",
    "scanning",
    "starting",
)
"""Steps of a recovery as a worker's log names them when it leaves them."""

MOVE_SIGN = "task groups move to another worker"
"""What a worker logs as it is asked to give task groups up."""

RUN_SIGN = b'"ends":[['
"""In what a worker sends: a RUN, which says where a bounded run ends."""

CLAIM_SIGN = b'{"worker":'
"""The same of a CLAIM."""

OWNED_S_MAX = 45.0
"""Longest wait for owners of all task groups: longer than a vacancy may be."""

OWNED_S = 3.0
"""For so long no check must find a vacancy; there is a check each second."""

CLAIM_DELAY_S = 0.5
BROKER_AWAY_S = (5.0, 8.0, 12.0, 20.0, 45.0)


@dataclass(slots=True)
class Stage:
    """What the acts are played on.

    Attributes:
        workers: those that stay; each on the lane of its index.
        guest: one that comes and goes, on the last lane.
        twin: for static members, one more process under the name of the first worker.
        committed: number of outputs that a `read_committed` reader has seen so far.
        vacant: task groups that have no owner.
        lanes: the connections of each worker by its name.
        until_end: whether workers run to the ends of their inputs.
        stopped: names of the workers that are stopped or cut off just now.
        doomed: names of the workers that may end by themselves, with an error.
    """

    chaos: Chaos
    cluster: Cluster
    tower: Tower
    workers: list[Worker]
    guest: Worker
    twin: Worker
    committed: Callable[[], int]
    vacant: Callable[[], Collection[int]]
    lanes: Mapping[str, Lane]
    until_end: bool = False
    stopped: set[str] = field(default_factory=set)
    doomed: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)

    @property
    def random(self) -> random.Random:
        """Every choice comes from here."""
        return self.chaos.random

    @property
    def everybody(self) -> list[Worker]:
        """All that may work, each once: a guest or twin may have become one that stays."""
        found = {worker.name: worker for worker in (*self.workers, self.guest, self.twin)}
        return list(found.values())

    def up(self) -> list[int]:
        """Processes that could own a task group now: they have reported READY once."""
        return [
            worker.pid
            for worker in self.everybody
            if worker.is_running() and worker.is_ready() and worker.name not in self.stopped
        ]

    def victim(self) -> Worker:
        """A worker that stays and runs."""
        running = [worker for worker in self.workers if worker.is_running()]
        return self.random.choice(running or self.workers)

    def pause(self, low_s: float, high_s: float) -> None:
        """Let some time pass."""
        time.sleep(self.random.uniform(low_s, high_s))

    def kill(self, worker: Worker, when: str) -> None:
        """SIGKILL; one that has ended by itself before is a violation."""
        self._judge_end(worker)
        self.chaos.note(f"kill {worker.name} {when}{'' if worker.is_ready() else ', not READY'}")
        worker.kill()
        self.stopped.discard(worker.name)
        self.chaos.kills += 1

    def start(self, worker: Worker) -> None:
        """Start a worker that does not run; in a bounded run one that is done stays so."""
        if worker.is_running() or (self.until_end and worker.exit_code() == 0):
            return
        self.doomed.discard(worker.name)
        self.chaos.note(f"start {worker.name}")
        worker.start()

    def restart_ended(self) -> None:
        """A worker that ended by itself is a violation; it is started again to see others."""
        for worker in self.workers:
            if worker.exit_code() is not None:
                self._judge_end(worker)
                self.start(worker)

    def _judge_end(self, worker: Worker) -> None:
        code = worker.exit_code()
        if code in (None, -SIGKILL) or (self.until_end and code == 0):
            return
        if worker.name not in self.doomed:
            self.violate(f"{worker.name} ended by itself with {code}: {last_line(worker)}")

    def violate(self, what: str) -> None:
        """Note a violation."""
        self.violations.append(what)
        self.chaos.note(f"VIOLATION {what}")


def make_stage(
    chaos: Chaos,
    cluster: Cluster,
    tower: Tower,
    committed: Callable[[], int],
    vacant: Callable[[], Collection[int]],
    *extra: str,
) -> Stage:
    """The workers of a tower; none is started.

    Args:
        chaos: the run.
        cluster: the brokers.
        tower: the application.
        committed: see `Stage`.
        vacant: see `Stage`.
        extra: further options of every worker.
    """
    lanes: dict[str, Lane] = {}

    def worker(name: str, lane: Lane, instance_id: str) -> Worker:
        lanes[name] = lane
        static = ["--instance-id", instance_id] if tower.shape.is_static else []
        return chaos.worker(
            name,
            *(MODULE, *tower.options, *static, *extra),
            bootstrap=lane.bootstrap_servers,
            environment=tower.environment,
        )

    count, last = tower.shape.worker_count, cluster.lanes[-1]
    workers = [worker(f"w{i}", cluster.lanes[i], f"w{i}") for i in range(count)]
    return Stage(
        chaos,
        cluster,
        tower,
        workers,
        guest=worker("guest", last, "guest"),
        twin=worker("twin", last, "w0"),
        committed=committed,
        vacant=vacant,
        lanes=lanes,
        until_end="--until" in extra,
    )


# -- signs -----------------------------------------------------------------------------------------


def last_line(worker: Worker) -> str:
    """The end of a worker's log."""
    lines = worker.log_path.read_text(errors="replace").splitlines()
    return lines[-1] if lines else ""


def log_end(worker: Worker) -> int:
    """Bytes that a worker has logged so far, over all its lives."""
    return worker.log_path.stat().st_size if worker.log_path.exists() else 0


def wait_line(worker: Worker, words: str, start: int, deadline_s: float = SIGN_S_MAX) -> bool:
    """Wait for a line after a place of the log; returns whether it came."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline and worker.is_running():
        with worker.log_path.open("rb") as log:
            log.seek(start)
            if words.encode() in log.read():
                return True
        time.sleep(CHECK_INTERVAL_S)
    return False


def wait_step(worker: Worker, step: str, start: int) -> bool:
    """Wait until some task group of a worker leaves a step of its recovery."""
    return wait_line(worker, f"step='{step}'" if " " in step else f"step={step}", start)


def wait_ready(worker: Worker, deadline_s: float = READY_S_MAX) -> bool:
    """Wait until a worker is READY or gone; returns whether it is."""
    deadline = time.monotonic() + deadline_s
    while not worker.is_ready() and worker.is_running() and time.monotonic() < deadline:
        time.sleep(0.02)
    return worker.is_ready()


# -- acts ------------------------------------------------------------------------------------------


def kill_any_time(stage: Stage) -> None:
    """SIGKILL at a random moment; back at once, soon, or when its session is over."""
    victim = stage.victim()
    stage.pause(0.0, 3.0)
    stage.kill(victim, "at random")
    _stay_away(stage)
    stage.start(victim)


def _stay_away(stage: Stage) -> None:
    kind = stage.random.random()
    if kind > 0.7:
        stage.pause(SESSION_S, SESSION_S + 3)
    elif kind > 0.4:
        stage.pause(0.0, 1.5)


def kill_all(stage: Stage) -> None:
    """All workers at once, and some of them again as they recover."""
    stage.pause(0.0, 2.0)
    for worker in stage.workers:
        stage.kill(worker, "together")
    for worker in stage.workers:
        stage.start(worker)
    again = [worker for worker in stage.workers if stage.random.random() < 0.6]
    stage.pause(0.5, 5.0)
    for worker in again:
        stage.kill(worker, "again")
        stage.start(worker)


def kill_in_recovery(stage: Stage) -> None:
    """One kill after another, each as the log reports a step of the recovery."""
    victim = stage.victim()
    stage.kill(victim, "to see it recover")
    for _ in range(stage.random.choice((1, 2, 3))):
        step = stage.random.choice(STEPS)
        begin = log_end(victim)
        stage.start(victim)
        is_seen = wait_step(victim, step, begin)
        # After the last step lies the replay.
        stage.pause(0.0, stage.random.choice((0.01, 0.05, 0.8)))
        stage.kill(victim, f"after {step}" if is_seen else f"without a sign of {step}")
    stage.start(victim)


def kill_in_replay(stage: Stage) -> None:
    """SIGKILL, and again as a reader sees the first commit of the replay, or somewhat later.

    What the replay makes may wait for its lineage while other outputs are committed.
    """
    victim = stage.victim()
    stage.kill(victim, "to see it replay")
    stage.pause(0.0, 1.0)
    for _ in range(stage.random.choice((1, 2, 3))):
        begin, seen = log_end(victim), stage.committed()
        stage.start(victim)
        is_seen = wait_step(victim, "starting", begin)
        stage.pause(0.0, stage.random.choice((0.1, 0.5, 2.0)))
        if stage.random.random() < 0.6:
            _wait_commit(stage, seen)
        stage.kill(victim, "in a replay" if is_seen else "without a sign of a replay")
    stage.start(victim)


def _wait_commit(stage: Stage, seen: int) -> None:
    deadline = time.monotonic() + SIGN_S_MAX
    while stage.committed() == seen and time.monotonic() < deadline:
        time.sleep(CHECK_INTERVAL_S)


def kill_behind_commit(stage: Stage) -> None:
    """SIGKILL as soon as a reader sees a commit, of one worker or of all."""
    stage.pause(0.5, 2.0)
    victims = stage.workers if stage.random.random() < 0.5 else [stage.victim()]
    seen = stage.committed()
    _wait_commit(stage, seen)
    for victim in victims:
        stage.kill(victim, f"after a commit ({stage.committed() - seen} outputs)")
    _stay_away(stage)
    for victim in victims:
        stage.start(victim)


def kill_in_move(stage: Stage) -> None:
    """Another worker joins or leaves; one that gives groups up or takes them dies meanwhile."""
    guest = stage.guest
    is_joining = stage.random.random() < 0.7
    begins = {worker.name: log_end(worker) for worker in stage.workers}
    stage.start(guest)
    if not is_joining:
        wait_ready(guest)
        stage.pause(0.0, 1.0)
        if guest.is_running():
            guest.send(SIGTERM)
            stage.chaos.note("the guest leaves")
    moved = _wait_move(stage, begins) if is_joining else None
    stage.pause(0.0, stage.random.choice((0.05, 0.4, 1.5)))
    victims = [moved or stage.victim()]
    kind = stage.random.random()
    if kind < 0.25 and is_joining:
        victims = [guest]
    elif kind < 0.4 and is_joining:
        victims.append(guest)
    for victim in victims:
        stage.kill(victim, "in a move")
    if stage.random.random() < 0.3:
        stage.pause(0.0, 2.0)
    for victim in victims:
        if victim is not guest or stage.random.random() < 0.5:
            stage.start(victim)
    stage.pause(1.0, 6.0)
    # A guest that leaves has all share out anew, and would hide that something was nobody's.
    wait_owners(stage)
    part_with(stage, guest, is_signalled=not is_joining)


def wait_owners(stage: Stage) -> None:
    """Wait until each task group has an owner; the watch of owners judges how long it took."""
    begin = found = time.monotonic()
    while (now := time.monotonic()) - found < OWNED_S and now - begin < OWNED_S_MAX:
        if stage.vacant():
            found = now
        time.sleep(CHECK_INTERVAL_S)


def _wait_move(stage: Stage, begins: Mapping[str, int]) -> Worker | None:
    deadline = time.monotonic() + SIGN_S_MAX
    while time.monotonic() < deadline:
        for worker in stage.workers:
            if worker.is_running() and wait_line(worker, MOVE_SIGN, begins[worker.name], 0.01):
                return worker
    return None


def part_with(stage: Stage, guest: Worker, *, is_signalled: bool = False) -> None:
    """Stop a worker in order; one that has not reported READY may not handle SIGTERM yet.

    One that got the signal already is only waited for: a second one would end it at once.
    """
    if not guest.is_running():
        return
    is_ready = guest.is_ready()
    if not is_signalled:
        guest.send(SIGTERM)
    wait_until(lambda: not guest.is_running(), STOP_S_MAX, f"the end of {guest.name}")
    code = guest.exit_code()
    stage.chaos.note(f"{guest.name} left with {code}")
    if code != 0 and (is_ready or code != -SIGTERM) and guest.name not in stage.doomed:
        stage.violate(f"{guest.name} left with {code} after SIGTERM: {last_line(guest)}")


def freeze(stage: Stage) -> None:
    """SIGSTOP past the session; somebody else takes over; SIGCONT."""
    victim = stage.victim()
    stage.pause(0.0, 2.0)
    is_alone = len(stage.workers) == 1
    stage.stopped.add(victim.name)
    victim.send(SIGSTOP)
    stage.chaos.note(f"stop {victim.name}")
    if is_alone:
        stage.start(stage.guest)
        wait_ready(stage.guest)
    stage.pause(SESSION_S, SESSION_S + 4)
    if victim.is_running():
        victim.send(SIGCONT)
    stage.stopped.discard(victim.name)
    stage.chaos.note(f"continue {victim.name}")
    stage.pause(0.0, 4.0)
    if stage.random.random() < 0.5:
        stage.kill(victim, "soon after it woke")
        stage.start(victim)
    if is_alone:
        part_with(stage, stage.guest)


def replace_twin(stage: Stage) -> None:
    """A static member sleeps while another process takes its name; it wakes and has to go."""
    if not stage.tower.shape.is_static:
        freeze(stage)
        return
    victim, twin = stage.workers[0], stage.twin
    wait_ready(victim)
    stage.pause(0.0, 2.0)
    stage.stopped.add(victim.name)
    victim.send(SIGSTOP)
    stage.chaos.note(f"stop {victim.name}, its twin starts")
    stage.start(twin)
    stage.doomed |= {victim.name, twin.name}
    wait_ready(twin)
    stage.pause(0.0, 3.0)
    victim.send(SIGCONT)
    stage.stopped.discard(victim.name)
    stage.chaos.note(f"continue {victim.name}")
    # The client of a member whose session is over may join anew, and so take the membership back.
    pair = (victim, twin)
    gone: list[Worker] = []

    def is_decided() -> bool:
        gone[:] = [worker for worker in pair if not worker.is_running()]
        return bool(gone)

    try:
        wait_until(is_decided, TWIN_S_MAX, "the end of one of the two")
    except AssertionError:
        stage.violate(f"{victim.name} and its twin both go on under one name")
    stage.pause(0.0, 3.0)
    for worker in pair:
        code = worker.exit_code()
        if code is not None and code <= 0:
            stage.violate(f"{worker.name} left with {code} although it has lost its membership")
    if all(not worker.is_running() for worker in pair):
        stage.violate(f"{victim.name} and its twin are both gone")
    stage.chaos.note(f"gone: {[worker.name for worker in gone]}")
    stage.kill(twin, "to give the membership back")
    stage.start(victim)


def late_requests(stage: Stage) -> None:
    """A worker's requests are held up on their way; it dies, is replaced, and they arrive."""
    victim = stage.victim()
    lane = stage.lanes[victim.name]
    stage.pause(0.0, 2.0)
    lane.stall()
    stage.stopped.add(victim.name)
    stage.chaos.note(f"stall the connections of {victim.name}")
    stage.pause(0.0, 0.6)
    is_killed = stage.random.random() < 0.7
    if is_killed:
        stage.kill(victim, "with requests on their way")
    if len(stage.workers) == 1:
        stage.start(stage.guest)
        wait_ready(stage.guest)
    else:
        stage.pause(SESSION_S, SESSION_S + 3)
    stage.pause(0.0, 1.5)
    lane.heal()
    stage.stopped.discard(victim.name)
    stage.chaos.note(f"heal the connections of {victim.name}")
    stage.start(victim)
    stage.pause(0.0, 3.0)
    if len(stage.workers) == 1:
        part_with(stage, stage.guest)


def kill_broker(stage: Stage) -> None:
    """The broker dies at the first CLAIM of a worker, or at any time, and stays away for long."""
    kind = stage.random.random()
    if kind < 0.75:
        victim = stage.victim()
        stage.kill(victim, "to see it claim")
        lane = stage.lanes[victim.name]
        # So its first CLAIM is still on its way when the broker dies, or has just arrived.
        lane.stall_at(CLAIM_SIGN)
        stage.start(victim)
        deadline = time.monotonic() + SIGN_S_MAX
        while not lane.is_stalled and time.monotonic() < deadline:
            time.sleep(CHECK_INTERVAL_S)
        when = "at a first CLAIM" if lane.is_stalled else "without a sign of a CLAIM"
        stage.pause(0.0, CLAIM_DELAY_S)
        if stage.random.random() < 0.3:
            lane.heal()
            stage.pause(0.0, 0.02)
        stage.cluster.brokers.kill()
        lane.heal()
    else:
        stage.pause(0.0, 3.0)
        when = "at random"
        stage.cluster.brokers.kill()
    away_s = stage.random.choice(BROKER_AWAY_S)
    stage.chaos.note(f"kill the broker {when}, for {away_s:g} s")
    time.sleep(away_s)
    stage.cluster.brokers.restart()
    stage.chaos.note("the broker is back")
    stage.pause(5.0, 8.0)


Act = Callable[[Stage], None]

SCENARIOS: Mapping[str, tuple[Act, ...]] = {
    "kills": (kill_any_time, kill_all),
    "recoveries": (kill_in_recovery, kill_in_recovery, kill_in_replay, kill_all),
    "commits": (kill_behind_commit, kill_in_replay),
    "moves": (kill_in_move,),
    "zombies": (freeze, replace_twin, late_requests),
    "broker": (kill_broker,),
    "mixed": (
        kill_any_time,
        kill_all,
        kill_in_recovery,
        kill_in_replay,
        kill_behind_commit,
        kill_in_move,
        freeze,
        replace_twin,
        late_requests,
    ),
    "bounded": (kill_any_time, kill_all, kill_in_recovery, late_requests),
    "reset": (kill_any_time, kill_in_recovery),
}
"""The acts that each kind of round draws from."""

ACT_COUNTS: Mapping[str, tuple[int, int]] = {"broker": (1, 2), "bounded": (2, 4), "reset": (1, 2)}
"""Least and most acts of a round, where it is not 3 to 5."""

"""What is done to workers and brokers, and the plan that a seed makes of it.

A fault is a generator: it does harm, yields how long that lasts, and mends what it did. Where it
has to wait for something it yields too, so that no fault holds up the end of another one. The plan
is made in full before the first fault, so that a seed repeats it.
"""

from __future__ import annotations

import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from tests.chaos.cluster import Cluster
from tests.chaos.harness import Chaos, Worker
from tests.chaos.proxy import Lane
from tests.chaos.subjects import Subject

SESSION_TIMEOUT_MS = 6_000
PAST_SESSION_S = (7.0, 10.0)
RECOVERS_S = 4.0
"""Rest of a victim before it is hurt again: else it would never be live."""

STOP_S_MAX = 60.0
"""Longer than `shutdown_timeout_ms` twice: an orderly stop beyond a broken broker has to wait."""

JOIN_S_MAX = 90.0
"""It has to wait for a rebalance while the others may be frozen or cut off."""

DISK_S_MAX = 30.0
POLL_S = 0.05


@dataclass(slots=True)
class Ground:
    """What the faults act on.

    Attributes:
        workers: those that stay; each on the lane of its index.
        guest: a worker that comes and goes, on the last lane.
        is_hurt: workers to which something is being done, so that their end is expected.
    """

    chaos: Chaos
    cluster: Cluster
    subject: Subject
    workers: list[Worker]
    guest: Worker
    is_hurt: set[str] = field(default_factory=set)

    def lane(self, victim: int) -> Lane:
        """The connections of a worker."""
        return self.cluster.lanes[victim]


@dataclass(frozen=True, slots=True)
class Hit:
    """One fault of a plan.

    Attributes:
        kind: a name in `KINDS`.
        victim: worker or node; what the kind does with it is its own affair.
        at_s: when it begins, in seconds after the plan's start.
        lasts_s: how long it lasts, 0 or more.
    """

    kind: str
    victim: int
    at_s: float
    lasts_s: float

    @property
    def place(self) -> tuple[str, int]:
        """What is exclusively hurt: a worker, the guest, or the cluster.

        A cluster of three bears the loss of one node, so all nodes are one.
        """
        victims = KINDS[self.kind].victims
        return victims, self.victim if victims == "worker" else 0

    def __str__(self) -> str:
        return f"{self.kind} (victim {self.victim}, {self.lasts_s:.1f} s)"


def _until(condition: Callable[[], bool], deadline_s: float, what: str) -> Iterator[float]:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {deadline_s:g} s"
        yield POLL_S


def _aside(work: Callable[[], object]) -> Iterator[float]:
    """Do what takes long in a thread of its own."""
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(work)
        while not done.done():
            yield POLL_S
        done.result()


def _kill(ground: Ground, hit: Hit) -> Iterator[float]:
    worker = ground.workers[hit.victim]
    worker.kill()
    yield hit.lasts_s
    worker.start()


def _kill_and_wipe(ground: Ground, hit: Hit) -> Iterator[float]:
    worker = ground.workers[hit.victim]
    worker.kill()
    shutil.rmtree(ground.chaos.state_folder(worker.name))
    yield hit.lasts_s
    worker.start()


def _freeze(ground: Ground, hit: Hit) -> Iterator[float]:
    worker = ground.workers[hit.victim]
    worker.send(signal.SIGSTOP)
    yield hit.lasts_s
    worker.send(signal.SIGCONT)


def _stop(ground: Ground, hit: Hit) -> Iterator[float]:
    worker = ground.workers[hit.victim]
    # One that is still importing itself would just die.
    yield from _until(worker.is_ready, JOIN_S_MAX, f"READY of {worker.name}")
    worker.send(signal.SIGTERM)
    yield hit.lasts_s
    yield from _until(lambda: not worker.is_running(), STOP_S_MAX, f"the end of {worker.name}")
    code = worker.exit_code()
    worker.start()
    assert code == 0, f"{worker.name} left with exit code {code} after SIGTERM"


def _join_and_leave(ground: Ground, hit: Hit) -> Iterator[float]:
    guest = ground.guest
    guest.start()
    yield from _until(guest.is_ready, JOIN_S_MAX, "READY of the guest")
    yield hit.lasts_s
    guest.send(signal.SIGTERM)
    yield from _until(lambda: not guest.is_running(), STOP_S_MAX, "the end of the guest")
    assert guest.exit_code() == 0, f"the guest left with {guest.exit_code()} after SIGTERM"


def _kill_leader(ground: Ground, topic: str, hit: Hit) -> Iterator[float]:
    cluster = ground.cluster
    yield from _aside(cluster.wait_in_sync)
    node = cluster.leader(topic, hit.victim % ground.subject.partition_count)
    cluster.brokers.kill(node)
    ground.chaos.note(f"node {node} is dead")
    yield hit.lasts_s
    yield from _aside(lambda: cluster.brokers.restart(node))
    ground.chaos.note(f"node {node} is back")


def _kill_lineage_leader(ground: Ground, hit: Hit) -> Iterator[float]:
    return _kill_leader(ground, f"{ground.subject.application_id}-lineage", hit)


def _kill_output_leader(ground: Ground, hit: Hit) -> Iterator[float]:
    return _kill_leader(ground, ground.subject.output, hit)


def _restart_broker(ground: Ground, hit: Hit) -> Iterator[float]:
    yield from _aside(ground.cluster.wait_in_sync)
    yield from _aside(lambda: ground.cluster.brokers.restart(hit.victim))
    ground.chaos.note(f"node {hit.victim} was restarted")


def _freeze_broker(ground: Ground, hit: Hit) -> Iterator[float]:
    yield from _aside(ground.cluster.wait_in_sync)
    ground.cluster.brokers.pause(hit.victim)
    yield hit.lasts_s
    ground.cluster.brokers.resume(hit.victim)


def _cut(ground: Ground, hit: Hit) -> Iterator[float]:
    ground.lane(hit.victim).cut()
    yield hit.lasts_s
    ground.lane(hit.victim).cut()


def _shut(ground: Ground, hit: Hit) -> Iterator[float]:
    ground.lane(hit.victim).shut()
    yield hit.lasts_s
    ground.lane(hit.victim).open()


def _stall(ground: Ground, hit: Hit) -> Iterator[float]:
    ground.lane(hit.victim).stall()
    yield hit.lasts_s
    ground.lane(hit.victim).heal()


def _slow(ground: Ground, hit: Hit) -> Iterator[float]:
    ground.lane(hit.victim).slow(delay_s=0.1, bytes_per_s=200_000)
    yield hit.lasts_s
    ground.lane(hit.victim).heal()


def _fill_disk(ground: Ground, hit: Hit) -> Iterator[float]:
    worker = ground.workers[hit.victim]
    yield from _until(worker.is_ready, JOIN_S_MAX, f"READY of {worker.name}")
    logged = worker.log_path.stat().st_size
    # No file of the process may grow: to it that is a full disk, and needs no privileges.
    limit = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    yield hit.lasts_s
    deadline = time.monotonic() + DISK_S_MAX
    while worker.is_running() and time.monotonic() < deadline:
        yield POLL_S
    if worker.is_running():
        # One without a task has nothing to write; the disk has room again.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, limit)
        return
    code = worker.exit_code()
    worker.start()
    said = worker.log_path.read_bytes()[logged:].decode(errors="replace")
    assert code == 1, f"{worker.name} left with exit code {code} on a full disk"
    assert "StateError" in said, f"{worker.name} does not say why it left on a full disk"


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of fault.

    Attributes:
        title: for the table.
        victims: who is exclusively hurt by it.
        lasts_s: shortest and longest duration in seconds.
        act: does it.
    """

    title: str
    victims: Literal["worker", "guest", "broker"]
    lasts_s: tuple[float, float]
    act: Callable[[Ground, Hit], Iterator[float]]


KINDS = {
    "kill": Kind("worker: SIGKILL", "worker", (0.0, 2.0), _kill),
    "wipe": Kind("worker: SIGKILL, state folder deleted", "worker", (0.0, 2.0), _kill_and_wipe),
    "freeze": Kind("worker: SIGSTOP past its session", "worker", PAST_SESSION_S, _freeze),
    "stop": Kind("worker: SIGTERM, started again", "worker", (1.0, 5.0), _stop),
    "guest": Kind("worker: a new one joins and leaves", "guest", (4.0, 8.0), _join_and_leave),
    "disk": Kind("worker: full disk", "worker", (1.0, 3.0), _fill_disk),
    "cut": Kind("connections of a worker: cut", "worker", (0.2, 1.0), _cut),
    "shut": Kind("connections of a worker: refused", "worker", (1.0, 10.0), _shut),
    "stall": Kind("connections of a worker: stalled", "worker", (2.0, 10.0), _stall),
    "slow": Kind("connections of a worker: slow", "worker", (4.0, 8.0), _slow),
    "lineage": Kind("broker: lineage leader killed", "broker", (3.0, 7.0), _kill_lineage_leader),
    "output": Kind("broker: output leader killed", "broker", (3.0, 7.0), _kill_output_leader),
    "restart": Kind("broker: restarted", "broker", (0.0, 0.0), _restart_broker),
    "pause": Kind("broker: SIGSTOP", "broker", (1.0, 6.0), _freeze_broker),
}


def plan(choice: random.Random, kinds: Sequence[str], worker_count: int) -> list[Hit]:
    """Spread faults over time: they overlap, but each victim has one at a time.

    Args:
        choice: every choice comes from here.
        kinds: names in `KINDS`, in the order in which they begin.
        worker_count: workers that may be hurt.
    """
    rests: dict[tuple[str, int], float] = {}
    at_s = 0.0
    hits = []
    for name in kinds:
        kind = KINDS[name]
        at_s += choice.uniform(1.5, 4.0)
        lasts_s = choice.uniform(*kind.lasts_s)
        victim = choice.randrange(worker_count)
        place = Hit(name, victim, at_s, lasts_s).place
        at_s = max(at_s, rests.get(place, 0.0))
        rests[place] = at_s + lasts_s + RECOVERS_S
        hits.append(Hit(name, victim, at_s, lasts_s))
    return hits

"""Crashes one application after the other at one fail point after the other, and checks each.

Everything has a deadline; every choice comes from one seed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from confluent_kafka import Producer

from kstash import Delivery
from kstash.failpoints import EXIT_FAILED
from tests.chaos.checkers import (
    Outputs,
    by_key,
    check_same,
    read_committed,
    read_inputs,
    read_with_rule,
)
from tests.chaos.crash_app import Life
from tests.chaos.harness import REPOSITORY, wait_for_outputs

KEYS = 7
FEED_PAUSE_S = 0.01
CRASH_S_MAX = 45.0
"""A worker that is armed dies within this: a loaded machine may need 15 s for a start alone."""

STOPPING = ("lineage.flush", "lineage.release.append", "lineage.release.ack", "state.live.close")
"""Points that lie in an orderly stop."""

DISKLESS = "restore."
"""Reached by a worker whose disk is gone."""

LEFTOVERS = "state.live.delete"
"""Reached by a worker whose predecessor was killed."""

LIVE_S = 0.25


class Child:
    """One forked worker, as its parent reports it."""

    def __init__(self) -> None:
        self.pid = 0
        self.code: int | None = None
        self.is_ready = False
        self.changed = threading.Condition()

    def wait(self, attribute: Literal["pid", "is_ready", "code"], deadline_s: float) -> bool:
        """Wait until something is known of it, or it has ended; returns whether it is known."""

        def is_known() -> bool:
            return getattr(self, attribute) not in (0, None, False)

        with self.changed:
            self.changed.wait_for(lambda: is_known() or self.code is not None, deadline_s)
            return is_known() or (attribute == "code" and self.code is not None)


class Nursery:
    """The process that workers are forked from."""

    def __init__(self, folder: Path) -> None:
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()
        with (folder / "nursery.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.crash_app"],
                cwd=REPOSITORY,
                # The hash seed that kstash pins: it need not execute itself again.
                env={**os.environ, "PYTHONHASHSEED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=0,
            )
        threading.Thread(target=self._follow, daemon=True).start()

    def bear(self, life: Life) -> Child:
        """Start a worker."""
        child = Child()
        assert self._process.stdin is not None
        with self._lock:
            self._children[life.name] = child
            self._process.stdin.write(life.encode())
            self._process.stdin.flush()
        assert child.wait("pid", CRASH_S_MAX), f"{life.name} was not started"
        return child

    def close(self) -> None:
        """End all workers and the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(CRASH_S_MAX)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, name, *number = line.decode().split()
            child = self._children[name]
            with child.changed:
                if what == "pid":
                    child.pid = int(number[0])
                elif what == "ready":
                    child.is_ready = True
                else:
                    child.code = int(number[0])
                child.changed.notify_all()


@dataclass
class Lane:
    """One application, crashed at some points in turn.

    Attributes:
        name: of the application, used once.
        points: as `KSTASH_FAIL_POINT` takes them.
        is_bounded: each life runs to the end of its input; else the input flows all the time.
        sinks: (topic, delivery) of each.
    """

    name: str
    points: Sequence[str]
    is_bounded: bool
    bootstrap: str
    folder: Path
    nursery: Nursery
    random: random.Random
    inputs: tuple[str, str]
    sinks: tuple[tuple[str, Delivery], ...]
    settings: dict[str, object] = field(default_factory=dict)
    sent: list[tuple[int, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lives = 0
        self._doing = "begin"
        self._stopping = threading.Event()
        self._is_fed = False
        self._producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                # Without it a retry changes the order of the input.
                "enable.idempotence": True,
                # More may lose the first records of a partition (decision 0020).
                "max.in.flight.requests.per.connection": 1,
            }
        )

    @property
    def log(self) -> Path:
        """Where its workers log."""
        return self.folder / f"{self.name}.log"

    def run(self) -> None:
        """Crash at each point and recover after it, then check all outputs.

        Raises:
            AssertionError: a point was not reached, or an output is wrong; says where.
        """
        try:
            if self.is_bounded:
                self._send(100)
                self._run_bounded()
            else:
                self._run_flowing()
            self._check()
        except AssertionError as error:
            tail = self.log.read_text(errors="replace").splitlines()[-40:]
            story = [f"{self.name}, {self._doing}: {error}"]
            raise AssertionError("\n".join(story + tail)) from error

    def _run_bounded(self) -> None:
        for point in self.points:
            self._doing = point
            self._expect(self._bear(point), EXIT_FAILED, f"a crash at {point}")
            self._expect(self._bear(None), 0, f"an orderly end after the crash at {point}")

    def _run_flowing(self) -> None:
        feeder = threading.Thread(target=self._feed, name=f"feed {self.name}", daemon=True)
        feeder.start()
        try:
            following = [*self.points[1:], ""]
            for number, point in enumerate(self.points):
                if number == 0:
                    self._recover(is_killed=not point.startswith(DISKLESS))
                self._doing = point
                self._crash(point)
                is_killed = number % 2 == 0 or following[number].startswith(LEFTOVERS)
                # An orderly end leaves a remote checkpoint to restore.
                is_killed &= not following[number].startswith(DISKLESS)
                self._recover(is_killed=is_killed)
        finally:
            self._stopping.set()
            feeder.join(2 * CRASH_S_MAX)
        assert self._is_fed, "the feeder did not finish"
        self._check_inputs()
        self._doing = "the end"
        worker = self._bear(None)
        assert worker.wait("is_ready", CRASH_S_MAX), "no worker is READY at the end"
        for topic, _ in self.sinks:
            try:
                wait_for_outputs(self.bootstrap, topic, len(self.sent))
            except AssertionError:
                self._check()  # says which are missing, and since when
                raise
        os.kill(worker.pid, signal.SIGTERM)
        self._expect(worker, 0, "an orderly end")

    def _crash(self, point: str) -> None:
        if point.startswith(DISKLESS):
            shutil.rmtree(self.folder / f"state-{self.name}")
        worker = self._bear(point)
        if point.startswith(STOPPING) and worker.wait("is_ready", CRASH_S_MAX):
            os.kill(worker.pid, signal.SIGTERM)
        self._expect(worker, EXIT_FAILED, f"a crash at {point}")

    def _recover(self, *, is_killed: bool) -> None:
        worker = self._bear(None)
        assert worker.wait("is_ready", CRASH_S_MAX), (
            f"not READY again after {self._doing}: {worker.code}"
        )
        time.sleep(LIVE_S)
        if is_killed:
            os.kill(worker.pid, signal.SIGKILL)
            self._expect(worker, -signal.SIGKILL, "a kill")
        else:
            os.kill(worker.pid, signal.SIGTERM)
            self._expect(worker, 0, "an orderly end")

    def _bear(self, point: str | None) -> Child:
        self._lives += 1
        life = Life(
            f"{self.name}-{self._lives}",
            str(self.log),
            point,
            "end" if self.is_bounded else None,
            self.inputs,
            self.sinks,
            {
                "application_id": self.name,
                "bootstrap_servers": self.bootstrap,
                "state_dir": str(self.folder / f"state-{self.name}"),
                "instance_id": "worker",
                "session_timeout_ms": 6_000,
                "checkpoint_interval_ms": 100,
                "sink_commit_interval_ms": 20,
                "lineage_ack_delay_ms": 200,
                **self.settings,
            },
        )
        with self.log.open("a") as log:
            log.write(f"--- life {self._lives}, armed: {point}\n")
        return self.nursery.bear(life)

    def _expect(self, worker: Child, code: int, what: str) -> None:
        worker.wait("code", CRASH_S_MAX)
        assert worker.code == code, f"{what} was expected, exit code {code}, not {worker.code}"

    # -- the input and what must come of it ------------------------------------------------------

    def _feed(self) -> None:
        while not self._stopping.wait(FEED_PAUSE_S):
            self._send(1)
        self._is_fed = self._producer.flush(CRASH_S_MAX) == 0

    def _check_inputs(self) -> None:
        """What was sent is in the topics: else outputs are missing that nobody could make."""
        found = read_inputs(self.bootstrap, self.inputs)
        for side, topic in enumerate(self.inputs):
            sent = [value for number, _, value in self.sent if number == side]
            there = [value for name, _, _, value in found if name == topic]
            assert there == sent, f"{topic} has {len(there)} records of {len(sent)} that were sent"

    def _send(self, count: int) -> None:
        for _ in range(count):
            key, side = str(self.random.randrange(KEYS)), self.random.randrange(2)
            # The value says when it was sent, and so where a wrong output came from.
            value = f"{key} {len(self.sent)} at {self._doing}"
            self.sent.append((side, key, value))
            self._producer.produce(self.inputs[side], value, key, 0)
        if count > 1:
            assert self._producer.flush(CRASH_S_MAX) == 0
            self._check_inputs()

    def _check(self) -> None:
        read: list[Outputs] = []
        for topic, delivery in self.sinks:
            read.append(read_committed(self.bootstrap, topic))
            if delivery == "immediate":
                read.append(read_with_rule(self.bootstrap, topic))
            else:
                headers = {h for place in read[-1].values() for o in place for h, _ in o.headers}
                assert not headers, f"records of {topic} carry {headers}"
        for outputs in read:
            check_thirds(outputs, self.sent)
        for outputs in read[1:]:
            check_same(read[0], outputs)


def check_thirds(outputs: Outputs, sent: Sequence[tuple[int, str, str]]) -> None:
    """Each third's outputs are one chain over chains of its keys over all that was sent.

    Shares no code with the application: it is written from the description in `crash_app`.
    """
    taken: Counter[tuple[int, str]] = Counter()
    chains: dict[str, str] = {}
    waiting: dict[tuple[int, str], list[str]] = {}
    for side, key, value in sent:
        waiting.setdefault((side, key), []).append(value)
    for raw, values in by_key(outputs).items():
        third = raw.decode()
        chain = ""
        for index, text in enumerate(values):
            state = json.loads(text)
            step = state["last"]
            where = f"{third}, output {index + 1} of {len(values)} ({step['last']!r})"
            key = step["last"].split()[0]
            assert third == f"third-{int(key) % 3}", f"{where} is of another third"
            sides = [s for s in (0, 1) if _next(waiting, taken, s, key) == step["last"]]
            assert sides, f"{where} is doubled, lost something before it, or is out of order"
            taken[sides[0], key] += 1
            count = taken[0, key] + taken[1, key]
            chains[key] = _digest(chains.get(key, ""), step["last"])
            chain = _digest(chain, chains[key])
            assert (step["count"], step["hash"]) == (count, chains[key]), (
                f"{where}: the key's state"
            )
            assert (state["count"], state["hash"]) == (index + 1, chain), f"{where}: the state"
    missing = [
        values[taken[place]] for place, values in waiting.items() if taken[place] < len(values)
    ]
    assert not missing, f"no output for {missing[:5]}"


def _next(
    waiting: dict[tuple[int, str], list[str]], taken: Counter[tuple[int, str]], side: int, key: str
) -> str | None:
    values = waiting.get((side, key), [])
    return values[taken[side, key]] if taken[side, key] < len(values) else None


def _digest(before: str, what: str) -> str:
    return hashlib.sha256(f"{before} {what}".encode()).hexdigest()[:16]

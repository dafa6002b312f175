"""One application under a plan of faults on a cluster of three brokers, and what must hold after.

A storm has calm water at its end: the faults are over, the input ends, the workers finish and stop
in order. Then everything is checked, each check for itself, so that one violation does not hide
another.
"""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from kafka.admin import KafkaAdminClient

from tests.chaos.checkers import (
    Outputs,
    check_same,
    read_committed,
    read_inputs,
    read_with_rule,
)
from tests.chaos.cluster import LANES, Cluster
from tests.chaos.faults import (
    KINDS,
    POLL_S,
    RECOVERS_S,
    SESSION_TIMEOUT_MS,
    STOP_S_MAX,
    Ground,
    Hit,
    plan,
)
from tests.chaos.harness import (
    Chaos,
    Feeder,
    Record,
    Worker,
    chaos_run,
    processes_of,
    wait_until,
)
from tests.chaos.live_bytes import LiveBytes
from tests.chaos.owners import assigned
from tests.chaos.subjects import Subject
from tests.chaos.table import Table
from tests.chaos.watch import Watch

PARTITION_COUNT = 4
CHECKPOINT_INTERVAL_MS = 1_000
OUTPUTS_S_MAX = 120.0
"""For what was held up by the last fault, on a machine with other work."""

ASSIGNED_S_MAX = 60.0
READY_S_MAX = 60.0
AUDIT_S_MAX = 120.0


class Storm:
    """One run.

    Args:
        chaos: seed, diary and folder of the run.
        cluster: three brokers, all of them up.
        subject: the application.
    """

    def __init__(self, chaos: Chaos, cluster: Cluster, subject: Subject) -> None:
        self.chaos = chaos
        self.cluster = cluster
        self.subject = subject
        self.violations: list[str] = []
        self.silences: list[tuple[str, float]] = []
        *workers, guest = (self._worker(number) for number in range(LANES))
        self._ground = Ground(chaos, cluster, subject, workers, guest)
        self._watch = Watch(cluster.bootstrap, subject.output, PARTITION_COUNT)
        self._feeder = Feeder(cluster.bootstrap, subject.record, rate=subject.rate)

    def _worker(self, number: int) -> Worker:
        is_guest = number == LANES - 1
        name = "guest" if is_guest else f"worker-{number}"
        return self.chaos.worker(
            name,
            self.subject.module,
            *self.subject.options(CHECKPOINT_INTERVAL_MS),
            *("--instance-id", name),
            bootstrap=self.cluster.lanes[number].bootstrap_servers,
            environment={
                "KSTASH_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
                "KSTASH_INTERNAL_REPLICATION_FACTOR": "3",
                "KSTASH_LEAVE_ON_STOP": str(is_guest).lower(),
                # Crashes find lineage that only the headers of outputs carry.
                "KSTASH_LINEAGE_ACK_DELAY_MS": "300",
            },
            has_log_by_pipe=True,
        )

    def run(self, kinds: Sequence[str]) -> None:
        """Go through all faults, then through the checks; violations are in `violations`."""
        workers = self._ground.workers
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_ready()
        self._watch.start()
        self._feeder.start()
        try:
            hits = plan(self.chaos.random, kinds, len(workers))
            begun = self._carry_out(hits)
            self._note_silences(begun)
        finally:
            self._feeder.finish()
        self._finish()

    # -- faults ----------------------------------------------------------------------------------

    def _carry_out(self, hits: Sequence[Hit]) -> list[tuple[Hit, float]]:
        """Begin and end each fault at its time; returns when each began."""
        start = time.monotonic()
        waiting = deque(hits)
        under_way: list[tuple[float, Hit, Iterator[float]]] = []
        rests: dict[tuple[str, int], float] = {}
        begun: list[tuple[Hit, float]] = []
        while waiting or under_way:
            now = time.monotonic()
            self._restart_ended_workers()
            # What takes longer than planned holds up the next fault of the same victim.
            busy = {hit.place for _, hit, _ in under_way}
            if waiting and now >= start + waiting[0].at_s:
                hit = waiting[0]
                if hit.place not in busy and now >= rests.get(hit.place, 0.0):
                    waiting.popleft()
                    begun.append((hit, now))
                    self._hurt(hit, is_hurt=True)
                    self.chaos.note(str(hit))
                    under_way.append((now, hit, KINDS[hit.kind].act(self._ground, hit)))
            later = []
            for due, hit, acts in under_way:
                pause_s = self._go_on(hit, acts) if now >= due else due - now
                if pause_s is None:
                    rests[hit.place] = time.monotonic() + RECOVERS_S
                else:
                    later.append((now + pause_s, hit, acts))
            under_way = later
            time.sleep(POLL_S)
        return begun

    def _go_on(self, hit: Hit, acts: Iterator[float]) -> float | None:
        """Let a fault take its next step; None when it is over."""
        with self._checking(f"{hit.kind} of {hit.victim}"):
            pause_s = next(acts, None)
            if pause_s is not None:
                return pause_s
        self._hurt(hit, is_hurt=False)
        self.chaos.note(f"end of {hit.kind} (victim {hit.victim})")
        return None

    def _hurt(self, hit: Hit, *, is_hurt: bool) -> None:
        if KINDS[hit.kind].victims == "worker":
            name = self._ground.workers[hit.victim].name
            (self._ground.is_hurt.add if is_hurt else self._ground.is_hurt.discard)(name)

    def _restart_ended_workers(self) -> None:
        """A worker that ends by itself is a violation; it is started again to see the others."""
        for worker in self._ground.workers:
            if not worker.is_running() and worker.name not in self._ground.is_hurt:
                self._violate(f"{worker.name} ended by itself with {worker.exit_code()}")
                worker.start()

    def _note_silences(self, begun: Sequence[tuple[Hit, float]]) -> None:
        """Per fault, the longest silence from its begin to the next one's."""
        # The last fault's harm shows only when output is there again.
        self._wait_for_outputs()
        moments = [moment for _, moment in begun] + [time.monotonic()]
        for (hit, moment), until in zip(begun, moments[1:], strict=True):
            silence_s = self._watch.silence_s(moment, max(until, moment + hit.lasts_s))
            self.silences.append((KINDS[hit.kind].title, silence_s))
            self.chaos.note(f"{hit.kind}: {silence_s:.2f} s without output")

    def _wait_for_outputs(self) -> None:
        with self._checking("catching up while more comes"):
            due = self.subject.output_count(list(self._feeder.sent))
            self._wait_count(due)

    def _wait_count(self, due: int) -> None:
        deadline = time.monotonic() + OUTPUTS_S_MAX
        while self._watch.count < due:
            missing = f"{self._watch.count} of {due} outputs within {OUTPUTS_S_MAX:g} s"
            assert time.monotonic() < deadline, missing
            self._restart_ended_workers()
            time.sleep(0.05)

    # -- checks ----------------------------------------------------------------------------------

    def _finish(self) -> None:
        sent = read_inputs(self.cluster.bootstrap, self.subject.inputs)
        with self._checking("input"):
            lost = len(set(self._feeder.sent) - set(sent))
            assert not lost, f"the test lost {lost} of its own inputs"
        due = self.subject.output_count(sent)
        asked = len(self._feeder.sent)
        self.chaos.note(f"{asked} inputs sent, {len(sent)} in the topics, {due} outputs expected")
        with self._checking("outputs"):
            self._wait_count(due)
        self._watch.finish()
        with self._checking("what comes last"):
            self._wait_for_all(sent)
        with self._checking("assignment"):
            self._check_assignment()
        with self._checking("orderly stop"):
            self._stop_workers()
        with self._checking("processes"):
            self._check_processes()
        with self._checking("live bytes"):
            self._check_live_bytes()
        outputs: Outputs = {}
        with self._checking("read_committed"):
            outputs = read_committed(self.cluster.bootstrap, self.subject.output)
            self.subject.check(outputs, sent)
        with self._checking("reader rule"):
            accepted = read_with_rule(self.cluster.bootstrap, self.subject.output)
            self.subject.check(accepted, sent)
            check_same(outputs, accepted)
        with self._checking("other outputs"):
            self.subject.check_beside(self.cluster.bootstrap, outputs, sent)
        if self.subject.store:
            with self._checking("state"):
                self._check_state(outputs)

    def _wait_for_all(self, sent: Sequence[Record]) -> None:
        def is_all_there() -> bool:
            self._restart_ended_workers()
            return self.subject.is_all_there(self.cluster.bootstrap, sent)

        wait_until(is_all_there, OUTPUTS_S_MAX, "all outputs beside the first")

    def _check_assignment(self) -> None:
        """Every task group has one worker, and no worker is missing."""
        wanted = list(range(PARTITION_COUNT))
        found: list[int] = []

        def is_assigned() -> bool:
            found[:] = sorted(self._assigned())
            return found == wanted

        try:
            wait_until(is_assigned, ASSIGNED_S_MAX, "an owner for every task group")
        except AssertionError as error:
            raise AssertionError(f"{error}; owned are {found}") from None

    def _assigned(self) -> list[int]:
        admin = KafkaAdminClient(bootstrap_servers=self.cluster.bootstrap.split(","))
        try:
            return assigned(admin, self.subject.application_id)
        finally:
            admin.close()

    def _stop_workers(self) -> None:
        # One that was just started would not yet know what SIGTERM means.
        for worker in self._ground.workers:
            wait_until(worker.is_ready, READY_S_MAX, f"READY of {worker.name}")
        # Together, as a deployment stops; each hands over nothing and keeps what it has.
        for worker in self._ground.workers:
            worker.send(signal.SIGTERM)
        codes = {worker.name: worker.wait(STOP_S_MAX) for worker in self._ground.workers}
        assert set(codes.values()) == {0}, f"exit codes after SIGTERM: {codes}"

    def _check_processes(self) -> None:
        """Nothing of this application runs any more."""
        left = processes_of(self.subject.application_id)
        assert not left, f"processes left: {left}"

    def _check_live_bytes(self) -> None:
        """What internal topics keep depends on the checkpoint interval, not on the run's length."""
        subject = self.subject
        topics = LiveBytes(self.cluster.bootstrap, subject.compacted_topics, subject.purged_topics)
        with closing(topics):
            found = topics.sample()
        self.chaos.note(f"live bytes: {found}")
        limit = subject.live_bytes_max
        too_many = {topic: size for topic, size in found.items() if size > limit}
        assert not too_many, f"more than {limit} live bytes: {too_many}"

    def _check_state(self, outputs: Outputs) -> None:
        """What an auditor finds in the store is the last output of each key."""
        expected = self.subject.last_outputs(outputs)
        found = audit(self.subject, self.chaos, self.cluster.bootstrap, sorted(expected))
        wrong = {key: found[key] for key in expected if found[key] != expected[key]}
        shown = [f"{key}: {found[key]} not {expected[key]}" for key in sorted(wrong)[:3]]
        assert not wrong, f"state of {len(wrong)} of {len(expected)} keys is wrong: {shown}"

    @contextmanager
    def _checking(self, what: str) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            self._violate(f"{what}: {error}")

    def _violate(self, what: str) -> None:
        self.violations.append(what)
        self.chaos.note(f"VIOLATION {what}")


def audit(subject: Subject, chaos: Chaos, bootstrap: str, keys: Sequence[str]) -> dict[str, object]:
    """The state of an application that was stopped, for these keys."""
    report = chaos.folder / "state.json"
    request = {
        "name": subject.name,
        "application_id": subject.application_id,
        "inputs": subject.inputs,
        "output": subject.output,
        "transactional_output": subject.transactional_output,
        "store": subject.store,
        "keys": list(keys),
        "report": str(report),
        "settings": {
            "bootstrap_servers": bootstrap,
            "state_dir": str(chaos.folder / "state-auditor"),
            "instance_id": "auditor",
            "internal_replication_factor": 3,
        },
    }
    auditor = Worker(
        "auditor",
        ["tests.chaos.auditor", json.dumps(request)],
        chaos.folder,
        {"PYTHONFAULTHANDLER": "1", "KSTASH_LOG_LEVEL": "debug"},
    )
    chaos.workers.append(auditor)
    auditor.start()
    try:
        code = auditor.wait(AUDIT_S_MAX)
    except AssertionError:
        auditor.send(signal.SIGABRT)  # has it write down where each thread is
        auditor.wait()
        raise
    assert code == 0, f"the auditor left with exit code {code}"
    found: dict[str, object] = json.loads(report.read_text())
    return found


def storm(
    cluster: Cluster,
    folder: Path,
    subject_type: type[Subject],
    kinds: Sequence[str],
    table: Table,
    *,
    seed: int,
) -> None:
    """Run one application through these faults and add it to the table.

    Raises:
        AssertionError: at least one check failed; carries the seed, the faults and the logs.
    """
    with chaos_run(cluster.bootstrap, folder, seed=seed) as chaos:
        cluster.wait_in_sync()
        subject = subject_type(chaos, partition_count=PARTITION_COUNT, replicas=3)
        chaos.note(f"{subject.name} as {subject.application_id}: {' '.join(kinds)}")
        run = Storm(chaos, cluster, subject)
        try:
            run.run(kinds)
        finally:
            table.add(run.silences, len(run.violations))
        assert not run.violations, "\n".join(run.violations)

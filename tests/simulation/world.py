"""Workers, membership and the system as a whole: everything that a schedule acts on."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import kstash.core.stash as core_stash
from kstash.core.determinants import Completed
from kstash.core.ids import TaskId
from kstash.core.lineage import LineageView
from kstash.core.plan import TaskSpec
from kstash.core.reader import ReaderState
from kstash.core.recovery import candidates, plan_task, scan_starts
from kstash.core.sink import CommittedPositions
from kstash.core.tail_scan import TailScan
from kstash.core.trim import purge_limit
from kstash.core.wire import End, Fence
from kstash.errors import IncarnationFencedError, KstashError, LineageGapError
from tests.simulation.checkers import Checkers
from tests.simulation.knobs import Knobs, Mutations
from tests.simulation.layout import APPLICATION, LINEAGE, MIDDLE, specs_of, stages_of
from tests.simulation.programs import INTERNAL, is_internal
from tests.simulation.sim_calls import Answers, Outside, is_of_calls
from tests.simulation.sim_group import SimGroup, scan_record
from tests.simulation.sim_kafka import Cluster, Log, OffsetOutOfRange, Record, Session
from tests.simulation.sim_live import told_by
from tests.simulation.sim_task import Saved, SimTask
from tests.simulation.timed import DELAYS, GRACE, IDLE_TIMEOUT, SETTLED
from tests.simulation.truth import ViolationError


class Worker:
    """One process: its clients, its disk, the groups it believes to own."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.name = f"worker-{number}"
        self.groups: dict[int, SimGroup] = {}
        self.disk: dict[tuple[TaskId, str], Saved] = {}
        self.is_alive = True
        self.paused_until = 0
        self.sessions: list[Session] = []
        self.open()

    def open(self) -> None:
        """Make the clients of a fresh process."""
        cluster = self.world.cluster
        self.data = Session(cluster, "data", self.number)
        self.lineage = Session(cluster, "lineage", self.number)
        self.markers = Session(cluster, "markers", self.number)
        self.claims = Session(cluster, "claims", self.number)
        self.sessions = [self.data, self.lineage, self.markers, self.claims]
        # Where partitions ended, and at which question; shared by all its groups.
        self.ends: dict[tuple[str, int], tuple[int, int]] = {}
        self.questions = 0

    def close(self) -> None:
        """All clients and groups are gone."""
        for session in self.sessions:
            session.close()
        for group in self.groups.values():
            group.close()
        self.groups = {}

    def crash(self, *, loses_disk: bool) -> None:
        """Die at once; what was sent may still land."""
        self.close()
        self.is_alive = False
        if loses_disk:
            self.disk = {}

    def restart(self) -> None:
        """Come back with the groups that the membership gives."""
        self.is_alive = True
        self.paused_until = 0
        self.open()
        for number in range(self.world.groups):
            if self.world.owners[number] == self.number:
                self.groups[number] = SimGroup(self, number)

    def start_over(self, number: int) -> None:
        """An attempt has ended: try again when the membership says so."""
        old = self.groups.pop(number, None)
        if old is not None:
            old.close()
        if self.is_alive and self.world.owners[number] == self.number:
            self.groups[number] = SimGroup(self, number)

    def check_sessions(self) -> None:
        """Fail-stop: an error of a shared producer ends every group of the worker."""
        if self.data.failed or self.lineage.failed or self.markers.failed:
            numbers = sorted(self.groups)
            for session in self.sessions:
                session.fail()
                session.close()
            for number in numbers:
                self.groups[number].close()
            self.open()
            for number in numbers:
                self.start_over(number)
        for number, group in list(self.groups.items()):
            if any(sink.failed for sink in group.sinks):
                self.start_over(number)

    def serve(self, count: int) -> None:
        """Run acknowledgement callbacks."""
        for session in self.sessions:
            if session.mailbox:
                session.serve(count)
        for group in list(self.groups.values()):
            for sink in group.sinks:
                if sink.mailbox:
                    sink.serve(count)

    def guard(self, number: int, action: Any, *args: Any) -> None:
        """Run an action of a group; being fenced ends the attempt.

        So does whatever a zombie of before a reset finds wrong in topics that are not its own.
        """
        group = self.groups[number]
        try:
            action(*args)
        except IncarnationFencedError:
            self.start_over(number)
        except (ViolationError, KstashError, OffsetOutOfRange):
            if not group.is_of_an_older_life:
                raise
            self.start_over(number)


class World:
    """One simulated system under one seed."""

    def __init__(self, rng: Random, knobs: Knobs, mutations: Mutations) -> None:
        self.rng = rng
        self.knobs = knobs
        self.mutations = mutations
        self.groups = 2
        core_stash.SEGMENT_ENTRIES_MAX = knobs.segment_entries_max
        self.application = APPLICATION
        self.cluster = Cluster()
        self.stages = stages_of(knobs)
        self.has_sinks = any(o.kind != INTERNAL for s in self.stages for o in s.outputs)
        self.specs = [specs_of(self.stages, self.groups, p) for p in range(self.groups)]
        self.logging_specs = [
            specs_of(self.stages, self.groups, p, logs=True) for p in range(self.groups)
        ]
        self.external_inputs = {
            s.index: [i for i, internal in enumerate(s.internal) if not internal]
            for s in self.stages
        }
        self.outside = Outside(forgets=knobs.outside_forgets)
        self.checkers = Checkers(
            self.cluster,
            self.stages,
            groups=self.groups,
            lineage_topic=LINEAGE,
            header_bytes_max=knobs.header_bytes_max,
            outside=self.outside,
        )
        self.lineage_logs = [self.cluster.log(LINEAGE, p) for p in range(self.groups)]
        self.internal_logs = [
            self.cluster.log(topic, p)
            for topic in sorted({o.topic for s in self.stages for o in s.outputs if is_internal(o)})
            for p in range(self.groups)
        ]
        self.remote: dict[tuple[TaskId, str], Saved] = {}
        # URIs of the files of remote checkpoints.
        self.store: set[str] = self.checkers.store
        self.owners = [int(rng.random() * knobs.worker_count) for _ in range(self.groups)]
        self.is_settling = False
        self.step = 0
        self.life = 1
        self.live_count = 0
        self.purges: list[tuple[Log, int]] = []
        self._clock = 1000
        # When windows are over, once nothing comes any more.
        self.settled_ms = 0
        self._nonce = 0
        self.inputs_left = knobs.input_count
        self.workers: list[Worker] = []
        for number in range(knobs.worker_count):
            self.workers.append(Worker(self, number))
        for worker in self.workers:
            worker.close()
            worker.restart()
        if knobs.starts_twice:
            for number in range(self.groups):
                self.move(number, (self.owners[number] + 1) % knobs.worker_count)

    # ---- the environment of the operators

    def read_clock(self) -> int:
        """Return a time that only moves forward, with ticks."""
        self._clock += int(self.rng.random() * 5)
        if self.is_settling and self.knobs.is_timed:
            self._clock += IDLE_TIMEOUT // 4
        return self._clock

    def call_outside(self) -> int:
        """Return the answer of an outside system, never the same twice."""
        return int(self.rng.random() * (1 << 30))

    def next_nonce(self) -> bytes:
        """Return a fresh nonce."""
        self._nonce += 1
        return self._nonce.to_bytes(8, "big")

    def generation_seen_by(self, worker: Worker) -> int:
        """Creation time of the lineage topic, as a worker reads it (clocks differ)."""
        if self.mutations.generation_is_constant:
            return 1
        return self.life * 1000 + worker.number * 7 % 3

    def specs_of(self, worker: Worker, number: int) -> tuple[TaskSpec, ...]:
        """What a worker knows of a group's tasks: some are of a release that logs more."""
        if self.knobs.has_releases and worker.number % 2:
            return self.logging_specs[number]
        return self.specs[number]

    def feed(self) -> None:
        """The outside world appends one input record."""
        if self.inputs_left <= 0:
            return
        self.inputs_left -= 1
        rng = self.rng
        topic = rng.choice((*self.knobs.first_inputs, *self.knobs.beside))
        partition = int(rng.random() * self.groups)
        value: tuple[int, ...] = int(rng.random() * 5), int(rng.random() * 1000)
        if self.knobs.is_timed:
            # In its own log none is late, and some logs are behind the clock. What the second
            # stage reads beside frames is in order: that one has no grace.
            delay = DELAYS[(self.knobs.steps + len(topic) + partition) % len(DELAYS)]
            disorder = GRACE if topic in self.knobs.first_inputs else 1
            value = (*value, self.read_clock() - delay - int(rng.random() * disorder))
        self.cluster.append(self.cluster.log(topic, partition), Record(None, value))

    # ---- membership

    def move(self, number: int, to: int) -> None:
        """The membership gives a group to another worker; the old owner is not told here."""
        self.owners[number] = to
        worker = self.workers[to]
        if worker.is_alive and number not in worker.groups:
            worker.groups[number] = SimGroup(worker, number)

    def is_at_end(self, task: SimTask) -> bool:
        """Whether a task of a bounded run has read everything (§8)."""
        if not self.knobs.is_bounded or self.inputs_left:
            return False
        for i, internal in enumerate(task.stage.internal):
            if task.has_input(i):
                return False
            table = task.tables[i]
            counted = 0 if table is None else list(table.ends.values()).count(self.life)
            if internal and counted < self.groups:
                return False
        if task.state.open and not self.mutations.ends_with_open_calls:
            return False
        return not task.state.timers  # that work is left keeps END back by the core

    # ---- trimming

    def delete_files(self, task: TaskId, uris: set[str]) -> None:
        """Delete files of a task's remote checkpoints from the store."""
        self.store -= uris
        self.checkers.check_files(task)

    def is_reading_lineage(self, number: int) -> bool:
        """Whether some attempt at a group is between its first record and its SEAL."""
        groups = [worker.groups.get(number) for worker in self.workers]
        return any(group is not None and group.is_reading_lineage for group in groups)

    def plan_purges(self) -> None:
        """Read all of the lineage topic and find what may be purged; it is done later."""
        if self.rng.random() < 0.5:
            self.purges.extend(self.purge_limits())

    def purge_limits(self) -> list[tuple[Log, int]]:
        """Return per internal partition the offset below which it may be deleted."""
        views = {}
        for log in self.lineage_logs:
            view = views[log.partition] = LineageView()
            for record in log.records:
                if not is_of_calls(record):
                    view.fold(record.offset, told_by(record))
            counted = [offset for found in view.checkpoints.values() for offset, _ in found]
            self.checkers.check_void(log, counted)
        limits: list[tuple[Log, int]] = []
        for log in self.internal_logs:
            topic, p = log.key
            readers = [
                (TaskId(stage.index, p), i)
                for stage in self.stages
                for i, name in enumerate(stage.inputs)
                if name == topic
            ]
            writers = [
                (TaskId(stage.index, group), (o, p))
                for stage in self.stages
                for o, output in enumerate(stage.outputs)
                if output.topic == topic
                for group in range(self.groups)
            ]
            limits.append((log, purge_limit(views, readers, writers)))
        return limits

    # ---- once faults have stopped

    def settle(self) -> None:
        """Stop all faults and let the system catch up (I10)."""
        self.is_settling = True
        for log in self.cluster.logs.values():
            log.lag = 0
        for worker in self.workers:
            worker.paused_until = 0
            if any(group.is_of_an_older_life for group in worker.groups.values()):
                # It looks every ten seconds whether topics were made anew, and ends then (H53).
                worker.crash(loses_disk=False)
            if not worker.is_alive:
                worker.restart()
        while self.inputs_left > 0:
            self.feed()
        self.settled_ms = self._clock + SETTLED
        for _ in range(400):
            if self._settle_once():
                return
        states = [
            (w.name, n, g.core.state.value) for w in self.workers for n, g in w.groups.items()
        ]
        raise ViolationError("I10", f"not caught up: {states}, owners {self.owners}")

    def _settle_once(self) -> bool:
        cluster = self.cluster
        while cluster.busy:
            cluster.land(cluster.busy[-1])
        for request in list(cluster.requests):
            cluster.arrive(request)
        while self.outside.on_way:
            self.outside.arrive(0)
        is_quiet = True
        for worker in self.workers:
            worker.serve(1 << 30)
            worker.check_sessions()
            for number in range(self.groups):
                if self.owners[number] == worker.number and number not in worker.groups:
                    worker.start_over(number)
            for number, group in list(worker.groups.items()):
                if self.owners[number] != worker.number or group.is_released:
                    is_quiet = is_quiet and not group.is_released
                    group.close()
                    del worker.groups[number]
                    continue
                worker.guard(number, self._settle_group, group)
                if not self._is_quiet(group):
                    is_quiet = False
        return is_quiet and not cluster.busy and not cluster.requests

    def _settle_group(self, group: SimGroup) -> None:
        rng = self.rng
        group.work(rng, 1 << 30)
        if group.core.claim_offset >= 0 and group.tasks:
            group.follow()
            group.delete_files()
            for task in group.tasks.values():
                if group.is_live and not group.is_draining:
                    while task.run_batch(rng, 6):
                        pass
                group.flush(task)
            group.commit()
            if group.is_live:
                group.publish(rng)
                if group.is_draining:
                    group.release()
                if self.knobs.is_bounded:
                    group.send_ends()

    def _is_quiet(self, group: SimGroup) -> bool:
        if group.dead or not group.is_live or group.is_draining:
            return False
        for task in group.tasks.values():
            core = task.core
            if core.outputs_done_through() < core.position or core.stable < core.position:
                return False
            if any(task.has_input(i) for i in range(len(task.stage.inputs))) or task.state.open:
                return False
            if self.knobs.is_bounded and not self.is_at_end(task):
                return False
            if task.waits is not None and not task.waits.is_over(self.settled_ms):
                return False
        return not group.pending

    def check_late_readers(self) -> None:
        """A core reader that comes late, and saves its table midway, accepts the same (I2)."""
        for (topic, p), online in self.checkers.readers.items():
            log = self.cluster.log(topic, p)
            if log.start or self.life > 1:
                continue
            table = ReaderState(is_internal=topic == MIDDLE)
            saved_at = int(self.rng.random() * (log.end + 1))
            accepted = []
            for record in log.records:
                if record.offset == saved_at:
                    table = ReaderState.from_json(table.to_json())
                head = record.headers
                if isinstance(head, Fence | End):
                    table.mark(head)
                    continue
                cut = table.accept(head[0])
                if cut < head[0].count:
                    accepted.append((record.offset, cut, record.value[cut:]))
            if accepted != online.accepted:
                raise ViolationError("I2", f"{log}: late {accepted}, online {online.accepted}")

    def damage_newest(self) -> None:
        """Damage the files of the newest of two good retained checkpoints of some tasks."""
        labels: dict[TaskId, dict[int, str]] = {}
        for _, info in sorted(self.checkers.checkpoints.items(), key=lambda item: item[0]):
            if info.record.is_remote:
                labels.setdefault(info.record.task, {})[info.record.position] = info.record.label
        for task, by_position in sorted(labels.items()):
            retained = [by_position[position] for position in sorted(by_position)[-2:]]
            is_good = all((task, label) in self.remote for label in retained)
            if is_good and len(retained) > 1 and self.rng.random() < 0.5:
                del self.remote[task, retained[1]]
                self.checkers.damaged.add((task, retained[1]))

    def check_fallbacks(self, live: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        """Whichever of its retained checkpoints a task falls back to, it comes back (I7).

        Of what the hardest compaction leaves, and for each of them as if the newer ones' files were
        damaged. `live` gives the incarnation of each task.
        """
        for number, log in enumerate(self.lineage_logs):
            left = Log(log.topic, log.partition)
            left.records, left.end = list(log.records), log.end
            left.compact(left.end, drop_tombstones_below=left.end)
            view, answers = LineageView(), Answers()
            for record in left.records:
                if is_of_calls(record):
                    answers.fold(record, view.generation)
                else:
                    view.fold(record.offset, told_by(record))
            for spec in self.specs[number]:
                self._check_fallbacks(view, answers, spec, live[spec.task])

    def _check_fallbacks(
        self, view: LineageView, answers: Answers, spec: TaskSpec, live: tuple[int, int]
    ) -> None:
        chain = view.newest_chain()
        usable = {
            c.position: c for c in reversed(candidates(view, spec.task, chain)) if c.is_remote
        }
        newest = self.checkers.newest_remote(spec.task, live)
        if missing := newest - {(c.position, c.label) for c in usable.values()}:
            raise ViolationError("I7", f"{spec.task}: retained and no candidate: {missing}")
        for position, label in newest:
            scan = TailScan(
                spec, starts=scan_starts(view, spec, usable[position]), known=view.starts
            )
            self._scan(scan)
            metadata = self.cluster.positions.get(f"app-{spec.task.partition}")
            known = CommittedPositions.decode(metadata).positions if metadata else {}
            committed = max(known.get(spec.task.stage, 0), position)
            try:
                plan = plan_task(
                    view,
                    spec,
                    application=APPLICATION,
                    chain=chain,
                    base=usable[position],
                    scan=scan,
                    committed=committed,
                )
                for entry in plan.lineage:
                    if isinstance(entry, Completed):
                        answers.found.answer_of(spec.task, entry)
            except LineageGapError as error:
                raise ViolationError("I7", f"{spec.task} from {label}: {error}") from error
            self.checkers.check_plan(spec.task, live, plan.position, plan.adopted, plan.lineage)

    def _scan(self, scan: TailScan) -> None:
        for out, (start, _) in scan.starts.items():
            log = self.cluster.log(self.stages[scan.task.stage].outputs[out[0]].topic, out[1])
            for record in log.fetch(max(start, log.start), 1 << 30, committed=False)[0]:
                scan_record(scan, out, record)

    def check(self) -> None:
        """Check everything, in a state that has settled."""
        live: dict[tuple[int, int], tuple[tuple[int, int], Any]] = {}
        for worker in self.workers:
            for group in worker.groups.values():
                for task in group.tasks.values():
                    live[task.id] = (task.incarnation, task.state.snapshot())
        assert len(live) == self.groups * len(self.stages)
        self.checkers.check_all(live)
        self.check_late_readers()
        for task_id, (incarnation, _) in live.items():
            self.checkers.check_trim(task_id, incarnation)
        self.check_fallbacks({task: incarnation for task, (incarnation, _) in live.items()})

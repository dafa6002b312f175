"""One seed drives one run: an adversarial schedule, then quiet, then the checks."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from random import Random

from kstash.core.record_keys import encode_key
from kstash.core.records import Generation
from kstash.errors import CommittedPositionLostError, KstashError
from tests.simulation.knobs import Knobs, Mutations
from tests.simulation.sim_group import SimGroup
from tests.simulation.sim_kafka import OPEN, OffsetOutOfRange, Pipe, Record
from tests.simulation.truth import ViolationError
from tests.simulation.world import Worker, World


class Result:
    """What became of one seed."""

    __slots__ = ("invariant", "seed", "text", "world")

    def __init__(self, seed: int, world: World, invariant: str, text: str) -> None:
        self.seed = seed
        self.world = world
        self.invariant = invariant
        self.text = text

    @property
    def digest(self) -> int:
        """CRC of everything that is in any log at the end, in order."""
        crc = zlib.crc32(self.text.encode())
        for key, log in sorted(self.world.cluster.logs.items()):
            crc = zlib.crc32(repr((key, log.start, log.end)).encode(), crc)
            for record in log.records:
                crc = zlib.crc32(repr((record.offset, record.meaning)).encode(), crc)
        return crc


def run_seed(
    seed: int, mutations: Mutations | None = None, *, shape: Mapping[str, object] | None = None
) -> Result:
    """Run one seed; `shape` fixes some of the knobs (directed schedules)."""
    rng = Random(seed)
    knobs = Knobs(rng)
    # Of choices that are made already, so that older seeds stay what they were.
    is_timed = (knobs.input_count, knobs.steps, knobs.batch) == (40, 110, 3)
    if is_timed if shape is None else shape.get("is_timed"):
        knobs.become_timed()
    for name, value in (shape or {}).items():
        assert hasattr(knobs, name), name
        setattr(knobs, name, value)
    world = World(rng, knobs, mutations or Mutations())
    try:
        Schedule(world).run()
    except ViolationError as violation:
        return Result(seed, world, violation.invariant, str(violation))
    except (KstashError, OffsetOutOfRange) as error:
        # With the complete rules nothing refuses to start and nothing is found corrupt.
        return Result(seed, world, "refused", f"{type(error).__name__}: {error}")
    return Result(seed, world, "", "")


class Schedule:
    """Chooses what happens next."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.knobs = world.knobs

    def run(self) -> None:
        """Faults, then quiet, then the checks; with a finale, once more after a total loss."""
        world, rng = self.world, self.rng
        for _ in range(self.knobs.steps):
            self.step()
        if self.knobs.resets:
            self.reset()
            for _ in range(self.knobs.steps):
                self.step()
        elif self.knobs.rate_recreate and rng.random() < self.knobs.rate_recreate:
            self.recreate()
            for _ in range(self.knobs.steps):
                self.step()
        world.settle()
        world.check()
        if self.knobs.has_loss:
            self.lose_all()
        if self.knobs.has_finale:
            self.finale()
        if self.knobs.expires and not self.knobs.is_bounded:
            self.expire()

    def step(self) -> None:
        """One step: the network, then one worker, then perhaps a fault."""
        world, rng, knobs = self.world, self.rng, self.knobs
        world.step += 1
        world.cluster.now = world.step
        if rng.random() < 0.5:
            world.feed()
        if rng.random() < knobs.rate_land:
            self.network()
        worker = world.workers[int(rng.random() * len(world.workers))]
        if not worker.is_alive:
            if rng.random() < 0.4:
                worker.restart()
        elif worker.paused_until <= world.step:
            self.worker(worker)
        self.faults(worker)

    def network(self) -> None:
        """Land some writes, lose some of dead sessions, carry requests."""
        cluster, rng = self.world.cluster, self.rng
        busy = cluster.busy
        for _ in range(1 + int(rng.random() * 6)):
            if not busy:
                break
            pipe = busy[int(rng.random() * len(busy))]
            session = pipe.session
            if session.closed and rng.random() < 0.3:
                session.drop(pipe)
                continue
            if self._is_slow(pipe) and rng.random() < 0.9:
                continue
            again = False
            if session.kind == "markers":
                again = rng.random() < 0.08
            elif session.kind == "claims" and self.world.mutations.claims_are_retried:
                self._retry(pipe)
            cluster.land(pipe, again=again)
        on_way = self.world.outside.on_way
        if on_way and rng.random() < 0.4:
            self.world.outside.arrive(int(rng.random() * len(on_way)))
        if cluster.requests and rng.random() < 0.6:
            request = cluster.requests[int(rng.random() * len(cluster.requests))]
            if request.session.closed and rng.random() < 0.5:
                cluster.requests.remove(request)
            else:
                cluster.arrive(request)

    def _retry(self, pipe: Pipe) -> None:
        # The same key a second time, later (H34).
        if self.rng.random() < 0.5:
            record, _ = pipe.items[0]
            copy = Record(record.key, record.value, record.headers, record.meaning)
            pipe.items.append((copy, None))
            pipe.session.inflight += 1

    def _is_slow(self, pipe: Pipe) -> bool:
        knobs = self.knobs
        session = pipe.session
        return session.kind == knobs.slow_kinds and knobs.slow_worker in (-1, session.client)

    def worker(self, worker: Worker) -> None:
        """One turn of a worker's loop."""
        rng = self.rng
        worker.serve(1 + int(rng.random() * 8))
        worker.check_sessions()
        for number, group in list(worker.groups.items()):
            if worker.groups.get(number) is group and not group.dead:
                worker.guard(number, self.group, group)

    def group(self, group: SimGroup) -> None:
        """One turn of one group."""
        rng, knobs = self.rng, self.knobs
        group.work(rng, 1 + int(rng.random() * 12))
        if not group.tasks or group.dead:
            return
        if self.world.step % 3:
            group.delete_files()
        if rng.random() < knobs.rate_follow:
            group.follow()
        if group.is_draining:
            self.drain(group)
        elif group.is_live:
            for task in group.tasks.values():
                if rng.random() < 0.7:
                    task.run_batch(rng, knobs.batch)
                if rng.random() < knobs.rate_checkpoint:
                    if task.core.position > task.checkpointed:
                        group.checkpoint(task, is_remote=rng.random() < knobs.rate_remote)
                    else:
                        group.say_again(task)
            if group.pending:
                group.publish(rng)
            if knobs.is_bounded:
                group.send_ends()
        for task in group.tasks.values():
            if rng.random() < knobs.rate_flush:
                group.flush(task)
            if rng.random() < knobs.rate_hint:
                group.hint(task)
                group.list_ends(task)
        if group.listings and rng.random() < 0.5:
            group.answer_listings()
        if rng.random() < knobs.rate_commit:
            group.commit()

    def drain(self, group: SimGroup) -> None:
        """A step of a graceful move: the next owner gets the group when RELEASE is acknowledged."""
        world = self.world
        for task in group.tasks.values():
            task.run_batch(self.rng, world.knobs.batch)  # nothing comes
        if group.pending:
            group.publish(self.rng)
        group.release()
        if group.is_released:
            group.close()
            del group.worker.groups[group.number]
            world.move(group.number, int(self.rng.random() * len(world.workers)))

    def faults(self, worker: Worker) -> None:
        """Perhaps a fault."""
        world, rng, knobs = self.world, self.rng, self.knobs
        roll = rng.random()
        if roll < knobs.rate_crash:
            if worker.is_alive:
                worker.crash(loses_disk=rng.random() < knobs.rate_disk_loss)
                if rng.random() < 0.5:
                    for number in range(world.groups):
                        if world.owners[number] == worker.number:
                            world.move(number, int(rng.random() * len(world.workers)))
            return
        roll -= knobs.rate_crash
        if roll < knobs.rate_move:
            number = int(rng.random() * world.groups)
            world.move(number, int(rng.random() * len(world.workers)))
            return
        roll -= knobs.rate_move
        if roll < knobs.rate_pause:
            worker.paused_until = world.step + int(rng.random() * 40)
            return
        roll -= knobs.rate_pause
        if roll < knobs.rate_fail:
            self.fail(worker)
            return
        roll -= knobs.rate_fail
        if roll < knobs.rate_compact:
            self.compact()
            return
        roll -= knobs.rate_compact
        if roll < knobs.rate_purge:
            world.plan_purges()
            if world.purges and rng.random() < 0.7:
                log, limit = world.purges.pop(int(rng.random() * len(world.purges)))
                log.purge(limit)
            return
        roll -= knobs.rate_purge
        if roll < knobs.rate_release and worker.groups:
            group = worker.groups[min(worker.groups)]
            if group.is_live and not group.is_draining:
                group.begin_release()
            return
        roll -= knobs.rate_release
        if roll < knobs.rate_lead:
            logs = list(world.cluster.logs.values())
            log = logs[world.step % len(logs)]
            log.lag = 0 if log.lag else 1 + world.step % 9

    def fail(self, worker: Worker) -> None:
        """A delivery error, or a transaction that takes too long."""
        world, rng = self.world, self.rng
        if rng.random() < 0.4:
            coordinators = [c for c in world.cluster.coordinators.values() if c.transaction]
            if coordinators:
                world.cluster.expire(coordinators[int(rng.random() * len(coordinators))])
            return
        if not worker.is_alive:
            return
        if rng.random() < 0.3:
            self.time_out_claims(worker)
            return
        session = worker.data if rng.random() < 0.7 else worker.lineage
        if world.mutations.skips_on_failure:
            pipes = [pipe for pipe in session.pipes.values() if pipe.items]
            if pipes:
                session.skip(pipes[int(rng.random() * len(pipes))])
            return
        session.fail()

    def time_out_claims(self, worker: Worker) -> None:
        """The client gives CLAIMs and CONFIGs up; they may land all the same, later."""
        for pipe in worker.claims.pipes.values():
            for i, (record, on_ack) in enumerate(pipe.items):
                if on_ack is not None:
                    pipe.items[i] = record, None
                    worker.claims.mailbox.append((on_ack, "timed out", -1))

    def compact(self, *, maximal: bool = False) -> None:
        """Compact some or all of the lineage topic."""
        rng = self.rng
        for log in self.world.lineage_logs:
            if maximal:
                log.compact(log.end, drop_tombstones_below=log.end)
            elif rng.random() < 0.6 and log.end:
                end = int(rng.random() * (log.end + 1))
                drop = int(rng.random() * end) if rng.random() < 0.5 else 0
                if self.world.is_reading_lineage(log.partition):
                    drop = 0  # no read takes longer than `delete.retention.ms` (H23)
                # Half of the time the cleaner is still under way.
                step = self.world.step
                cleaned = end if step % 2 else end * (step // 2 % 7) // 7
                log.compact(end, drop_tombstones_below=drop, cleaned=cleaned)

    def finale(self) -> None:
        """Everything is checkpointed, trimmed and lost; what is left must be enough."""
        world = self.world
        world.is_settling = True
        first_ends = self._checkpoint_all()
        before = self._reader_positions()
        if not self.knobs.is_bounded:
            world.inputs_left += 12
        world.settle()
        self._checkpoint_all()
        # A reader that stood still keeps what lies between its last two checkpoints.
        stood = {p for p, position in self._reader_positions().items() if position == before[p]}
        for log, limit in world.purge_limits():
            if log.partition not in stood and limit < first_ends[log.key]:
                raise ViolationError(
                    "I8", f"{log}: all is done at {first_ends[log.key]}, purge only to {limit}"
                )
            log.purge(limit)
        world.check()
        self.lose_all()

    def _checkpoint_all(self) -> dict[tuple[str, int], int]:
        """Checkpoint every task; returns where the internal partitions ended before it."""
        world = self.world
        for worker in world.workers:
            for group in worker.groups.values():
                for task in group.tasks.values():
                    if self.knobs.rate_hint:
                        group.hint(task)
                    group.list_ends(task)
                group.answer_listings()
                for task in group.tasks.values():
                    group.checkpoint(task, is_remote=True)
        ends = {log.key: log.end for log, _ in world.purge_limits()}
        world.settle()
        return ends

    def _reader_positions(self) -> dict[int, int]:
        """Position of the task that reads each partition of the internal topic."""
        return {
            number: task.core.position
            for worker in self.world.workers
            for number, group in worker.groups.items()
            for task in group.tasks.values()
            if any(task.stage.internal)
        }

    def lose_all(self) -> None:
        """Compact all that can be compacted, lose every process and disk, and go on."""
        world = self.world
        self.compact(maximal=True)
        world.check()
        world.damage_newest()
        for worker in world.workers:
            worker.crash(loses_disk=True)
        if not self.knobs.is_bounded:
            world.inputs_left += int(self.rng.random() * 8)
        world.settle()
        world.check()

    def expire(self) -> None:
        """Everything is down for a week, and Kafka forgets the committed positions (H33).

        Who cannot know which outputs are out must not start.
        """
        world = self.world
        world.is_settling = True
        self._checkpoint_all()
        world.inputs_left += 12
        world.settle()
        for worker in world.workers:
            worker.crash(loses_disk=False)
        world.cluster.requests.clear()
        world.cluster.positions.clear()
        try:
            world.settle()
        except CommittedPositionLostError:
            return
        world.check()

    def reset(self) -> None:
        """`kstash reset`: all topics of the application are made anew, and zombies know nothing.

        Some workers are dead, the others asleep: what they have sent may land at any time, in the
        topics as they are then. One comes back as a fresh process.
        """
        world, rng = self.world, self.rng
        for worker in world.workers:
            if worker.is_alive and rng.random() < 0.3:
                worker.crash(loses_disk=True)
            worker.paused_until = world.step + int(rng.random() * 60)
        cluster = world.cluster
        for log in (*world.lineage_logs, *world.internal_logs):
            log.records, log.offsets, log.start, log.end, log.lag = [], [], 0, 0, 0
        cluster.positions.clear()
        world.remote.clear()
        world.store.clear()
        world.purges.clear()
        world.life += 1
        # Its transactional ids are fenced before the new lineage topic says that all is done.
        for coordinator in cluster.coordinators.values():
            cluster.expire(coordinator)
        world.checkers.reset()
        if rng.random() < 0.3:
            self.network()
        self._configure()
        fresh = world.workers[int(rng.random() * len(world.workers))]
        fresh.crash(loses_disk=True)
        world.owners = [fresh.number] * world.groups
        fresh.restart()

    def _configure(self) -> None:
        """Write the CONFIGs; a zombie's that was faster is not left there."""
        world = self.world
        for log in world.lineage_logs:
            if any(isinstance(record.value, Generation) for record in log.records):
                log.records, log.offsets, log.end = [], [], 0
                world.checkers.generations.pop(log.partition)
            config = Generation(world.next_nonce(), world.life * 1000)
            world.cluster.append(log, Record(encode_key(config), config, None, config))

    def recreate(self) -> None:
        """The lineage topic is deleted and made anew while the application is down."""
        world = self.world
        for worker in world.workers:
            worker.crash(loses_disk=False)
        cluster = world.cluster
        cluster.requests.clear()
        for pipe in list(cluster.busy):
            if pipe.log in world.lineage_logs or pipe.session.transactional_id is not None:
                pipe.session.drop(pipe)
        for coordinator in cluster.coordinators.values():
            if coordinator.transaction is not None and coordinator.transaction.state == OPEN:
                cluster.expire(coordinator)
        for log in world.lineage_logs:
            log.records, log.offsets, log.start, log.end = [], [], 0, 0
        world.purges.clear()
        world.life += 1
        world.checkers.new_life()

"""What a `TestDriver` drives: one worker at a time, and the world around it in memory."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kstash.app import App
from kstash.errors import ConfigError, KstashError, StepDeadlineError
from kstash.escape import short_repr
from kstash.runtime.layout import Layout
from kstash.runtime.worker.worker import Worker
from kstash.settings.config import OWN_MESSAGE_BYTES_MAX
from kstash.startup.continuity import settled
from kstash.surface.streams import Stream
from kstash.testing.background import ManualBackground
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.allowance import Allowance
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.cluster import MemoryCluster
from kstash.testing.metrics import MemoryMetrics
from kstash.testing.state import MemoryBackend
from kstash.testing.stores import MemoryCheckpointStore
from kstash.testing.taps import Taps

TICK_S = 0.05
"""Seconds by which the clock moves at a time: short against every interval of the settings."""

QUIET_STEPS = 3
"""Steps of the worker in a row without any activity after which it is at rest."""

STEPS_MAX = 100_000
"""Steps of the worker without coming to rest after which something is wrong."""

RECOVERY_S_MAX = 120
"""Seconds by the manual clock within which a worker must be live."""

_NO_WORKER = (
    "there is no worker: it crashed, ended with an error, or was closed; recover() starts a new one"
)


class Rig:
    """A program, Kafka, disk, store and clock; and the worker, while there is one.

    Internals of kstash: what is here may change with any version.

    Args:
        app: the program.
        partitions: partition count of all user topics, or by topic.
        lineage_delay_s: seconds by the manual clock until the lineage topic takes a record.
        start_ms: Unix time in milliseconds at which the clock starts.

    Attributes:
        topology: of the program; once a worker has started, as it settled it.
        config: settings of the next worker.
        lineage_delay_s: of the next worker.
        backend: the disk of its state.
        allowance: how many writes the worker has left until it dies.
        dropped: records that operators of workers before this one left out, by (label, reason).
        taps: streams that are read beside the topics.
    """

    def __init__(
        self,
        app: App,
        *,
        partitions: int | Mapping[str, int],
        lineage_delay_s: float,
        start_ms: int,
        streams: Sequence[Stream[Any, Any]] = (),
    ) -> None:
        self.declare(app, streams)
        self._partitions = partitions
        self.lineage_delay_s = lineage_delay_s
        self.clock = ManualClock(start_ms)
        self.kafka = MemoryKafka(self.clock)
        self.metrics = MemoryMetrics()
        self.backend = MemoryBackend()
        self.store = MemoryCheckpointStore()
        self.background = ManualBackground(self._note_activity)
        self._cluster: MemoryCluster | None = None
        self._worker: Worker | None = None
        self._nonces = itertools.count()
        self.allowance = Allowance()
        self.dropped: Counter[tuple[str, str]] = Counter()

    def declare(self, app: App, streams: Sequence[Stream[Any, Any]] = ()) -> None:
        """Take the program of the next worker, and the streams of it that a test reads.

        Raises:
            ConfigError: it is none, or one of the streams is none of it.
        """
        if not isinstance(app, App):
            raise ConfigError(f"the test driver takes an App, not {short_repr(app)}")
        self.taps = Taps(app, streams)
        self.topology, self.config = self.taps.topology(), app.config

    @property
    def is_running(self) -> bool:
        """Whether there is a worker."""
        return self._worker is not None

    @property
    def worker(self) -> Worker:
        """The one that runs.

        Raises:
            ConfigError: there is none.
        """
        if self._worker is None:
            raise ConfigError(_NO_WORKER)
        return self._worker

    @property
    def cluster(self) -> MemoryCluster:
        """How the worker that runs sees Kafka: its clients, and the links between them and it.

        Raises:
            ConfigError: there is none.
        """
        if self._cluster is None:
            raise ConfigError(_NO_WORKER)
        return self._cluster

    def start(
        self, until: Literal["end", "drain"] | None = None, *, closes_windows: bool = False
    ) -> None:
        """Make a worker as a start of the program does; it has done nothing yet.

        The arguments are those of `App.run`.

        Raises:
            ConfigError: a worker runs already.
            KstashError: whatever a start refuses.
        """
        if self._worker is not None:
            raise ConfigError(
                "the worker runs: call crash() or close() before it is started once more"
            )
        self._create_topics()
        self._cluster = cluster = MemoryCluster(
            self.kafka, self.topology.application_id, allowance=self.allowance
        )
        cluster.links["lineage"].delay_s = self.lineage_delay_s
        admin, scanner = cluster.admin(), cluster.scanner()
        self.topology = settled(
            self.topology,
            self.config,
            topics=admin.describe(self.topology.topics),
            admin=admin,
            scanner=scanner,
            clock=self.clock,
        )
        scanner.close()
        admin.close()
        self._worker = Worker(
            self.topology,
            self.config,
            cluster=cluster,
            state=self.backend,
            store=None if self.config.checkpoint_store == "none" else self.store,
            background=self.background,
            clock=self.clock,
            metrics=self.metrics,
            # Fresh, as it must be, and the same in every run of the same calls.
            nonce=lambda: next(self._nonces).to_bytes(16, "big"),
            until=until,
            closes_windows=closes_windows,
        )

    def run_bounded(self, until: Literal["end", "drain"], *, closes_windows: bool = False) -> bool:
        """Stop in order, and run a worker until it has ended its bounded run.

        The writes that it is allowed are counted from its start.

        Returns:
            Whether it has: False where it died with the last write that it was allowed.

        Raises:
            StepDeadlineError: it has not within `RECOVERY_S_MAX`.
            KstashError: what stopped it.
        """
        writes = self.allowance.left
        self.close()
        self.start(until, closes_windows=closes_windows)
        self.allowance.left = writes
        self.run_until_done()
        is_done = self.is_running
        self.close()
        return is_done

    def run_until_live(self) -> None:
        """Let time pass until the worker is live and at rest.

        Raises:
            StepDeadlineError: it is not within `RECOVERY_S_MAX`.
        """
        self.settle()
        deadline_s = self.clock.monotonic() + RECOVERY_S_MAX
        while self._worker is not None and not self._worker.is_live:
            self._tick(deadline_s, "recovery in the test driver")

    def run_until_done(self) -> None:
        """Let time pass until the worker has ended its bounded run.

        Raises:
            StepDeadlineError: it has not within `RECOVERY_S_MAX`.
        """
        self.settle()
        deadline_s = self.clock.monotonic() + RECOVERY_S_MAX
        while self._worker is not None and not self._worker.is_done:
            self._tick(deadline_s, "draining in the test driver")

    def _tick(self, deadline_s: float, what: str) -> None:
        if self.clock.monotonic() > deadline_s:
            raise StepDeadlineError(what, RECOVERY_S_MAX)
        self.clock.advance(TICK_S)
        self.settle()

    def settle(self) -> None:
        """Step the worker until nothing happens any more while the clock stands still.

        It dies with the last write that it is allowed.

        Raises:
            KstashError: what stopped the worker, which is gone then.
        """
        if self._worker is None:
            return
        quiet_steps = 0
        try:
            for _ in range(STEPS_MAX):
                before = self.kafka.activity
                self.worker.step(0.0)
                if self.allowance.is_spent:
                    self.kill()
                    return
                is_quiet = self.kafka.activity == before and not self.worker.is_busy
                quiet_steps = quiet_steps + 1 if is_quiet else 0
                if quiet_steps == QUIET_STEPS:
                    return
        except KstashError:
            is_dead_already = self.allowance.is_spent
            self.kill()  # in production the process ends here
            if is_dead_already:
                return
            raise
        raise StepDeadlineError(f"coming to rest in {STEPS_MAX} steps of the worker", 0)

    def kill(self) -> None:
        """End the worker as `kill -9` would, or a start that was refused.

        Raises:
            ConfigError: there is none.
        """
        self.cluster.kill()
        self._forget_worker()
        self.background.close()

    def close(self) -> None:
        """End the worker in order, if there is one."""
        if self._worker is not None:
            for link in self.cluster.links.values():
                link.holds_requests = link.holds_acks = False
                link.delay_s = 0.0  # the clock stands still: a delay would never end
            self.allowance.left = None
            try:
                self._worker.close()
            finally:
                self._forget_worker()

    def dropped_by_name(self) -> dict[tuple[str, str], int]:
        """Records that operators have left out, by (name of the operator or source, reason)."""
        names: dict[str, str] = {}
        for stage in self.topology.stages:
            for node in stage.nodes:
                name = getattr(node, "name", None) or getattr(node, "topic", None)
                names[node.label()] = name or node.label()
        found = self.dropped + self._dropped_now()
        return {(names.get(label, label), reason): n for (label, reason), n in found.items()}

    def _dropped_now(self) -> Counter[tuple[str, str]]:
        """Records that operators of the worker have left out, by (label, reason)."""
        found = Counter[tuple[str, str]]()
        for group in () if self._worker is None else self._worker.groups.values():
            for task in group.tasks.values():
                found.update(task.program.dropped)
        return found

    def _forget_worker(self) -> None:
        self.dropped += self._dropped_now()
        self.allowance.left = None
        self._cluster = self._worker = None

    def _create_topics(self) -> None:
        """Create all topics as a start on a real Kafka would, or the operator before it."""
        counts: dict[str, int] = {}
        given = self._partitions
        for topic in (*self.topology.input_topics, *self.topology.output_topics):
            counts[topic] = given if isinstance(given, int) else given.get(topic, 1)
        largest = max(counts[topic] for topic in self.topology.input_topics)
        counts.update(dict.fromkeys(self.topology.internal_topics, largest))
        counts[self.topology.lineage_topic] = Layout(self.topology, counts).group_count
        own = {"max.message.bytes": str(OWN_MESSAGE_BYTES_MAX)}
        for topic, count in counts.items():
            is_own = topic in (*self.topology.internal_topics, self.topology.lineage_topic)
            self.kafka.create_topic(topic, count, own if is_own else {})

    def _note_activity(self) -> None:
        self.kafka.activity += 1

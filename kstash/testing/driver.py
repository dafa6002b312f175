"""`TestDriver`: run an application without Kafka, crash it and bring it back.

It drives the same worker as production, over `MemoryKafka`, the state backend in memory and a
manual clock: claim, fence, seal, scan, start and replay are the real ones. Nothing waits and
nothing runs beside the caller, so that the same calls always give the same outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import structlog

from kstash.app import App
from kstash.core.kinds import OutputKind
from kstash.core.partitioner import Partitioner
from kstash.errors import ConfigError, KstashError, StepDeadlineError
from kstash.observe.logs import configure_logs
from kstash.ports.kafka import Headers, Partition
from kstash.runtime.layout import Layout
from kstash.runtime.worker.store_view import StoreView
from kstash.runtime.worker.worker import Worker
from kstash.serdes import Serde
from kstash.settings.config import OWN_MESSAGE_BYTES_MAX, Config
from kstash.startup.continuity import settled
from kstash.testing.background import ManualBackground
from kstash.testing.clock import ManualClock
from kstash.testing.kafka.broker import MemoryKafka
from kstash.testing.kafka.cluster import MemoryCluster
from kstash.testing.metrics import MemoryMetrics
from kstash.testing.outputs import OutputReader, OutputRecord
from kstash.testing.state import MemoryBackend
from kstash.testing.stores import MemoryCheckpointStore
from kstash.topology.model import StageOutput, Topology

TICK_S = 0.05
"""Seconds by which the clock moves at a time: short against every interval of the settings."""

QUIET_STEPS = 3
"""Steps of the worker in a row without any activity after which it is at rest."""

STEPS_MAX = 100_000
"""Steps of the worker without coming to rest after which something is wrong."""

RECOVERY_S_MAX = 120
"""Seconds by the manual clock within which a worker must be live."""


class TestDriver:
    """An application in a box: send records in, read records and state out.

    ```python
    with TestDriver(app) as driver:
        driver.send("sentences", "to be or not to be")
        assert driver.read("word-counts")[-1].value == 2
        driver.crash()
        driver.recover()
        assert driver.state("words")["to"] == 2
    ```

    Args:
        app: the application; it is not changed and may be driven again.
        partitions: partition count of all user topics, or by topic (1 for those left out).
        lineage_delay_s: seconds by the manual clock until the lineage topic takes a record. While
            the clock stands still nothing gets stable, and a crash leaves recovery with the
            lineage that outputs carry in their headers: the hardest case. Above the setting
            `lineage_ack_timeout_ms` the worker pauses its inputs, as in production.
        start_ms: Unix time in milliseconds at which the clock starts.

    Attributes:
        clock: the manual clock; move it with `advance`.
        kafka: the cluster, for tests that want to look into topics or bend links.
        metrics: what the worker counted, over all its lives.
        store: its remote checkpoints.
        background: its uploads and restores, done as soon as they are asked for.
    """

    __test__ = False  # pytest must not collect it where it is imported

    def __init__(
        self,
        app: App,
        *,
        partitions: int | Mapping[str, int] = 1,
        lineage_delay_s: float = 0.0,
        start_ms: int = 1_600_000_000_000,
    ) -> None:
        self._topology, self._config = _declared(app)
        if not structlog.is_configured():
            # By itself it would print all, also what is for debugging, to standard output.
            configure_logs(self._config.log_format, self._config.log_level)
        self._partitions = partitions
        self._lineage_delay_s = lineage_delay_s
        self.clock = ManualClock(start_ms)
        self.kafka = MemoryKafka(self.clock)
        self.metrics = MemoryMetrics()
        self._backend = MemoryBackend()
        self.store = MemoryCheckpointStore()
        self.background = ManualBackground(self._note_activity)
        self._cluster: MemoryCluster | None = None
        self._worker: Worker | None = None
        self._readers: dict[Partition, OutputReader] = {}
        self._nonces = itertools.count()
        self.recover()

    def send(
        self,
        topic: str,
        value: Any,
        key: Any = None,
        *,
        timestamp: int | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Append one record to an input topic and let the application process it.

        After a crash the record waits in its topic for `recover`.

        Args:
            topic: one of the application's input topics.
            value: encoded with the serde of the input; None is a null value.
            key: encoded likewise.
            timestamp: Unix time in milliseconds; None is the clock's.
            partition: None takes that of the key as Kafka's clients do, or 0 without a key.
            headers: user headers.

        Raises:
            ConfigError: the application has no such input topic.
            KstashError: whatever stopped the worker, an `OperatorError` above all. The worker is
                gone then, as after `crash`.
        """
        key_serde, value_serde = self._input_serdes(topic)
        self.send_raw(
            topic,
            None if value is None else value_serde.serialize(value),
            None if key is None else key_serde.serialize(key),
            timestamp=timestamp,
            partition=partition,
            headers=headers,
        )

    def send_raw(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        timestamp: int | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Append one record of these very bytes, as a producer that knows no serde; else as `send`.

        So a test sees what becomes of bytes that a serde cannot take, such as `b"{"` under json.

        Raises:
            ConfigError: the application has no such input topic, or these are no bytes.
            KstashError: as for `send`, a `SerdeError` above all.
        """
        self._input_serdes(topic)
        for name, given in (("value", value), ("key", key)):
            if not isinstance(given, bytes | None):
                raise ConfigError(f"send_raw takes bytes as {name}, not {given!r}: see send")
        if partition is None:
            partition = Partitioner(self.kafka.topics()[topic].partition_count)[key]
        self.kafka.append(
            topic,
            value,
            key=key,
            partition=partition,
            timestamp_ms=timestamp,
            headers=headers,
        )
        self._settle()

    def read(self, topic: str) -> list[OutputRecord]:
        """Output records since the last `read` of this topic, partition by partition, in order.

        A reader with the reader rule: it sees each output once and at once, across crashes too.
        An output that waits (header cap, a commit under way) is there after `advance`. Of a
        transactional sink it sees what is committed, after `advance` too.

        Raises:
            ConfigError: the application has no such output topic.
        """
        output = self._output(topic)
        return [
            OutputRecord.of(record, output)
            for partition in range(self.kafka.topics()[topic].partition_count)
            for record in self._reader((topic, partition)).read()
        ]

    def state(self, store: str) -> dict[Any, Any]:
        """All entries of a store, over all partitions, with decoded keys.

        Raises:
            ConfigError: the application has no such store.
            ValueError: two of its keys are equal to Python (0.0 and -0.0), so that a dict has
                place for one of them only.
        """
        assert self._worker is not None, "crashed: there is no live state before recover()"
        view = StoreView(self._worker.context.layout, self._worker.groups, store)
        entries = list(view.items())
        if len(dict(entries)) < len(entries):
            keys = [key for key, _ in entries]
            raise ValueError(f"store {store!r} has keys that are equal: {keys}")
        return dict(entries)

    def advance(self, seconds: float) -> None:
        """Move the clock forward; the application does what falls due, in order.

        Args:
            seconds: 0 or more.
        """
        ticks, rest_us = divmod(round(seconds * 1_000_000), round(TICK_S * 1_000_000))
        for step_s in [TICK_S] * ticks + [rest_us / 1_000_000]:
            self.clock.advance(step_s)
            self._settle()

    def crash(self) -> None:
        """End the worker as `kill -9` would.

        Lost are the live state, lineage and outputs that were not in Kafka yet, and the knowledge
        of all acknowledgements. Topics and checkpoints stay.
        """
        assert self._cluster is not None, "crashed already"
        self._cluster.kill()
        self._cluster = self._worker = None
        self.background.close()

    def recover(self, app: App | None = None) -> None:
        """Start a new worker after a crash or a drain, until it is live and has nothing left to do.

        Args:
            app: another program of the same application id: an upgrade. None: the same one.

        Raises:
            StepDeadlineError: it is not live within `RECOVERY_S_MAX` by the clock.
            ProgramChangedError: the application was not drained, or the change is not compatible.
            KstashError: whatever stopped the worker.
        """
        if app is not None:
            self._topology, self._config = _declared(app)
        self._start()
        self._until_live()

    def drain(self) -> None:
        """Stop as `kstash drain` does: what is in flight is finished, the next start may upgrade.

        Raises:
            StepDeadlineError: it is not done within `RECOVERY_S_MAX` by the clock.
            KstashError: whatever stopped the worker.
        """
        self.close()
        self._start(until="drain")
        assert self._worker is not None
        deadline_s = self.clock.monotonic() + RECOVERY_S_MAX
        self._settle()
        while not self._worker.is_done:
            if self.clock.monotonic() > deadline_s:
                raise StepDeadlineError("draining in the test driver", RECOVERY_S_MAX)
            self.clock.advance(TICK_S)
            self._settle()
        self.close()

    def _start(self, until: str | None = None) -> None:
        assert self._worker is None, "running already"
        self._create_topics(self._partitions)
        self._cluster = MemoryCluster(self.kafka, self._topology.application_id)
        self._cluster.links["lineage"].delay_s = self._lineage_delay_s
        admin, scanner = self._cluster.admin(), self._cluster.scanner()
        self._topology = settled(
            self._topology,
            self._config,
            topics=admin.describe(self._topology.topics),
            admin=admin,
            scanner=scanner,
            clock=self.clock,
        )
        scanner.close()
        admin.close()
        self._worker = Worker(
            self._topology,
            self._config,
            cluster=self._cluster,
            state=self._backend,
            store=None if self._config.checkpoint_store == "none" else self.store,
            background=self.background,
            clock=self.clock,
            metrics=self.metrics,
            # Fresh, as it must be, and the same in every run of the same calls.
            nonce=lambda: next(self._nonces).to_bytes(16, "big"),
            until=until,
        )

    def _until_live(self) -> None:
        assert self._worker is not None
        deadline_s = self.clock.monotonic() + RECOVERY_S_MAX
        self._settle()
        while not self._worker.is_live:
            if self.clock.monotonic() > deadline_s:
                raise StepDeadlineError("recovery in the test driver", RECOVERY_S_MAX)
            self.clock.advance(TICK_S)
            self._settle()

    def close(self) -> None:
        """Drain, checkpoint, release and leave, as at SIGTERM. After a crash nothing is left."""
        if self._worker is not None and self._cluster is not None:
            for link in self._cluster.links.values():
                link.holds_requests = link.holds_acks = False
                link.delay_s = 0.0  # the clock stands still: a delay would never end
            self._worker.close()
            self._cluster = self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A test that failed wants its own error, not that of a worker which cannot go on.
        if error is None:
            self.close()

    def _create_topics(self, partitions: int | Mapping[str, int]) -> None:
        """Create all topics as a start on a real Kafka would, or the operator before it."""
        counts: dict[str, int] = {}
        for topic in (*self._topology.input_topics, *self._topology.output_topics):
            counts[topic] = partitions if isinstance(partitions, int) else partitions.get(topic, 1)
        largest = max(counts[topic] for topic in self._topology.input_topics)
        counts.update(dict.fromkeys(self._topology.internal_topics, largest))
        counts[self._topology.lineage_topic] = Layout(self._topology, counts).group_count
        own = {"max.message.bytes": str(OWN_MESSAGE_BYTES_MAX)}
        for topic, count in counts.items():
            is_own = topic in (*self._topology.internal_topics, self._topology.lineage_topic)
            self.kafka.create_topic(topic, count, own if is_own else {})

    def _note_activity(self) -> None:
        self.kafka.activity += 1

    def _settle(self) -> None:
        """Step the worker until nothing happens any more while the clock stands still."""
        if self._worker is None:
            return
        quiet_steps = 0
        try:
            for _ in range(STEPS_MAX):
                before = self.kafka.activity
                self._worker.step(0.0)
                is_quiet = self.kafka.activity == before and not self._worker.is_busy
                quiet_steps = quiet_steps + 1 if is_quiet else 0
                if quiet_steps == QUIET_STEPS:
                    return
        except KstashError:
            self.crash()  # in production the process ends here
            raise
        raise StepDeadlineError(f"coming to rest in {STEPS_MAX} steps of the worker", 0)

    def _input_serdes(self, topic: str) -> tuple[Serde[Any], Serde[Any]]:
        for stage in self._topology.stages:
            for entry in stage.inputs:
                if entry.topic == topic and entry.value is not None and not entry.internal:
                    return entry.key, entry.value
        raise ConfigError(
            f"no input topic {topic!r}; the application reads {list(self._topology.input_topics)}"
        )

    def _output(self, topic: str) -> StageOutput:
        for stage in self._topology.stages:
            for output in stage.outputs:
                if output.topic == topic and not output.internal:
                    return output
        raise ConfigError(
            f"no output topic {topic!r}; the application writes"
            f" {list(self._topology.output_topics)}"
        )

    def _reader(self, partition: Partition) -> OutputReader:
        if partition not in self._readers:
            is_committed = self._output(partition[0]).kind is OutputKind.TRANSACTIONAL
            self._readers[partition] = OutputReader(
                self.kafka.log(partition), is_committed=is_committed
            )
        return self._readers[partition]


def _declared(app: App) -> tuple[Topology, Config]:
    if not isinstance(app, App):
        raise ConfigError(f"the test driver takes an App, not {app!r}")
    return app.topology(), app.config

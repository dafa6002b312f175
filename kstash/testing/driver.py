"""`TestDriver`: run an application without Kafka, crash it and bring it back.

It drives the same worker as production, over `MemoryKafka`, the state backend in memory and a
manual clock: claim, fence, seal, scan, start and replay are the real ones. Nothing waits and
nothing runs beside the caller, so that the same calls always give the same outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import structlog

from kstash.app import App
from kstash.core.partitioner import Partitioner
from kstash.errors import ConfigError
from kstash.escape import short_repr
from kstash.observe.logs import configure_logs
from kstash.operators.slices import deciding
from kstash.ports.kafka import Headers
from kstash.runtime.worker.store_view import StoreView
from kstash.surface.streams import Stream
from kstash.testing.entries import by_key
from kstash.testing.given import check_sent, seconds_of
from kstash.testing.inputs import encoded_item, input_serdes
from kstash.testing.outputs import OutputReaders, OutputRecord, output_of
from kstash.testing.rig import TICK_S, Rig


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
        streams: streams of the application that the test reads although they go to no topic, such
            as `late()` of windows or a `side` of a processor.

    Attributes:
        clock: the manual clock; move it with `advance`.
        kafka: the cluster, for tests that read topics or disturb connections.
        metrics: what the worker counted, over all its lives.
        store: its remote checkpoints.
        background: its uploads and restores, done as soon as they are asked for.
        rig: the worker itself and what is around it, for kstash's own tests: internals, which may
            change with any version.
    """

    __test__ = False  # pytest must not collect it where it is imported

    def __init__(
        self,
        app: App,
        *,
        partitions: int | Mapping[str, int] = 1,
        lineage_delay_s: float = 0.0,
        start_ms: int = 1_600_000_000_000,
        streams: Sequence[Stream[Any, Any]] = (),
    ) -> None:
        self.rig = Rig(
            app,
            partitions=partitions,
            lineage_delay_s=lineage_delay_s,
            start_ms=start_ms,
            streams=streams,
        )
        self._ahead_ms = 0
        config = self.rig.config
        if not structlog.is_configured():
            # By itself it would print all, also what is for debugging, to standard output.
            configure_logs(config.log_format, config.log_level)
        self.clock, self.kafka = self.rig.clock, self.rig.kafka
        self.metrics, self.store = self.rig.metrics, self.rig.store
        self.background = self.rig.background
        self._readers = OutputReaders(self.kafka)
        self.recover()

    def send(
        self,
        topic: str,
        value: Any,
        key: Any = None,
        *,
        timestamp_ms: int | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Append one record to an input topic and let the application process it.

        After a crash the record waits in its topic for `recover`.

        Args:
            topic: one of the application's input topics.
            value: encoded with the serde of the input; None is a null value.
            key: encoded likewise.
            timestamp_ms: Unix time in milliseconds; None is the clock's, and what `advance_time`
                has added to it.
            partition: None takes that of the key as Kafka's clients do, or 0 without a key.
            headers: user headers.

        Raises:
            ConfigError: the application has no such input topic, or these are no timestamp or no
                headers.
            SerdeError: a serde does not take the key or the value; nothing was sent then.
            KstashError: whatever stopped the worker, an `OperatorError` above all. The worker is
                gone then, as after `crash`.
        """
        key_serde, value_serde = input_serdes(self.rig.topology, topic)
        self.send_raw(
            topic,
            encoded_item(topic, "value", value_serde, value),
            encoded_item(topic, "key", key_serde, key),
            timestamp_ms=timestamp_ms,
            partition=partition,
            headers=headers,
        )

    def send_raw(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        timestamp_ms: int | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Append one record of these very bytes, as a producer that knows no serde; else as `send`.

        So a test sees what becomes of bytes that a serde cannot take, such as `b"{"` under json.

        Raises:
            ConfigError: the application has no such input topic, or these are no bytes, no
                timestamp or no headers.
            KstashError: as for `send`, a `SerdeError` above all.
        """
        key_serde, _ = input_serdes(self.rig.topology, topic)
        for name, given in (("value", value), ("key", key)):
            if not isinstance(given, bytes | None):
                raise ConfigError(
                    f"send_raw takes bytes as {name}, not {short_repr(given)}: see send"
                )
        check_sent(timestamp_ms, headers)
        if partition is None:
            (decides,) = deciding([key], key_serde.partitioned_by)
            partition = Partitioner(self.kafka.topics()[topic].partition_count)[decides]
        if timestamp_ms is None:
            timestamp_ms = self.clock.time_ms() + self._ahead_ms
        self.kafka.append(
            topic,
            value,
            key=key,
            partition=partition,
            timestamp_ms=timestamp_ms,
            headers=headers,
        )
        self.rig.settle()

    def read(self, topic: str | Stream[Any, Any]) -> list[OutputRecord]:
        """Output records since the last `read` of this topic, partition by partition, in order.

        Of a stream that was named as one of `streams`: its records, of which keys and values are
        what the stream's serdes make of them, or copies of them where it has none.

        A reader with the reader rule: it sees each output once and at once, across crashes too.
        An output that waits (header cap, a commit under way) is there after `advance`. Of a
        transactional sink it sees what is committed, after `advance` too.

        Raises:
            ConfigError: the application has no such output topic, or the stream was not named.
        """
        if not isinstance(topic, str):
            topic = self.rig.taps.topic_of(topic)
        output = output_of(self.rig.topology, topic)
        return [
            OutputRecord.of(record, output)
            for partition in range(self.kafka.topics()[topic].partition_count)
            for record in self._readers.read((topic, partition), output.kind)
        ]

    def state(self, store: str) -> dict[Any, Any]:
        """All entries of a store, over all partitions, with decoded keys.

        Raises:
            ConfigError: the application has no such store, Python cannot hash its keys (lists,
                dicts), or there is no worker: it crashed.
            ValueError: two of its keys are equal to Python (0.0 and -0.0), so that a dict has
                place for one of them only.
        """
        return by_key(store, self.entries(store))

    def entries(self, store: str) -> list[tuple[Any, Any]]:
        """The same as pairs of key and value, which any keys may be in; raises `ConfigError`."""
        worker = self.rig.worker
        return list(StoreView(worker.context.layout, worker.groups, store).items())

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock forward; the application does what falls due, in order.

        Args:
            seconds: 0 or more, as a number or as a timedelta; so for the next two.

        Raises:
            ConfigError: neither of them.
        """
        moved_s = seconds_of("advance", seconds)
        ticks, rest_us = divmod(round(moved_s * 1_000_000), round(TICK_S * 1_000_000))
        for step_s in [TICK_S] * ticks + [rest_us / 1_000_000]:
            self.clock.advance(step_s)
            self.rig.settle()

    def advance_clock(self, interval: float | timedelta) -> None:
        """Move the clock at once, as after an outage; `advance` stops on the way."""
        self.clock.advance(seconds_of("advance_clock", interval))
        self.rig.settle()

    def advance_time(self, seconds: float | timedelta) -> None:
        """Give records that are sent from now on a later time; no clock moves.

        So windows close and event timers fire with the next record, while nothing that waits for
        the clock happens: no flush, no checkpoint, no commit.
        """
        self._ahead_ms += round(seconds_of("advance_time", seconds) * 1000)

    def dropped(self) -> dict[tuple[str, str], int]:
        """How many records operators have left out, by (name of the operator, reason).

        Reasons are those of the metric `operator_dropped_records`, such as `late`. A source has
        the name of its topic. What a replay repeats does not count again; what is processed anew
        after a crash, since nothing of it was known, does.
        """
        return self.rig.dropped_by_name()

    @property
    def is_running(self) -> bool:
        """Whether there is a worker: not after a crash, an error, or `close`."""
        return self.rig.is_running

    def crash_after(self, writes: int | None) -> None:
        """Have the worker die as soon as Kafka has taken so many more of its writes.

        Writes are all that it asks of Kafka, one by one: outputs, frames between stages, lineage,
        markers, commits of transactions. Nothing else of a worker outlives it, so that a test which
        tries each number, until `is_running` says that there were fewer, has crashed it at every
        point there is: between the outputs of one batch, too, and in a recovery, where this is
        called before `recover`.

        Args:
            writes: 0 or more; None: it lives on after all.

        Raises:
            ConfigError: it is no such number.
        """
        if writes is not None and (type(writes) is not int or writes < 0):
            raise ConfigError(f"crash_after takes a number of writes, not {short_repr(writes)}")
        self.rig.allowance.left = writes

    def crash(self) -> None:
        """End the worker as `kill -9` would.

        Lost are the live state, lineage and outputs that were not in Kafka yet, and the knowledge
        of all acknowledgements. Topics and checkpoints stay.

        Raises:
            ConfigError: there is no worker: it crashed before.
        """
        self.rig.kill()

    def recover(self, app: App | None = None, *, streams: Sequence[Stream[Any, Any]] = ()) -> None:
        """Start a new worker after a crash or a drain, until it is live and has nothing left to do.

        Args:
            app: another program of the same application id: an upgrade. None: the same one.
            streams: of the other program, as for the driver itself.

        Raises:
            ConfigError: the worker runs.
            StepDeadlineError: it is not live within 120 s by the clock.
            ProgramChangedError: the application was not drained, or the change is not compatible.
            KstashError: whatever stopped the worker.
        """
        if app is not None:
            self.rig.declare(app, streams)
        self.rig.start()
        self.rig.run_until_live()

    def run_to_end(self, *, closes_windows: bool = False) -> bool:
        """Stop, and run once more up to where the inputs end now, as `run(until="end")` does.

        There is no worker after it: `recover` starts one that runs on.

        Args:
            closes_windows: as of `App.run`.

        Returns:
            Whether the run is over: False where it crashed (`crash_after`, which counts the writes
            of this run). Called again, it goes on with that run.

        Raises:
            StepDeadlineError: it is not done within 120 s by the clock.
            KstashError: whatever stopped the worker.
        """
        return self.rig.run_bounded("end", closes_windows=closes_windows)

    def drain(self) -> None:
        """Stop as `kstash drain` does: what is in flight is finished, the next start may upgrade.

        Raises:
            StepDeadlineError: it is not done within 120 s by the clock.
            KstashError: whatever stopped the worker.
        """
        self.rig.run_bounded("drain")

    def close(self) -> None:
        """Drain, checkpoint, release and leave, as at SIGTERM. After a crash nothing is left."""
        self.rig.close()

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

"""The transactional producer of one task group.

Calls that block (taking over, committing) run in a thread of their own, one at a time; their
results are queued, and reported on the caller's thread, in `poll`. Invariants:

- delivery callbacks are never run by the thread, though it serves the client while it flushes;
- after `commit` the caller produces nothing until `on_done`, so no call of the client's
  transactional interface runs beside another;
- whenever the thread is idle, a transaction is begun: the broker hears of it with its first record
  only, but the call takes a switch to the client's thread, which the caller need not wait for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka import Producer as Client

from kstash.errors import KstashError, ProducerFailedError, RecordRefusedError
from kstash.failpoints import around
from kstash.kafka import failures
from kstash.kafka.client_queue import ClientQueue
from kstash.kafka.clients import ClientLogger, client_logger, make_producer
from kstash.kafka.positions import CommittedPositionsReader
from kstash.ports.kafka import OnDelivery, OnDone, Partition

INIT_DEADLINE_S = 60.0
INIT_SLICE_S = 0.02
REFUSED_PAUSE_S_MIN = 0.005
REFUSED_PAUSE_S_MAX = 0.2
JOIN_DEADLINE_S = 1.0
CALL_TIMEOUT_S_MIN = 0.5
COMMIT_GRACE_S = 2.0
ROOM_DEADLINE_S = 15.0


class _ClientLog:
    """Passes a client's log on, and notes what only the log reports.

    Attributes:
        is_refused: the coordinator refused the client, for now.
        cause: why its first transaction that failed did; empty when none has. The error of the
            records after the one that failed says only that they were purged.
    """

    def __init__(self, logger: ClientLogger) -> None:
        self.is_refused = False
        self.cause = ""
        self._logger = logger

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Take one line, as `logging.Logger.log`; its first argument is the event's name."""
        if "GETPID" in arguments or "GETPID" in message:
            self.is_refused = True
        if "TXNERR" in arguments or "TXNERR" in message:
            self.cause = self.cause or (message % arguments if arguments else message)
        self._logger.log(level, message, *arguments)


class KafkaSinkProducer(ClientQueue):
    """`kstash.ports.kafka.SinkProducer` over confluent-kafka.

    Args:
        settings: of the client, with `transactional.id`.
        position: `(lineage topic, task group)`, whose offset carries the committed position.
        positions: reads it.
        bootstrap_servers: for messages.
        predecessor: of the same transactional id, closed: its thread must not take over any more
            when this one does.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        position: Partition,
        positions: CommittedPositionsReader,
        bootstrap_servers: str,
        predecessor: KafkaSinkProducer | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            str(settings["client.id"]),
            room_deadline_s=ROOM_DEADLINE_S,
            has_gate=True,
            tell=self._deliver,
            monotonic=monotonic,
        )
        self._predecessor = predecessor
        self._settings = settings
        self._timeout_s = float(settings["transaction.timeout.ms"]) / 1000
        self._position = position
        self._positions = positions
        self._bootstrap_servers = bootstrap_servers
        self._log: _ClientLog | None = None
        self._is_busy = False
        self._is_closed = False
        self._commit_deadline: float | None = None
        self._callbacks: deque[Callable[[], None]] = deque()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def initialise(self, on_done: Callable[[Exception | None, str | None], None]) -> None:
        """Fence and abort predecessors, then read the committed position.

        `on_done(error, metadata)` in a later `poll`; metadata None: none was committed.
        """
        assert self._thread is None, "initialised already"
        self._is_busy = True
        self._jobs.put(partial(self._run, self._initialise, on_done))
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()

    def commit(self, metadata: str, on_done: OnDone) -> None:
        """Wait for all acks, send the committed position as `metadata`, commit.

        `on_done` comes in a later `poll`, with a `ProducerFailedError` when it failed.
        """
        assert not self._is_busy, "a commit is under way"
        self._is_busy = True
        self._commit_deadline = self._monotonic() + self._timeout_s + COMMIT_GRACE_S
        self._jobs.put(
            partial(self._run, partial(self._commit, metadata), lambda error, _: on_done(error))
        )

    def poll(self) -> None:
        """Serve callbacks without waiting.

        Raises:
            ProducerFailedError: the producer is fenced or failed for good.
        """
        if not self._is_busy and self._client is not None:
            try:
                self._client.poll(0)
            except failures.CLIENT_ERRORS as error:
                self._fail(error)
        callbacks = self._callbacks
        while callbacks:
            callbacks.popleft()()
        if not self._is_busy and self._client is not None:
            try:
                self._gate.release(self._monotonic())
            except failures.CLIENT_ERRORS as error:
                self._fail(error)
        if self._is_busy and self._commit_deadline is not None:
            self._check_commit(self._commit_deadline)
        if self._failure is not None and not self._is_busy:
            raise self._failure

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements, serving callbacks; returns how many are missing."""
        if self._client is None:
            return 0
        deadline = self._monotonic() + timeout_s
        try:
            self._client.flush(timeout_s)
            self.poll()  # sends the records that waited for the first ones
            self._client.flush(max(0.0, deadline - self._monotonic()))
        except failures.CLIENT_ERRORS as error:
            raise self._fail(error) from error
        self.poll()
        return len(self)

    def close(self) -> None:
        """Give up, without a wait: the open transaction is left to the successor.

        The thread ends by itself; a commit that hangs on a broker that is away holds up nobody.
        """
        self._is_closed = True
        self._callbacks.clear()
        self._gate.clear()
        if self._client is not None:
            self._client.purge(blocking=False)
        self._jobs.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until the thread of a closed producer has ended, up to a deadline."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout_s))

    # --- in the thread ------------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._is_closed:
            job()
        if self._client is not None:
            self._client.purge(blocking=False)
        # Not the client's `close`: it would abort the transaction, which may by now be of a
        # successor's concern, and flush without a deadline. The last reference destroys.
        self._client = self._produce = None

    def _run(
        self,
        step: Callable[[], str | None],
        on_done: Callable[[Exception | None, str | None], None],
    ) -> None:
        error: Exception | None = None
        result: str | None = None
        try:
            result = step()
        except KstashError as failure:
            error = failure
        except Exception as failure:  # the thread's errors belong to the caller
            error = self._failed(failure)

        def tell() -> None:
            self._is_busy = False
            self._commit_deadline = None
            on_done(error, result)

        if isinstance(error, ProducerFailedError):
            self._failure = self._failure or error
        if not self._is_closed:
            self._callbacks.append(tell)

    def _initialise(self) -> str | None:
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is not None and predecessor._is_closed:
            predecessor.join(JOIN_DEADLINE_S)
        self._client = self._take_over()
        self._produce = self._client.produce
        self._client.begin_transaction()
        return self._positions.read(self._position)

    def _take_over(self) -> Client:
        """`init_transactions`, on a fresh client whenever the coordinator refused.

        While the predecessor's transaction is being aborted, for some milliseconds, the
        coordinator refuses, and a client that was refused asks again only after half a second.
        """
        deadline = self._monotonic() + INIT_DEADLINE_S
        pause_s = REFUSED_PAUSE_S_MIN
        while True:
            log = _ClientLog(client_logger(self._name))
            client = make_producer(self._settings, logger=log, on_error=self._on_error)
            error = self._attempt(client, log, deadline)
            if error is None:
                self._failure, self._log = None, log  # of a client before this one
                return client
            # The last reference destroys it; its own `close` would wait for the coordinator.
            del client
            what = f"{self._name}: init_transactions of {self._settings['transactional.id']!r}"
            inner = failures.kafka_error(error)
            if inner is not None and inner.code() in failures.REFUSED_CODES:
                raise failures.producer_failed(what, error) from error
            if self._monotonic() > deadline or self._is_closed:
                raise failures.unavailable(
                    self._bootstrap_servers, f"answer {what}", INIT_DEADLINE_S, error
                ) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, REFUSED_PAUSE_S_MAX)

    def _attempt(self, client: Client, log: _ClientLog, deadline: float) -> BaseException | None:
        """Wait until the coordinator accepted, refused, or the deadline; returns the error."""
        while True:
            try:
                with around("sink.initialise"):
                    client.init_transactions(INIT_SLICE_S)
            except failures.CLIENT_ERRORS as error:
                inner = failures.kafka_error(error)
                is_waiting = inner is not None and inner.code() == KafkaError._TIMED_OUT
                client.poll(0)  # brings the log lines
                is_over = log.is_refused or self._is_closed or self._monotonic() > deadline
                if not is_waiting or is_over:
                    # Its traceback holds this frame, and so a client that may still take over.
                    return error.with_traceback(None)
            else:
                return None

    def _commit(self, metadata: str) -> None:
        assert self._client is not None
        # Together within the transaction's timeout: after it the coordinator aborts anyhow.
        deadline = self._monotonic() + self._timeout_s
        with around("sink.flush"):
            missing = self._client.flush(self._timeout_s)
        if missing:
            raise ProducerFailedError(
                f"{self._name}: {missing} records of a transaction were not acknowledged within "
                f"{self._timeout_s:g} s"
            )
        topic, group = self._position
        with around("sink.offsets"):
            self._client.send_offsets_to_transaction(
                [TopicPartition(topic, group, 0, metadata=metadata)],
                self._positions.group_metadata,
                max(CALL_TIMEOUT_S_MIN, deadline - self._monotonic()),
            )
        with around("sink.commit"):
            self._client.commit_transaction(max(CALL_TIMEOUT_S_MIN, deadline - self._monotonic()))
        self._client.begin_transaction()

    # --- for both -----------------------------------------------------------------------------

    def _deliver(self, on_delivery: OnDelivery, error: Any, message: Any) -> None:
        if error is not None:
            # The client goes on after it, and records that no longer wait count as acknowledged.
            self._fail(error, (message.topic(), message.partition()))
        self._callbacks.append(partial(on_delivery, error, message))

    def _check_commit(self, deadline: float) -> None:
        # `send_offsets_to_transaction` may hang beyond its own time-out when the coordinator went
        # away during it (seen with librdkafka 2.16). The thread is given up with its client.
        if self._monotonic() > deadline:
            self._is_busy, self._commit_deadline = False, None
            raise self._fail(f"a commit did not end within {self._timeout_s + COMMIT_GRACE_S:g} s")

    def _fail(self, error: object, place: Partition | None = None) -> ProducerFailedError:
        """Note an error, of which the first one counts, but for what follows from a refusal."""
        failure = self._failed(error, place)
        if self._failure is None or isinstance(failure, RecordRefusedError):
            self._failure = failure
        return self._failure

    def _failed(self, error: object, place: Partition | None = None) -> ProducerFailedError:
        log = self._log.cause if self._log is not None else ""
        return failures.producer_failed(self._name, error, place=place, log=log)

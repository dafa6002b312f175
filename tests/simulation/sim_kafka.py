"""Kafka reduced to what the protocol relies on, with every fault that it may show.

Faults, and why each is legal for the protocol to meet:

- A write waits in the *pipe* of its producer session and partition until `Cluster.land` appends it:
  late at will, also long after its client died (a network that keeps packets).
- A dead session's pipe may be dropped from any point on, never from its middle: idempotent
  producers are gapless. (`Session.skip` breaks this on purpose, for the mutant H12.)
- An acknowledgement waits in its session's mailbox; a dead client never reads it.
- Marker sessions are not idempotent: a write may be appended twice.
- Transactions: `initialise` raises the epoch of a transactional id and aborts what is open; writes
  and commits of an older epoch are refused.
- A new leader lists an end that lies before what is durable, for a while.
- Compaction keeps the last value of each key of any prefix; purge raises the log start.

Nothing in here knows the lineage protocol.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any

OPEN, COMMITTED, ABORTED = 0, 1, 2

OnAck = Callable[[str | None, int], None]
"""`(error or None, offset)`."""


class Transaction:
    """One transaction of a transactional id."""

    __slots__ = ("logs", "records", "state")

    def __init__(self) -> None:
        self.state = OPEN
        self.logs: list[Log] = []
        self.records: list[tuple[Log, Record]] = []


class Record:
    """One record: the bytes that the core made, the payload, and beside them what it means.

    `meaning` is the ghost: plain tuples for the checkers, never read by the system under test.
    """

    __slots__ = ("headers", "key", "meaning", "offset", "time", "transaction", "value")

    def __init__(
        self,
        key: bytes | None,
        value: Any,
        headers: Any = None,
        meaning: Any = None,
    ) -> None:
        self.key = key
        self.value = value
        self.headers = headers
        self.meaning = meaning
        self.offset = -1
        self.time = 0
        self.transaction: Transaction | None = None


class Log:
    """One partition. `records` are in order of offsets, which may have gaps."""

    __slots__ = ("end", "key", "lag", "offsets", "open", "partition", "records", "start", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.key = (topic, partition)
        self.records: list[Record] = []
        self.offsets: list[int] = []
        self.start = 0
        self.end = 0
        self.open: dict[Transaction, int] = {}
        self.lag = 0

    @property
    def listed_end(self) -> int:
        """The end as a new leader tells it, whose high watermark may lag (H24)."""
        return max(self.start, self.end - self.lag)

    def __repr__(self) -> str:
        return f"{self.topic}[{self.partition}]"

    def append(self, record: Record) -> int:
        """Append; offsets are dense here, control markers and the cleaner make the gaps."""
        offset = self.end
        record.offset = offset
        self.records.append(record)
        self.offsets.append(offset)
        self.end = offset + 1
        return offset

    def last_stable(self) -> int:
        """Offset up to which a `read_committed` reader may read."""
        return min(self.open.values()) if self.open else self.end

    def fetch(self, position: int, limit: int, *, committed: bool) -> tuple[list[Record], int]:
        """Return visible records from `position` on and the position to go on from."""
        if position < self.start:
            raise OffsetOutOfRange(self, position)
        end = self.last_stable() if committed else self.end
        i = bisect_left(self.offsets, position)
        found: list[Record] = []
        while i < len(self.records) and len(found) < limit:
            record = self.records[i]
            if record.offset >= end:
                break
            i += 1
            transaction = record.transaction
            if committed and transaction is not None and transaction.state == ABORTED:
                continue
            found.append(record)
        if len(found) == limit:
            return found, found[-1].offset + 1
        return found, max(position, end)

    def has_data(self, position: int) -> bool:
        """Whether a `read_committed` reader at `position` has offsets to read."""
        return position < self.last_stable()

    def compact(self, end: int, *, drop_tombstones_below: int, cleaned: int | None = None) -> None:
        """Keep the last record of each key among the records below `end`, and all others.

        A tombstone goes only when it lies below `drop_tombstones_below` (`delete.retention.ms`).
        The cleaner goes over the segments in order: so far it has come to `cleaned`.
        """
        cleaned = end if cleaned is None else cleaned
        last: dict[bytes | None, int] = {}
        for record in self.records:
            if record.offset >= end:
                break
            last[record.key] = record.offset
        kept = [
            record
            for record in self.records
            if record.offset >= cleaned
            or (
                last[record.key] == record.offset
                and (record.value is not None or record.offset >= drop_tombstones_below)
            )
        ]
        if len(kept) != len(self.records):
            self.records = kept
            self.offsets = [record.offset for record in kept]

    def purge(self, start: int) -> None:
        """Delete the records below `start` (DeleteRecords)."""
        if start > self.start:
            self.start = min(start, self.end)
            i = bisect_left(self.offsets, self.start)
            del self.records[:i]
            del self.offsets[:i]


class OffsetOutOfRange(Exception):  # noqa: N818  named as Kafka names it
    """A reader asked for an offset below the log start."""

    def __init__(self, log: Log, position: int) -> None:
        super().__init__(f"{log} starts at {log.start}, asked for {position}")


class Pipe:
    """Writes of one session to one partition that the broker has not appended yet."""

    __slots__ = ("index", "items", "log", "session")

    def __init__(self, session: Session, log: Log) -> None:
        self.session = session
        self.log = log
        self.items: deque[tuple[Record, OnAck | None]] = deque()
        self.index = -1


class Session:
    """One producer session: gapless and in order per partition.

    `kind` and `client` only tell sessions apart (some are slower than others in a run).
    """

    __slots__ = (
        "client",
        "closed",
        "cluster",
        "epoch",
        "failed",
        "inflight",
        "kind",
        "mailbox",
        "pipes",
        "transactional_id",
    )

    def __init__(
        self, cluster: Cluster, kind: str, client: int, transactional_id: str | None = None
    ) -> None:
        self.cluster = cluster
        self.kind = kind
        self.client = client
        self.pipes: dict[tuple[str, int], Pipe] = {}
        self.mailbox: deque[tuple[OnAck, str | None, Any]] = deque()
        self.closed = False
        self.failed = False
        self.inflight = 0
        self.transactional_id = transactional_id
        self.epoch = 0

    def send(self, log: Log, record: Record, on_ack: OnAck | None = None) -> None:
        """Queue one write."""
        pipe = self.pipes.get(log.key)
        if pipe is None:
            pipe = self.pipes[log.key] = Pipe(self, log)
        pipe.items.append((record, on_ack))
        self.inflight += 1
        if pipe.index < 0:
            self.cluster.mark_busy(pipe)

    def fail(self) -> None:
        """The client gives up: what is queued is purged, and it is told so."""
        self.failed = True
        for pipe in self.pipes.values():
            self.drop(pipe)

    def drop(self, pipe: Pipe) -> None:
        """Lose all that waits in a pipe."""
        if pipe.items:
            self.inflight -= len(pipe.items)
            pipe.items.clear()
            self.cluster.mark_idle(pipe)

    def skip(self, pipe: Pipe) -> None:
        """Lose one write and go on: what a producer that is not fail-stop does (H12)."""
        record, on_ack = pipe.items.popleft()
        self.inflight -= 1
        if not pipe.items:
            self.cluster.mark_idle(pipe)
        if on_ack is not None and not self.closed:
            self.mailbox.append((on_ack, None, pipe.log.end))
        del record

    def close(self) -> None:
        """The client is gone: nothing is acknowledged any more, what is queued may still land."""
        self.closed = True
        self.mailbox.clear()

    def serve(self, count: int) -> int:
        """Run up to `count` acknowledgement callbacks; returns how many ran."""
        served = 0
        mailbox = self.mailbox
        while mailbox and served < count:
            on_ack, error, offset = mailbox.popleft()
            served += 1
            on_ack(error, offset)
        return served


NEXT = "-next"
"""Suffix of the transactional id of a group's second producer."""


class Request:
    """A call to a coordinator under way: it may arrive late, also after its client died."""

    __slots__ = ("call", "on_done", "session")

    def __init__(
        self, session: Session, call: Callable[[], Any], on_done: Callable[[str | None, Any], None]
    ) -> None:
        self.session = session
        self.call = call
        self.on_done = on_done


class Coordinator:
    """What the broker keeps for one transactional id."""

    __slots__ = ("epoch", "transaction")

    def __init__(self) -> None:
        self.epoch = 0
        self.transaction: Transaction | None = None


class Cluster:
    """All partitions, all producer sessions, all transactional ids."""

    def __init__(self) -> None:
        self.logs: dict[tuple[str, int], Log] = {}
        self.busy: list[Pipe] = []
        self.coordinators: dict[str, Coordinator] = {}
        self.positions: dict[str, str] = {}
        self.requests: list[Request] = []
        self.now = 0
        self.on_append: Callable[[Log, Record], None] = lambda *_: None
        self.on_end: Callable[[Transaction], None] = lambda _: None

    def log(self, topic: str, partition: int) -> Log:
        """Return a partition, created on first use."""
        key = (topic, partition)
        found = self.logs.get(key)
        if found is None:
            found = self.logs[key] = Log(topic, partition)
        return found

    def mark_busy(self, pipe: Pipe) -> None:
        """A pipe has something to land."""
        pipe.index = len(self.busy)
        self.busy.append(pipe)

    def mark_idle(self, pipe: Pipe) -> None:
        """A pipe is empty."""
        last = self.busy.pop()
        if last is not pipe:
            self.busy[pipe.index] = last
            last.index = pipe.index
        pipe.index = -1

    def append(self, log: Log, record: Record) -> int:
        """Append at once (the environment's own writes)."""
        record.time = self.now
        offset = log.append(record)
        self.on_append(log, record)
        return offset

    def land(self, pipe: Pipe, *, again: bool = False) -> None:
        """Append the first write of a pipe and post its acknowledgement.

        With `again` it stays in the pipe, to be appended once more (not idempotent producers).
        """
        session = pipe.session
        record, on_ack = pipe.items[0]
        if session.transactional_id is not None:
            coordinator = self.coordinators[session.transactional_id]
            if coordinator.epoch != session.epoch:
                session.fail()
                return
            transaction = coordinator.transaction
            if transaction is None:
                transaction = coordinator.transaction = Transaction()
            record.transaction = transaction
            if pipe.log not in transaction.logs:
                transaction.logs.append(pipe.log)
                pipe.log.open[transaction] = pipe.log.end
            transaction.records.append((pipe.log, record))
        if again:
            self.append(pipe.log, Record(record.key, record.value, record.headers, record.meaning))
            return
        pipe.items.popleft()
        session.inflight -= 1
        if not pipe.items:
            self.mark_idle(pipe)
        offset = self.append(pipe.log, record)
        if on_ack is not None and not session.closed:
            session.mailbox.append((on_ack, None, offset))

    def request(
        self, session: Session, call: Callable[[], Any], on_done: Callable[[str | None, Any], None]
    ) -> None:
        """Send a request to a coordinator."""
        self.requests.append(Request(session, call, on_done))

    def arrive(self, request: Request) -> None:
        """Carry out a request and post its answer."""
        self.requests.remove(request)
        answer = request.call()
        if not request.session.closed:
            request.session.mailbox.append((request.on_done, None, answer))

    def expire(self, coordinator: Coordinator) -> None:
        """`transaction.timeout.ms`: abort the open transaction and fence its producer."""
        self.end_transaction(coordinator, ABORTED)
        coordinator.epoch += 1

    def initialise(self, transactional_id: str) -> int:
        """`init_transactions`: raise the epoch, abort what is open; returns the new epoch."""
        coordinator = self.coordinators.get(transactional_id)
        if coordinator is None:
            coordinator = self.coordinators[transactional_id] = Coordinator()
        self.end_transaction(coordinator, ABORTED)
        coordinator.epoch += 1
        return coordinator.epoch

    def commit(self, session: Session, metadata: str) -> bool:
        """Commit the open transaction with the position; False when the session is fenced."""
        assert session.transactional_id is not None
        coordinator = self.coordinators[session.transactional_id]
        if coordinator.epoch != session.epoch:
            return False
        self.positions[session.transactional_id.removesuffix(NEXT)] = metadata
        self.end_transaction(coordinator, COMMITTED)
        return True

    def end_transaction(self, coordinator: Coordinator, state: int) -> None:
        """Write the control marker on each partition of the open transaction, if there is one."""
        transaction = coordinator.transaction
        if transaction is None:
            return
        coordinator.transaction = None
        transaction.state = state
        for log in transaction.logs:
            del log.open[transaction]
            log.end += 1
        self.on_end(transaction)

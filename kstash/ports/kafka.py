"""What the runtime needs of the outside world, as Protocols.

The Kafka adapters (`kstash.kafka`), the state backend (`kstash.state`), the metrics
(`kstash.observe`) and the in-memory cluster of `kstash.testing` implement these; the runtime knows
nothing else. Rules that hold for every port:

- All callbacks are served on the caller's thread, inside a `poll` of the port that took them, never
  from another thread.
- No call blocks longer than its stated deadline; nothing is retried for ever without a log line.
- Offsets are ints, partitions are `(topic, partition)` tuples: these are hot paths.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kstash.ports.status import BrokerStatus

Partition = tuple[str, int]
"""A Kafka partition: (topic, partition number)."""

Headers = list[tuple[str, bytes | None]]
"""Kafka record headers, in order, repeats allowed."""

LOG_APPEND_TIME = 2
"""Kind of a timestamp that the broker gave (`message.timestamp.type`), as Kafka numbers it."""


class Message(Protocol):
    """A consumed Kafka record; `confluent_kafka.Message` fulfils it as it is."""

    def topic(self) -> str:
        """Name of the topic."""

    def partition(self) -> int:
        """Partition number."""

    def offset(self) -> int:
        """Offset in the partition."""

    def key(self) -> bytes | None:
        """Key."""

    def value(self) -> bytes | None:
        """Value; None is a tombstone."""

    def headers(self) -> Headers | None:
        """Headers, None when there are none.

        Raises `RecordUnreadableError`, with the place: the name of one is no UTF-8.
        """

    def timestamp(self) -> tuple[int, int]:
        """(Kind, Unix time in milliseconds); kind `LOG_APPEND_TIME`: the broker's, not ours."""


class DeliveredMessage(Protocol):
    """What a delivery callback gets: the produced record with its offset."""

    def offset(self) -> int | None:
        """Offset that the record got; None when only a repetition was acknowledged, without it."""


OnDelivery = Callable[[Any, DeliveredMessage], None]
"""`(error or None, message)`: called once, when the record is acknowledged or failed for good."""

OnDone = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class Census:
    """Who is in the group, as the cluster says.

    Attributes:
        is_settled: no rebalance is under way.
        members: ids of all members.
        owners: the member that each task group is given to; those that are nobody's are left out.
        own: id of the member that was asked.
    """

    is_settled: bool
    members: frozenset[str]
    owners: Mapping[int, str]
    own: str


class Member(Protocol):
    """The worker's consumer: membership, the lineage tail and the data.

    It subscribes to the lineage topic (cooperative-sticky), so that owning partition `i` of it is
    owning task group `i`. Data partitions are added by hand at explicit offsets. A rebalance does
    not hold up what is consumed.
    """

    def subscribe(
        self,
        *,
        on_assigned: Callable[[list[int]], None],
        on_revoked: Callable[[list[int]], None],
        on_lost: Callable[[list[int]], None],
    ) -> None:
        """Join the group; the callbacks get task group numbers and run inside `poll`.

        A revoked group stays this member's until `release`, within the client's
        `max.poll.interval.ms`, so do not keep it for long: those who join wait for it. A lost one
        is already owned by somebody else. The lineage partition of an assigned group is not
        consumed before `follow`.
        """

    def release(self, groups: Collection[int]) -> None:
        """Give up revoked groups, in `on_revoked` or later: the next owner may have them.

        Their lineage partitions are consumed no more.
        """

    def follow(self, group: int, offset: int) -> None:
        """Consume the lineage partition of an owned group from `offset` on."""

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Consume data partitions from explicit offsets (added to what is consumed already).

        A partition that was paused before is fetched.
        """

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on behind these (first, last) offsets where what lies there cannot be read."""

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop consuming data partitions; messages of them already fetched are dropped."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch no more of these until `resume`."""

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch these again."""

    def poll(self, timeout_s: float) -> list[Message]:
        """Wait up to `timeout_s` for one message, then take what is there (500 at most).

        Raises:
            MemberFencedError: another process took this member's place (fatal).
            OffsetOutOfRangeError: a consumed offset is no longer in the log; names the partition.
            RecordUnreadableError: what lies there cannot be read, now or later; names the offsets.
            TopicMissingError: a consumed topic is gone.
        """

    def serve(self) -> None:
        """Keep the place in the group while the caller has no time for `poll`; does not wait.

        Reads nothing. What happens to the group, and errors, are told by the next `poll`.
        """

    def census(self) -> Census | None:
        """Ask who has which task group; may run in another thread, and takes a second at most.

        Returns:
            None while there is no answer.
        """

    def share_out(self, topic: str) -> None:
        """Make the members share out the task groups anew; those with an owner stay where they are.

        May run in another thread, and takes some seconds at most.

        Args:
            topic: any one that exists, and is not the lineage topic.
        """

    def rejoin(self) -> None:
        """Leave the group and join it again, in the next `poll`; the task groups are lost."""

    def position(self, partition: Partition) -> int:
        """Offset that will be read next; moves past transaction markers at the end of the log."""

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit input offsets for lag tools, asynchronously; a failure is logged, not raised."""

    def close(self, *, leave: bool) -> None:
        """Close; with `leave` the group is left at once even by a static member."""


class Scanner(Protocol):
    """A consumer for recovery, and for inputs that are read before they are committed.

    Assign only, `read_uncommitted`, never a group member.
    """

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from the given offsets on; one that was paused is fetched."""

    def pass_over(self, gaps: Mapping[Partition, Sequence[tuple[int, int]]]) -> None:
        """Go on behind these (first, last) offsets where what lies there cannot be read."""

    def remove(self, partitions: Collection[Partition]) -> None:
        """Stop reading these."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Fetch no more of these until `resume`; partitions that are not read are ignored."""

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch these again; partitions that are not read are ignored."""

    def poll(self, timeout_s: float) -> list[Message]:
        """Like `Member.poll`."""

    def position(self, partition: Partition) -> int:
        """Offset that will be read next; moves past transaction markers at the end of the log."""

    def close(self) -> None:
        """Close."""


class Producer(Protocol):
    """Appends records to partitions named explicitly, in order."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: OnDelivery | None,
        timestamp: int,
        headers: Headers | None,
    ) -> None:
        """Queue one record (positional order of `confluent_kafka.Producer.produce`).

        `timestamp` 0 means now. A full local queue is waited out by serving callbacks; a record
        that can never fit raises `RecordTooLargeError`.
        """

    def poll(self) -> None:
        """Serve delivery callbacks without waiting. Raises `ProducerFailedError` when fatal."""

    def __len__(self) -> int:
        """Records not yet acknowledged."""

    def close(self) -> None:
        """Purge what is queued and in flight, and destroy the client. No flush."""

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements up to the deadline; returns how many are missing."""


class SinkProducer(Producer, Protocol):
    """The transactional producer of one task group. Blocking calls run in a thread of its own.

    `produce` begins a transaction when none is open. Between `commit` and its `on_done` the caller
    produces nothing.
    """

    def initialise(self, on_done: Callable[[Exception | None, str | None], None]) -> None:
        """Fence and abort predecessors (`init_transactions`), then read the committed position.

        `on_done(error, metadata)`: the metadata string last committed for this group's offset
        `(lineage topic, group)` in the consumer group `<application_id>-positions`, or None.
        """

    def commit(self, metadata: str, on_done: OnDone) -> None:
        """Wait for all acks, send the committed position as `metadata`, commit.

        Works without an open transaction too (an offsets-only transaction).
        """


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the cluster describes it.

    Attributes:
        topic_id: changes when a topic is deleted and made anew; empty when it is not known.
        operations: what this client may do there (`READ`, `WRITE` ...); empty when not known.
    """

    name: str
    partition_count: int
    replication_factor: int
    config: Mapping[str, str] = field(default_factory=dict)
    topic_id: str = ""
    operations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to create. A replication factor of None takes the cluster's default."""

    name: str
    partition_count: int
    replication_factor: int | None
    config: Mapping[str, str]


class Admin(Protocol):
    """Topic administration; past its deadline a call raises `KafkaUnavailableError`."""

    def describe(
        self, topics: Sequence[str], *, are_created: bool = False, may_be_new: bool = False
    ) -> dict[str, TopicInfo]:
        """Existing topics among `topics`, with their settings; missing ones are left out.

        With `are_created` they were just created, and are waited for until every broker knows them.
        With `may_be_new` somebody else may just have done so: they are looked for some seconds.
        """

    def create(self, topics: Sequence[NewTopic]) -> None:
        """Create topics; one that exists already is left as it is."""

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """High watermark of each partition (`read_uncommitted` end)."""

    def ask_end_offsets(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """Ask for end offsets without waiting.

        Returns:
            A function that gives None until the answer is there, then what is known of it (a
            partition whose answer failed is left out).
        """

    def ask_stable_ends(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """The same for last stable offsets: where `read_committed` ends just now."""

    def ask_start_offsets(
        self, partitions: Collection[Partition]
    ) -> Callable[[], dict[Partition, int] | None]:
        """The same for log start offsets."""

    def delete_records(
        self, limits: Mapping[Partition, int]
    ) -> Callable[[], dict[Partition, int] | None]:
        """Delete the records of each partition below an offset, without waiting.

        Returns:
            A function that gives None until the answer is there, then the new log start offsets. A
            partition where it failed is logged and left out; a limit below its log start changes
            nothing.
        """

    def start_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Log start offset of each partition."""

    def close(self) -> None:
        """Close."""


class Cluster(Protocol):
    """A factory of the clients of one worker: the one port that the runtime is given for Kafka."""

    def admin(self) -> Admin:
        """Topic administration."""

    def member(self) -> Member:
        """The worker's one consumer."""

    def uncommitted_member(self) -> Scanner:
        """The consumer for inputs that are another application's immediate sinks."""

    def scanner(self, *, is_committed: bool = False) -> Scanner:
        """A consumer for one recovery; with `is_committed` it sees what a task sees of an input."""

    def data_producer(self) -> Producer:
        """Idempotent, gapless, `message.timeout.ms=0`: frames and END markers."""

    def lineage_producer(self) -> Producer:
        """Idempotent, linger 0 to 5 ms: segments, hints and checkpoint records."""

    def marker_producer(self) -> Producer:
        """Not idempotent, one request in flight, `acks=all`: FENCE, SEAL, START."""

    def claim_producer(self) -> Producer:
        """As `marker_producer` with `retries=0`: CONFIG and CLAIM."""

    def sink_producer(self, group: int, slot: int = 0) -> SinkProducer:
        """A transactional producer of a task group, which has two: slots 0 and 1."""

    def brokers(self) -> Sequence[BrokerStatus]:
        """What the clients that carry most said last of each broker; does not wait."""

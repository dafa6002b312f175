"""Topic administration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kstash.ports.kafka.record import Partition

OffsetsAnswer = Callable[[], dict[Partition, int] | None]
"""The answer to a question for offsets, once it has come; None until then."""


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
        With `may_be_new` somebody else may just have done so: they are waited for some seconds.
        """

    def create(self, topics: Sequence[NewTopic]) -> list[str]:
        """Create topics; one that exists already is left as it is, and named."""

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """High watermark of each partition (`read_uncommitted` end)."""

    def ask_end_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """Ask for end offsets without waiting.

        Returns:
            A function that gives None until the answer is there, then what is known of it (a
            partition whose answer failed is left out).
        """

    def ask_stable_ends(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """The same for last stable offsets: where `read_committed` ends just now."""

    def ask_start_offsets(self, partitions: Collection[Partition]) -> OffsetsAnswer:
        """The same for log start offsets."""

    def delete_records(self, limits: Mapping[Partition, int]) -> OffsetsAnswer:
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

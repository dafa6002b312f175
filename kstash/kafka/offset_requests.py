"""Where the logs of partitions begin and end: the one way to list offsets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined] # without __all__

from kstash.kafka.admin_requests import FIRST_TIMEOUT_S, AdminRequests
from kstash.ports.kafka import OffsetsAnswer, Partition

LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

NO_RECORD = -1
"""The answer for a time after which there is no record."""


class OffsetRequests:
    """Lists offsets, with a wait or without.

    Args:
        requests: asks the cluster.
        check: raises when one of the partitions does not exist, which listing does not report.
    """

    def __init__(
        self, requests: AdminRequests, check: Callable[[Collection[Partition]], None]
    ) -> None:
        self._requests = requests
        self._check = check

    def ask(
        self, partitions: Collection[Partition], spec: OffsetSpec, *, is_stable: bool = False
    ) -> OffsetsAnswer:
        """Ask without waiting; the result is None until the answer is there."""
        parts = [TopicPartition(*partition) for partition in partitions]
        futures = self._send(parts, spec, self._requests.timeout_s, is_stable=is_stable)

        def answer() -> dict[Partition, int] | None:
            if not all(future.done() for future in futures.values()):
                return None
            return {
                (part.topic, part.partition): future.result().offset
                for part, future in futures.items()
                if future.exception() is None and _is_offset(future.result())
            }

        return answer

    def read(
        self, partitions: Collection[Partition], spec: OffsetSpec, *, is_stable: bool = False
    ) -> dict[Partition, int]:
        """Ask until there is an answer for each.

        Raises:
            TopicMissingError: a topic or partition does not exist.
            KafkaUnavailableError: no answer within the deadline.
        """
        return self._read(partitions, spec, _is_offset, is_stable=is_stable)

    def read_at(self, partitions: Collection[Partition], time_ms: int) -> dict[Partition, int]:
        """As `read`, the first offset that is not older than a time, or `NO_RECORD`."""
        spec: OffsetSpec = OffsetSpec.for_timestamp(time_ms)
        return self._read(partitions, spec, _is_offset_or_none, is_stable=True)

    def _read(
        self,
        partitions: Collection[Partition],
        spec: OffsetSpec,
        is_answer: Callable[[Any], bool],
        *,
        is_stable: bool,
    ) -> dict[Partition, int]:
        if not partitions:
            return {}

        def ask(rest: list[TopicPartition], timeout_s: float) -> Mapping[TopicPartition, Any]:
            return asked.pop() if asked else self._send(rest, spec, timeout_s, is_stable=is_stable)

        wanted = {TopicPartition(*partition): partition for partition in partitions}
        asked: list[Mapping[TopicPartition, Any]] = []
        self._requests.contact()
        # Beside the check, since a recovery waits for both.
        asked.append(ask(list(wanted), min(FIRST_TIMEOUT_S, self._requests.timeout_s)))
        self._check(partitions)
        found = self._requests.ask_all(
            "list offsets", list(wanted), ask, absent=(), is_answer=is_answer
        )
        return {wanted[partition]: result.offset for partition, result in found.items()}

    def _send(
        self, parts: list[TopicPartition], spec: OffsetSpec, timeout_s: float, *, is_stable: bool
    ) -> Mapping[TopicPartition, Any]:
        isolation = IsolationLevel.READ_COMMITTED if is_stable else IsolationLevel.READ_UNCOMMITTED
        return self._requests.client.list_offsets(
            dict.fromkeys(parts, spec), isolation_level=isolation, request_timeout=timeout_s
        )


def _is_offset(result: Any) -> bool:
    """Whether a listed offset is one.

    A request to a leader that fails or times out leaves the client's own "no offset", below 0, and
    no error: its `ListOffsets` drops that of a part (librdkafka 2.16).
    """
    return int(result.offset) >= 0


def _is_offset_or_none(result: Any) -> bool:
    return _is_offset(result) or int(result.offset) == NO_RECORD

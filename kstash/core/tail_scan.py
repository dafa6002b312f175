"""What the ends of a task's output partitions say of its history (protocol, section 6 step 5)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import pairwise

from kstash.core.ids import NO_INCARNATION, Incarnation, OutPartition
from kstash.core.lineage_codec import Lineage
from kstash.core.plan import TaskSpec
from kstash.core.reader import ReaderState
from kstash.core.wire import Fence, Identity, Marker
from kstash.errors import SequenceGapError


class TailScan:
    """Collects what the tails of one task's output partitions say (protocol, section 6 step 5).

    Records of one partition come in the order of their offsets; partitions in any.

    Attributes:
        task: the task.
        starts: (offset, incarnation) by output partition: where its tail begins, and who vouches
            that nothing before it counts; fixed. Only these partitions are scanned.
        internal: those of them that are internal topics; fixed.
        position: the highest position that an accepted record, or the newest END, is of; only
            rises. The history goes there at least (H36).
        chunks: (incarnation, chunk) of each accepted record that carries one, as they came.
    """

    def __init__(
        self,
        spec: TaskSpec,
        *,
        starts: Mapping[OutPartition, tuple[int, Incarnation]],
        known: Container[Incarnation],
        reached: int = 0,
    ) -> None:
        """Begin with nothing seen.

        Args:
            spec: of the task.
            starts: where each partition's tail begins, and the incarnation that vouches for it.
            known: incarnations that a START is known of. On a sink others may write too: what is of
                another incarnation there is nobody's (H52).
            reached: position that no record before the starts is beyond.
        """
        self._known = known
        self._reached = reached
        # (reach, partition, offset) of each record that says more of the history than all before
        # it, by rising reach: for the error that has to name one.
        self._places: list[tuple[int, OutPartition, int]] = []
        # Of each sink partition, by incarnation, the sequences seen, as ranges [first, last] in the
        # order in which they came: only the last one grows.
        self._seen: dict[OutPartition, dict[Incarnation, list[list[int]]]] = {}
        # Of those, the ranges of the incarnation whose record was accepted last.
        self._newest: dict[OutPartition, list[list[int]]] = {}
        self.task = spec.task
        self.starts = dict(starts)
        self.position = 0
        self.chunks: list[tuple[Incarnation, Lineage]] = []
        self.internal = frozenset(spec.internal_outputs)
        # The reader rule of each partition in which a record of an internal topic, or a marker, was
        # seen. Kstash writes no marker into a sink, but others may.
        self._readers: dict[OutPartition, ReaderState] = {}

    def _check(self) -> None:
        """Assert what the fields promise; not for each record, of which there are many."""
        assert all(a[0] < b[0] for a, b in pairwise(self._places)), "places out of order"
        assert self.internal.isdisjoint(self._seen), "sequences of an internal topic"
        for ranges in (r for by_writer in self._seen.values() for r in by_writer.values()):
            assert all(first <= last for first, last in ranges), "an empty range of sequences"

    def on_record(
        self, partition: OutPartition, offset: int, identity: Identity, chunk: Lineage | None
    ) -> bool:
        """Take one record of this task into account.

        Returns:
            Whether it is one to compare with what the replay makes. On a sink a copy may repeat a
            record that lies before the scan: what is stable anyway is not compared there.
        """
        # What was written without fences has no history (H57).
        if not self._starts_at(partition, offset) or identity.incarnation == NO_INCARNATION:
            return False
        if partition in self.internal:
            reader = self._reader(partition, identity.application)
            try:
                skip = reader.accept(identity)
            except SequenceGapError:
                skip = self._after_gap(reader, identity)
            if skip == identity.count:
                return False
        elif not self._is_own(partition, identity) or self._is_copy(partition, identity):
            return False
        if chunk is not None:
            self.chunks.append((identity.incarnation, chunk))
        reach = max(identity.position, chunk.end if chunk is not None else 0)
        if reach > (self._places[-1][0] if self._places else 0):
            self._places.append((reach, partition, offset))
        self.position = max(self.position, identity.position)
        return partition in self.internal or identity.position > self._reached

    def _is_own(self, partition: OutPartition, identity: Identity) -> bool:
        """Whether a record of a sink is of an incarnation that may have written it."""
        if identity.incarnation not in self._known or identity.count != 1:
            return False
        return identity.incarnation >= self.starts[partition][1]

    def _is_copy(self, partition: OutPartition, identity: Identity) -> bool:
        """Whether this incarnation has written that sequence there before: it never does twice."""
        seen = self._seen.setdefault(partition, {}).setdefault(identity.incarnation, [])
        sequence = identity.first_seq
        if _is_within(seen, sequence):
            return True
        if not seen or seen[-1][1] + 1 != sequence:
            seen.append([sequence, sequence])
        seen[-1][1] = sequence
        self._newest[partition] = seen
        return False

    def on_next(self, partition: OutPartition, sequence: int) -> bool:
        """Take a record of a sink that differs from the last one accepted in its sequence only.

        That is the next one, and `on_record` was not called for the partition in between. Returns
        whether it is accepted.
        """
        seen = self._newest[partition]
        if len(seen) > 1 and _is_within(seen, sequence):
            return False
        seen[-1][1] = sequence
        return True

    def place_of(self, position: int) -> tuple[OutPartition, int] | None:
        """(Output partition, offset) of the first record that says that the history goes so far."""
        return next(((out, at) for reach, out, at in self._places if reach >= position), None)

    @staticmethod
    def _after_gap(reader: ReaderState, identity: Identity) -> int:
        # A scan begins midway, so a jump is no corruption here: a successor without the newest
        # checkpoint repeats old sequences, and the next one, with it, goes on above them.
        reader.last_seq[identity.application, identity.task] = (
            identity.first_seq + identity.count - 1
        )
        return 0

    def on_marker(self, partition: OutPartition, offset: int, marker: Marker) -> None:
        """Take a FENCE, or an own END, into account."""
        if not self._starts_at(partition, offset):
            return
        if isinstance(marker, Fence):
            self._reader(partition, marker.application).mark(marker)
        elif marker.task == self.task:
            reader = self._reader(partition, marker.application)
            reader.mark(marker)
            if reader.is_newest(marker.application, self.task.partition, marker.incarnation):
                self.position = max(self.position, marker.position)

    def last_valid(self, application: int) -> dict[OutPartition, int]:
        """Last valid sequence per internal output partition in which a record was accepted."""
        self._check()
        last: dict[OutPartition, int] = {}
        for partition, reader in self._readers.items():
            sequence = reader.last_seq.get((application, self.task))
            if partition in self.internal and sequence is not None:
                last[partition] = sequence
        return last

    def _starts_at(self, partition: OutPartition, offset: int) -> bool:
        return partition in self.starts and offset >= self.starts[partition][0]

    def _reader(self, partition: OutPartition, application: int) -> ReaderState:
        reader = self._readers.get(partition)
        if reader is None:
            group = application, self.task.partition
            reader = ReaderState(False, {group: self.starts[partition][1]})
            self._readers[partition] = reader
        return reader


def _is_within(ranges: Iterable[Sequence[int]], number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)

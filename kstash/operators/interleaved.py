"""Records of several inputs that go through a stage together: a merged batch.

They are columns of each input, with the places of their records in the batch: where they meet they
are put into the order of their places, as branches of one input are. So an operator sees them in
the order in which it would see them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from kstash.operators.batch import Batch
from kstash.operators.entry import Entry
from kstash.operators.flow import ENTERED, Placed, Trail
from kstash.operators.slices import slice_of
from kstash.operators.turns import takes_one_by_one
from kstash.topology.model import Stage
from kstash.topology.traits import ColumnSet


class Share(NamedTuple):
    """What a batch has of one input.

    Attributes:
        input: its index.
        batch: the records, one or more, in the order of the log.
        places: index of each in the whole batch, rising; None: they are all of it.
    """

    input: int
    batch: Batch
    places: Sequence[int] | None = None

    @property
    def trail(self) -> Trail:
        """How the records came about."""
        return ENTERED if self.places is None else Placed(self.places)


def runs_of(shares: Sequence[Share], is_single: Sequence[bool]) -> Iterator[tuple[int, Share]]:
    """(Index of the first record, records) as they follow each other without others between them.

    Args:
        shares: all of a batch.
        is_single: by index of an input, whether each of its records is a run by itself.
    """
    places: list[tuple[int, int]] = []
    for number, share in enumerate(shares):
        taken = range(len(share.batch)) if share.places is None else share.places
        places += [(place, number) for place in taken]
    ends = [0] * len(shares)
    first = 0
    for number, group in groupby(sorted(places), lambda place: place[1]):
        source, batch, _ = shares[number]
        count = sum(1 for _ in group)
        size = 1 if is_single[source] else count
        for start in range(ends[number], ends[number] + count, size):
            yield first, Share(source, slice_of(batch, start, start + size))
            first += size
        ends[number] += count


def meets_by_columns(stage: Stage, entries: Sequence[Entry]) -> bool:
    """Whether records of several inputs may go through a stage together, and not run by run.

    Not where they must go one by one (`takes_one_by_one`), and not where keys meet of which some
    are there as bytes and others live, of a serde that is not known to be steady: bytes would be
    decoded that no record alone has decoded, and other bytes might be made of them.

    Args:
        stage: of the task.
        entries: of its inputs.
    """
    if takes_one_by_one(stage, stage.entries):
        return False
    # By index of a node: in which form keys leave it; and reach it.
    after: dict[int, tuple[object, ...]] = {}
    before: dict[int, tuple[object, ...]] = {}
    for port, entry in zip(stage.entries, entries, strict=True):
        key = entry.source.key
        after[port.index] = (key,) if key.is_steady else (key, entry.is_canonical)
    for node in stage.nodes:
        forms = [after[parent.index] for parent in node.parents if parent.index in after]
        if any(form != forms[0] for form in forms):
            return False
        if node.is_port:
            (parent,) = node.parents
            keeps, forms = parent.keeps_aside, [before[parent.index]]
            made_by = parent
        else:
            keeps, made_by = node.keeps, node
        before[node.index] = forms[0]
        after[node.index] = forms[0] if ColumnSet.KEY in keeps else ("made by", made_by.index)
    return True

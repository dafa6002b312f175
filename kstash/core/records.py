"""Records of the lineage topic: what each of them says (protocol, section 4).

How they are written is another file's business: `kstash.core.record_codec`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kstash.core.determinants import Determinant, InputPlace
from kstash.core.hashes import OutputHashes
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.reader import ReaderState


@dataclass(frozen=True, slots=True)
class Generation:
    """First record of a partition: the generation, Unix ms at which the topic was created.

    `first_offsets` are (topic, offset) of inputs whose beginning a reset has set.
    """

    nonce: bytes
    generation: int
    first_offsets: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker wants the group; the record's offset becomes the incarnation."""

    nonce: bytes
    worker: str


@dataclass(frozen=True, slots=True)
class Seal:
    """Everything that an older incarnation can rely on lies before this record."""

    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class TaskStart:
    """Where one task starts: base checkpoint position, adopted end, and its first offsets.

    `logs`: it has one input partition, and this incarnation logs runs of it all the same. (One of
    several inputs always does.)
    """

    base: int
    adopted: int
    initial_offsets: dict[int, int]
    logs: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """An incarnation's history: that of its parent up to `adopted`, then its own.

    `skips` are (stage, input, offset) of poison records, or (stage, input, offset, index) of one in
    a frame; `gaps` are (stage, input, first, last) offsets that hold no event (`core.skips`);
    `settings` are those that change results.
    """

    incarnation: Incarnation
    parent: Incarnation | None
    tasks: dict[int, TaskStart]
    settings: dict[str, str]
    skips: tuple[tuple[int, ...], ...] = ()
    gaps: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """The group was given up gracefully at these positions (per stage); `run` when it ended one."""

    incarnation: Incarnation
    positions: dict[int, int]
    run: int | None = None


@dataclass(frozen=True, slots=True)
class BoundedRun:
    """A bounded run: its id and the end offsets of all inputs, as (topic, partition, end)."""

    incarnation: Incarnation
    run: int
    ends: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Lineage of one task at the positions `[start, end)`, written by `incarnation`."""

    incarnation: Incarnation
    task: TaskId
    number: int
    start: int
    end: int
    entries: tuple[Determinant, ...]


@dataclass(frozen=True, slots=True)
class Hint:
    """Per output partition, the offset where a recovery may start its scan.

    What lies before those offsets is skipped, and with it the positions in its headers: the history
    reaches at least to `reached`, the end of the stable lineage (H36). `checked` are the hashes of
    all outputs up to a position at or below it that had some, which covers what is skipped (H44).
    """

    incarnation: Incarnation
    task: TaskId
    number: int
    offsets: dict[OutPartition, int]
    reached: int
    checked: OutputHashes | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a checkpoint.

    Attributes:
        name: relative to the checkpoint's folder.
        size: in bytes.
        digest: BLAKE2b-128 of the content, as 32 hexadecimal digits.
        location: where the checkpoint store has it, in that store's own words; empty: nowhere.
    """

    name: str
    size: int
    digest: str
    location: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A task's state at `position`, with everything that a replay from there needs.

    All is of the moment at which the state was frozen, but for `scan_from`, `reached` and
    `checked`: they are as in `Hint`, of the moment of publishing, which is later. A task that is
    idle publishes its newest remote one again, with newer `input_offsets` too.

    Attributes:
        incarnation: that publishes it.
        task: whose state it is.
        number: unique among the checkpoints of the task and incarnation.
        is_remote: whether its files are in the checkpoint store, or on one worker's disk.
        position: events that the state holds; the next one is the first to be replayed.
        label: of the folder on that disk; a remote one has that of the local one it was made of.
        files: all of the state, in no order; empty for a task without stores.
        input_offsets: next offset by input.
        sequences: sequence of the last output by output partition, of those that have one.
        readers: which incarnations count, by internal input, for a reader from its next offset.
        scan_from: by output partition, the offset from which a recovery reads the tail.
        reached: position up to which lineage was stable.
        made: hashes of all outputs up to `position`; None: none are kept.
        checked: hashes of all outputs whose lineage was stable; None: there are none.
        places: where the task merges, how far it is within the frames of its inputs, by input.
            Their offsets are in `input_offsets` too, and the reader states are as before these.
    """

    incarnation: Incarnation
    task: TaskId
    number: int
    is_remote: bool
    position: int
    label: str
    files: tuple[FileEntry, ...]
    input_offsets: dict[int, int]
    sequences: dict[OutPartition, int]
    readers: dict[int, ReaderState]
    scan_from: dict[OutPartition, int]
    reached: int = 0
    made: OutputHashes | None = None
    checked: OutputHashes | None = None
    places: dict[int, InputPlace] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gone:
    """A tombstone: the record under this key was given up, whether it is still there or not."""

    key: bytes


LineageRecord = (
    Generation | Claim | Seal | Start | Release | BoundedRun | Segment | Hint | Checkpoint
)

"""Records of the lineage topic: what each of them says (protocol, section 4).

How they are written is another file's business: `kstash.core.record_codec`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kstash.core.determinants import Determinant, InputPlace
from kstash.core.hashes import OutputHashes
from kstash.core.ids import Incarnation, OutPartition, TaskId
from kstash.core.reader import ReaderState
from kstash.core.watermark import EventTimes


@dataclass(frozen=True, slots=True)
class Generation:
    """CONFIG, the first record of a partition: which life of the topic this is.

    Attributes:
        nonce: 16 random bytes: no two records have one key (H8).
        generation: Unix time in milliseconds at which the topic was created, 1 or more.
        first_offsets: (topic, offset) of inputs whose beginning a reset has set.
    """

    nonce: bytes
    generation: int
    first_offsets: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker wants the group; the record's offset becomes the incarnation.

    Attributes:
        nonce: 16 random bytes, others for each attempt (H34).
        worker: its `instance_id`, for people; may be empty.
    """

    nonce: bytes
    worker: str


@dataclass(frozen=True, slots=True)
class Seal:
    """Everything that an older incarnation can rely on lies before this record.

    Attributes:
        incarnation: that appends it, after its FENCEs.
    """

    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class TaskStart:
    """Where one task starts.

    Attributes:
        base: position of the checkpoint that it was restored from; 0 without one.
        adopted: end of the history that it takes over; at least `base`.
        initial_offsets: by input, where one begins that no checkpoint knows.
        logs: it has one input partition, and this incarnation logs runs of it all the same. (One of
            several inputs always does.)
    """

    base: int
    adopted: int
    initial_offsets: dict[int, int]
    logs: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """An incarnation's history: that of its parent up to `adopted`, then its own.

    Attributes:
        incarnation: that starts.
        parent: whose history it takes over, always a lower one; None: it is the first.
        tasks: by stage, all of the group's.
        settings: those that change results, and what the program is (`core.manifest`).
        skips: (stage, input, offset) of poison records, or (stage, input, offset, index) of one in
            a frame.
        gaps: (stage, input, first, last) offsets that hold no event (`core.skips`).
    """

    incarnation: Incarnation
    parent: Incarnation | None
    tasks: dict[int, TaskStart]
    settings: dict[str, str]
    skips: tuple[tuple[int, ...], ...] = ()
    gaps: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """The group was given up gracefully: everything before these positions is done.

    Attributes:
        incarnation: that ends.
        positions: of its tasks, by stage.
        run: id of the bounded run that ended with it; None: none did.
    """

    incarnation: Incarnation
    positions: dict[int, int]
    run: int | None = None


@dataclass(frozen=True, slots=True)
class BoundedRun:
    """A bounded run: where it ends.

    Attributes:
        incarnation: of the group that found it.
        run: its id.
        ends: (topic, partition, end offset) of all inputs.
        closes_windows: whether open windows close at its end.
    """

    incarnation: Incarnation
    run: int
    ends: tuple[tuple[str, int, int], ...]
    closes_windows: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """Lineage of one task at the positions `[start, end)`.

    Attributes:
        incarnation: that wrote it.
        task: whose it is.
        number: from 1 on, one more with each segment of the task and incarnation.
        start: of the first position; at least the end of the one before.
        end: above `start`.
        entries: determinants, in order; positions that none covers follow by themselves.
    """

    incarnation: Incarnation
    task: TaskId
    number: int
    start: int
    end: int
    entries: tuple[Determinant, ...]


@dataclass(frozen=True, slots=True)
class Hint:
    """Per output partition, the offset where a recovery may start its scan.

    What lies before those offsets is skipped, and with it the positions in its headers.

    Attributes:
        incarnation: that wrote it.
        task: whose outputs they are.
        number: from 1 on, one more with each hint of the task and incarnation.
        offsets: by output partition, of those that carry lineage; they only rise.
        reached: end of the stable lineage: the history reaches at least to it (H36).
        checked: hashes of all outputs up to the newest position, at or below `reached`, that had
            some: they cover what is skipped (H44). None: there are none.
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
        uri: where the checkpoint store has it, in that store's own words; empty: nowhere.
    """

    name: str
    size: int
    digest: str
    uri: str = ""


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
        event_time: of a task whose time is the smallest over all that feeds it; else None.
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
    event_time: EventTimes | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """A tombstone: the record under this key was given up, whether it is still there or not.

    Attributes:
        key: of that record, encoded.
    """

    key: bytes


LineageRecord = (
    Generation | Claim | Seal | Start | Release | BoundedRun | Segment | Hint | Checkpoint
)

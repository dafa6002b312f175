"""The JSON that a lineage record may hold, for the checker: the tables of wire-format.md.

Any other body is unreadable, so that `kstash.verify.checks` works only with the types it expects.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Tag = Annotated[int, Meta(ge=0)]
"""An integer of 64 bits: the decoder cannot state its bounds."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Row = Annotated[list[Number], Meta(min_length=3, max_length=4)]
Pairs = list[tuple[Number, Number]]
Outputs = list[tuple[Number, Number, Number]]


class Config(TypedDict):
    """CONFIG."""

    generation: Tag
    first: NotRequired[list[tuple[str, Number]]]


class Claim(TypedDict):
    """CLAIM."""

    worker: str


class Seal(TypedDict):
    """SEAL."""


class Start(TypedDict):
    """START."""

    parent: tuple[Tag, Tag] | None
    tasks: list[tuple[Number, Number, Number, Pairs]]
    settings: dict[str, str]
    skips: list[Row]
    gaps: NotRequired[list[tuple[Number, Number, Number, Number]]]
    logs: NotRequired[list[Number]]


class Release(TypedDict):
    """RELEASE."""

    positions: Pairs
    run: Tag | None


class Run(TypedDict):
    """RUN."""

    run: Tag
    ends: list[tuple[str, Number, Number]]
    closes: NotRequired[bool]


class Hashes(TypedDict):
    """The outputs of a task."""

    since: Number
    position: Number
    outputs: list[tuple[Number, Tag, Tag, Tag, Tag, Tag]]


class Hint(TypedDict):
    """HINT."""

    number: Tag
    offsets: Outputs
    reached: Number
    checked: NotRequired[Hashes]


class ReaderState(TypedDict):
    """The reader rule's state of one input."""

    internal: bool
    inc: list[tuple[Tag, Number, Tag, Tag]]
    seq: list[tuple[Tag, Number, Number, int]]
    end: list[tuple[Tag, Number, Number, Tag]]
    time: NotRequired[list[tuple[Tag, Number, Number, int]]]
    back: NotRequired[list[tuple[Tag, Number, Number, Tag]]]


class EventTimes(TypedDict):
    """How far event time has come, in watermark mode."""

    inputs: list[tuple[Number, int]]
    said: list[tuple[Number, Number, int]]
    passed: int
    ticked: Number


class Checkpoint(TypedDict):
    """CKPT."""

    remote: bool
    position: Number
    label: str
    files: list[tuple[str, Tag, Digest, str]]
    inputs: Pairs
    sequences: Outputs
    readers: list[tuple[Number, ReaderState]]
    scan_from: Outputs
    timers: Annotated[list[Any], Meta(max_length=0)]
    reached: Number
    made: NotRequired[Hashes]
    checked: NotRequired[Hashes]
    places: NotRequired[list[tuple[Number, Number, int]]]
    time: NotRequired[EventTimes]


class Stage(TypedDict):
    """One stage of a program, as far as it is checked."""

    number: Number
    name: NotRequired[str]
    inputs: list[tuple[str, bool]]
    outputs: list[tuple[str, bool, str]]


class Program(TypedDict):
    """The program in START's settings, as far as it is checked."""

    stages: list[Stage]


BODIES: dict[str, Any] = {
    "config": Config,
    "claim": Claim,
    "seal": Seal,
    "start": Start,
    "release": Release,
    "run": Run,
    "hint": Hint,
    "checkpoint": Checkpoint,
}

"""Places of records that are passed over: what the setting `skip_records` holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_DIGITS = "[0-9]{1,18}"
PLACE_PATTERN = rf"[a-zA-Z0-9._-]+/[0-9]{{1,10}}/{_DIGITS}(/{_DIGITS}|/all|-{_DIGITS})?"
SKIP_PATTERN = rf"^{PLACE_PATTERN}$"
"""A record as `topic/partition/offset`, and the other forms of `SkippedPlace`."""


@dataclass(frozen=True, slots=True)
class SkippedPlace:
    """One entry of `skip_records`.

    Attributes:
        offset: of the Kafka record.
        index: of one record of a frame, from 0 (`topic/partition/offset/index`).
        is_whole: all records of a frame are meant (`topic/partition/offset/all`).
        last: last offset of a batch that cannot be read (`topic/partition/first-last`).
    """

    topic: str
    partition: int
    offset: int
    index: int | None = None
    is_whole: bool = False
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode what `PLACE_PATTERN` matches.

        Raises:
            ValueError: the last offset lies before the first one.
        """
        topic, partition, offset, *rest = text.split("/")
        first, _, last = offset.partition("-")
        if last and int(last) < int(first):
            raise ValueError(f"skip_records: {text} ends before it begins")
        part = rest[0] if rest else ""
        return cls(
            topic=topic,
            partition=int(partition),
            offset=int(first),
            index=int(part) if part.isdecimal() else None,
            is_whole=part == "all",
            last=int(last) if last else None,
        )

    def __str__(self) -> str:
        end = "" if self.last is None else f"-{self.last}"
        part = "/all" if self.is_whole else "" if self.index is None else f"/{self.index}"
        return f"{self.topic}/{self.partition}/{self.offset}{end}{part}"

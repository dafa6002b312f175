"""What all errors have in common."""

from __future__ import annotations

from typing import Self


class KstashError(Exception):
    """Base of every error that kstash raises on purpose.

    Attributes:
        is_lasting: whether a new start would end with it again, until somebody has changed the
            program, its settings or what it asks of the cluster. A supervisor stops then.
        is_logged: whether the log of the worker has it, with what caused it.
    """

    is_lasting = False
    is_logged = False


class LocatedError(KstashError):
    """An error at a record of a topic. Who knows the place adds it with `at`.

    Attributes:
        detail: what is wrong, without the place.
        topic: Kafka topic, or None when not known.
        partition: partition number, or None when not known.
        offset: offset of the Kafka record, or None when not known.
        index: which logical record of a frame it is, from 0; None when it is no frame's.
        skip: what the setting `skip_records` takes to pass over what failed; None: nothing does.
    """

    def __init__(
        self,
        detail: str,
        *,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.index: int | None = None
        self.skip: str | None = None

    def at(self, topic: str, partition: int | None = None, offset: int | None = None) -> Self:
        """Add the place where it happened, and return the error itself.

        What is known already stays: the innermost caller knows best.
        """
        if self.topic is None:
            self.topic, self.partition, self.offset = topic, partition, offset
        return self

    def __str__(self) -> str:
        if self.topic is None:
            return self.detail
        place = f"topic {self.topic!r}"
        if self.partition is not None:
            place += f", partition {self.partition}"
        if self.offset is not None:
            place += f", offset {self.offset}"
        if self.index is not None:
            place += f", record {self.index} of the frame"
        way = f"; skip_records={self.skip} passes it over, for good" if self.skip else ""
        return f"{self.detail} ({place}){way}"

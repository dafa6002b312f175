"""Where a record lies, for errors and for settings."""

from __future__ import annotations

from kstash.errors import LocatedError
from kstash.ports.kafka import Message


def located(error: LocatedError, message: Message) -> LocatedError:
    """Add a record's place to an error."""
    return error.at(message.topic(), message.partition(), message.offset())


def place_of(message: Message, index: int | str | None = None) -> str:
    """A record as `skip_records` takes it; `index`: which one of a frame."""
    place = f"{message.topic()}/{message.partition()}/{message.offset()}"
    return place if index is None else f"{place}/{index}"

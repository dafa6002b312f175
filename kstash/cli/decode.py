"""Kafka records as data that people can read: frames, identities, lineage and markers decoded.

Pure: messages in, dicts of JSON data out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from kstash.core.determinants import (
    Completed,
    Consumed,
    Determinant,
    Flush,
    Idle,
    MergedBatch,
    Tick,
)
from kstash.core.frames import decode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage_codec import decode_lineage
from kstash.core.names import is_internal
from kstash.core.reader import ReaderState
from kstash.core.record_codec import decode_record
from kstash.core.record_keys import key_incarnation
from kstash.core.record_words import WORDS
from kstash.core.records import Segment
from kstash.core.wire import (
    HEADER_PREFIX,
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    Fence,
    Identity,
    decode_identity,
    decode_marker,
)
from kstash.errors import RecordUnreadableError, SequenceGapError, WireCorruptError
from kstash.escape import printable
from kstash.ports.kafka import Headers, Message


class RecordDecoder:
    """Decodes the records of a topic in order, and marks those that the reader rule drops."""

    def __init__(self) -> None:
        self._readers: dict[int, ReaderState] = {}

    def decode(self, message: Message) -> Iterator[dict[str, Any]]:
        """What one Kafka record holds: itself, or the records of its frame, or a marker.

        Bytes that should be kstash's and do not decode are given as a record with an `error`, and
        so is a record whose headers cannot be read.
        """
        place: dict[str, Any] = {
            "partition": message.partition(),
            "offset": message.offset(),
            "timestamp": message.timestamp()[1],
        }
        headers: Headers = []
        try:
            headers = message.headers() or []
            yield from self._decode(message, place, headers)
        except (WireCorruptError, RecordUnreadableError) as error:
            yield place | _record(message.key(), message.value(), headers) | {"error": str(error)}

    def _decode(
        self, message: Message, place: dict[str, Any], headers: Headers
    ) -> Iterator[dict[str, Any]]:
        known = {name: value or b"" for name, value in headers if name.startswith(HEADER_PREFIX)}
        own = [(name, value) for name, value in headers if not name.startswith(HEADER_PREFIX)]
        reader = self._readers.setdefault(message.partition(), ReaderState(is_internal=False))
        if MARKER_HEADER in known:
            marker = decode_marker(known[MARKER_HEADER])
            reader.mark(marker)
            kind = "fence" if isinstance(marker, Fence) else "end"
            yield place | {"marker": kind, **as_data(marker)}
            return
        if LINEAGE_HEADER in known:
            lineage = decode_lineage(known[LINEAGE_HEADER])
            place["lineage"] = {
                "start": lineage.start,
                "end": lineage.end,
                "determinants": [as_data(entry) for entry in lineage.entries],
            }
        if IDENTITY_HEADER not in known:
            yield place | _record(message.key(), message.value(), own)
            return
        identity = decode_identity(known[IDENTITY_HEADER])
        place["identity"] = as_data(identity)
        skip = _skipped(reader, identity)
        if not is_internal(message.topic()):
            yield place | _record(message.key(), message.value(), own) | {"dropped": skip > 0}
            return
        columns = decode_frame(message.value(), identity.count)
        for index, (key, value, timestamp) in enumerate(
            zip(columns.keys, columns.values, columns.timestamps, strict=True)
        ):
            frame_headers = columns.headers[index] if columns.headers else None
            yield (
                place
                | {"index": index, "timestamp": timestamp}
                | _record(key, value, frame_headers or [])
                | ({} if columns.times is None else {"time": columns.times[index]})
                | ({"control": True} if index in columns.controls else {})
                | {"dropped": index < skip}
            )


def _skipped(reader: ReaderState, identity: Identity) -> int:
    try:
        return reader.accept(identity)
    except SequenceGapError:
        # A gap is no finding here: reading may begin in the middle, or after a purge.
        return 0


def _record(key: bytes | None, value: bytes | None, headers: Headers) -> dict[str, Any]:
    return {
        "key": to_text(key),
        "value": to_text(value),
        "headers": [[name, to_text(content)] for name, content in headers],
    }


def to_text(data: bytes | None) -> str | None:
    r"""Bytes as text; what is not UTF-8 as `\xNN`."""
    return None if data is None else data.decode("utf-8", "backslashreplace")


def as_data(item: Any) -> Any:
    """Dataclasses, ids, tuples and bytes as JSON data."""
    if isinstance(item, Incarnation | TaskId):
        return str(item)
    if is_dataclass(item):
        return {field.name: as_data(getattr(item, field.name)) for field in fields(item)}
    if isinstance(item, dict):
        return {_key_text(key): as_data(value) for key, value in item.items()}
    if isinstance(item, Sequence) and not isinstance(item, str | bytes):
        return [as_data(entry) for entry in item]
    return item.hex() if isinstance(item, bytes) else item


def _key_text(key: Any) -> str:
    # The key (output, partition) is written 0/1; ids of the core have a text of their own.
    return "/".join(map(str, key)) if type(key) is tuple else str(key)


def as_text(shown: dict[str, Any], *, with_headers: bool) -> str:
    """One line, or several with headers, for what `RecordDecoder.decode` gave."""
    place = f"{shown['partition']}:{shown['offset']}"
    if "marker" in shown:
        return f"{place}\t# {shown['marker']} {_pairs(shown, _PLACE | {'marker'})}"
    if "index" in shown:
        place += f"/{shown['index']}"
    mark = "!" if shown.get("dropped") else ""
    line = f"{mark}{place}\t{_shown(shown['key'])}\t{_shown(shown['value'])}"
    if "error" in shown:
        line += f"\t# corrupt: {printable(shown['error'])}"
    if not with_headers:
        return line
    notes = [f"\t{printable(name)}: {_shown(content)}" for name, content in shown["headers"]]
    if not shown.get("index"):  # all records of a frame share them
        if "identity" in shown:
            notes.append(f"\t# identity {_pairs(shown['identity'])}")
        if "lineage" in shown:
            lineage = shown["lineage"]
            notes.append(
                f"\t# lineage [{lineage['start']}, {lineage['end']}): "
                f"{len(lineage['determinants'])} determinants"
            )
    return "\n".join([line, *notes])


_PLACE = {"partition", "offset", "timestamp"}


def _shown(text: str | None) -> str:
    return "(null)" if text is None else printable(text)


def _pairs(data: dict[str, Any], without: set[str] | None = None) -> str:
    return " ".join(
        printable(f"{name}={value}")
        for name, value in data.items()
        if name not in (without or set())
    )


def lineage_entry(message: Message) -> dict[str, Any]:
    """One record of a lineage topic as JSON data: `kind` and its fields, or an `error`."""
    entry: dict[str, Any] = {"group": message.partition(), "offset": message.offset()}
    try:
        if message.value() is None:
            incarnation, kind = key_incarnation(message.key() or b"")
            return entry | {"kind": "tombstone", "of_kind": kind, "incarnation": str(incarnation)}
        record = decode_record(message.key(), message.value())
    except WireCorruptError as error:
        return entry | {"kind": "corrupt", "error": str(error)}
    entry["kind"] = WORDS[type(record)]
    data: dict[str, Any] = as_data(record)
    if isinstance(record, Segment):
        data["entries"] = [determinant_text(item) for item in record.entries]
    return entry | data


def determinant_text(item: Determinant) -> str:
    """One determinant, short."""
    if isinstance(item, Consumed):
        return f"{item.position}: {item.count} of input {item.input} before {item.end_offset}"
    match item:
        case MergedBatch():
            parts = (f"{p.count} of input {p.input} before {p.place.offset}" for p in item.parts)
            return f"{item.position}: {item.count} merged, {', '.join(parts)}"
        case Tick():
            return f"{item.position}: tick at {item.now_ms}"
        case Flush():
            return f"{item.position}: flush of operator {item.operator}"
        case Idle():
            return f"{item.position}: input {item.input} idle at {item.now_ms}"
        case Completed():
            call = item.call.hex()
            return f"{item.position}: call {call} completed, by incarnation {item.incarnation}"
    return f"{item.position}: attachment {item.index}.{item.k} of kind {item.kind}"

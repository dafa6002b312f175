"""Values of the records of the lineage topic (layouts: wire-format.md).

Version byte, kind, body, CRC-32. Segments are binary; the rare kinds are JSON, so that people can
read a dump. What a record is under which key: `kstash.core.record_keys`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from kstash.core import fields
from kstash.core.determinants import InputPlace
from kstash.core.hashes import OutputHashes
from kstash.core.ids import Incarnation, OutPartition
from kstash.core.lineage_codec import decode_lineage, encode_lineage
from kstash.core.reader import ReaderState
from kstash.core.record_keys import (
    CHECKPOINT,
    CLAIM,
    CONFIG,
    HINT,
    KINDS,
    RELEASE,
    RUN,
    SEAL,
    SEGMENT,
    START,
    decode_head,
    decode_task_key,
    encode_key,
)
from kstash.core.records import (
    BoundedRun,
    Checkpoint,
    Claim,
    FileEntry,
    Generation,
    Hint,
    LineageRecord,
    Release,
    Seal,
    Segment,
    Start,
    TaskStart,
)
from kstash.core.watermark import EventTimes
from kstash.core.wire import with_checksum, without_checksum
from kstash.errors import WireCorruptError

# Written into topics: never change a value, only add.
VERSION, EVENTS_VERSION = 1, 2
"""Of the second are a START that says that a task of one input logs, a CKPT that says how far the
task is within frames, and a RUN that closes windows: older releases would read something else in
them, and so must refuse."""


def encode_value(record: LineageRecord) -> bytes:
    """Return the Kafka value of a lineage record."""
    kind = KINDS[type(record)]
    if isinstance(record, Segment):
        body = encode_lineage(record.start, record.end, record.entries)
    else:
        body = json.dumps(_TO_JSON[kind](record), separators=(",", ":")).encode()
    is_second = (
        (isinstance(record, Start) and any(t.logs for t in record.tasks.values()))
        or (isinstance(record, Checkpoint) and bool(record.places or record.event_time))
        or (isinstance(record, BoundedRun) and record.closes_windows)
    )
    return with_checksum(bytes((EVENTS_VERSION if is_second else VERSION, kind)) + body)


def decode_record(key: bytes | None, value: bytes | None) -> LineageRecord:
    """Decode one record of the lineage topic (tombstones are the caller's business).

    Raises:
        WireCorruptError: anything else than what `encode_key` and `encode_value` give.
    """
    body = without_checksum(value)
    newest = EVENTS_VERSION if body[1:2] and body[1] in (START, CHECKPOINT, RUN) else VERSION
    if len(body) < 2 or body[0] not in (VERSION, newest):
        raise WireCorruptError(f"lineage record of version {body[0]}, known: {VERSION}")
    try:
        if key is None:
            raise WireCorruptError("lineage record without a key")
        incarnation, kind, rest = decode_head(key)
        if kind != body[1]:
            raise WireCorruptError(f"lineage record of kind {body[1]} under a key of kind {kind}")
        record = _decode_body(incarnation, kind, rest, body[2:])
        if encode_key(record) != key:
            raise WireCorruptError(f"lineage record of kind {kind} under a malformed key")
        return record
    except WireCorruptError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise WireCorruptError(f"malformed lineage record: {error!r}") from error
    except RecursionError as error:
        raise WireCorruptError("lineage record nested too deep") from error


def _decode_body(
    incarnation: Incarnation, kind: int, key_rest: bytes, body: bytes
) -> LineageRecord:
    if kind == SEGMENT:
        task, number = decode_task_key(key_rest)
        return Segment(incarnation, task, number, *decode_lineage(body))
    if kind not in _FROM_JSON:
        raise WireCorruptError(f"lineage record of unknown kind {kind}")
    return _FROM_JSON[kind](incarnation, key_rest, json.loads(body))


def _partitions(table: dict[OutPartition, int]) -> list[list[int]]:
    return [[*partition, value] for partition, value in sorted(table.items())]


def _from_partitions(data: Any) -> dict[OutPartition, int]:
    return {
        (fields.number(output), fields.number(partition)): fields.number(value)
        for output, partition, value in data
    }


def _int_table(data: Any) -> dict[int, int]:
    return {fields.number(key): fields.number(value) for key, value in data}


def _hashes_to_json(**named: OutputHashes | None) -> dict[str, Any]:
    return {
        name: {
            "since": hashes.since,
            "position": hashes.position,
            "outputs": [[output, *columns] for output, columns in sorted(hashes.outputs.items())],
        }
        for name, hashes in named.items()
        if hashes is not None
    }


def _hashes_from_json(data: Any) -> OutputHashes | None:
    if data is None:
        return None
    outputs = {
        fields.number(output): (
            fields.tag(keys),
            fields.tag(values),
            fields.tag(timestamps),
            fields.tag(headers),
            fields.tag(records),
        )
        for output, keys, values, timestamps, headers, records in data["outputs"]
    }
    return OutputHashes(fields.number(data["since"]), fields.number(data["position"]), outputs)


def _start_to_json(r: Any) -> dict[str, Any]:
    return {
        "parent": r.parent,
        "tasks": [
            [stage, t.base, t.adopted, sorted(t.initial_offsets.items())]
            for stage, t in sorted(r.tasks.items())
        ],
        "settings": r.settings,
        "skips": r.skips,
    } | {
        name: rows
        for name, rows in (
            ("gaps", r.gaps),
            ("logs", [stage for stage, t in sorted(r.tasks.items()) if t.logs]),
        )
        if rows
    }


def _start_from_json(inc: Incarnation, _: bytes, d: Any) -> Start:
    parent = None if d["parent"] is None else Incarnation(*map(fields.tag, d["parent"]))
    logs = set(map(fields.number, d.get("logs", ())))
    tasks = {
        fields.number(stage): TaskStart(
            fields.number(base), fields.number(adopted), _int_table(offsets), stage in logs
        )
        for stage, base, adopted, offsets in d["tasks"]
    }
    settings = {fields.text(k): fields.text(v) for k, v in d["settings"].items()}
    skips = tuple(tuple(map(fields.number, skip)) for skip in d["skips"])
    gaps = tuple(
        (fields.number(s), fields.number(i), fields.number(a), fields.number(b))
        for s, i, a, b in d.get("gaps", ())
    )
    if parent is not None and parent >= inc:
        # A chain of STARTs would have no end.
        raise WireCorruptError(f"START {inc} after its own time: its parent is {parent}")
    if not logs <= tasks.keys():
        raise WireCorruptError(f"START of stages {sorted(tasks)} says that {sorted(logs)} log")
    if any(len(skip) not in (3, 4) for skip in skips):
        raise WireCorruptError(f"START with skips {skips}")
    return Start(inc, parent, tasks, settings, skips=skips, gaps=gaps)


def _checkpoint_to_json(r: Any) -> dict[str, Any]:
    return (
        {
            "remote": r.is_remote,
            "position": r.position,
            "label": r.label,
            "files": [[f.name, f.size, f.digest, f.uri] for f in r.files],
            "inputs": sorted(r.input_offsets.items()),
            "sequences": _partitions(r.sequences),
            "readers": [[i, reader.to_json()] for i, reader in sorted(r.readers.items())],
            "scan_from": _partitions(r.scan_from),
            "timers": [],  # by rule (decision 0057)
            "reached": r.reached,
        }
        | _hashes_to_json(made=r.made, checked=r.checked)
        | _places_to_json(r.places)
        | _event_time_to_json(r.event_time)
    )


def _event_time_to_json(times: EventTimes | None) -> dict[str, Any]:
    if times is None:
        return {}
    return {
        "time": {
            "inputs": sorted(times.inputs.items()),
            "said": _partitions(times.said),
            "passed": times.passed_ms,
            "ticked": times.ticked_ms,
        }
    }


def _event_time_from_json(data: Any) -> EventTimes | None:
    if data is None:
        return None
    return EventTimes(
        {fields.number(source): fields.signed(time) for source, time in data["inputs"]},
        {
            (fields.number(output), fields.number(partition)): fields.signed(time)
            for output, partition, time in data["said"]
        },
        passed_ms=fields.signed(data["passed"]),
        ticked_ms=fields.number(data["ticked"]),
    )


def _places_to_json(places: dict[int, InputPlace]) -> dict[str, Any]:
    rows = [[source, p.taken, p.timestamp_ms] for source, p in sorted(places.items())]
    return {"places": rows} if rows else {}


def _places_from_json(rows: Any, offsets: dict[int, int]) -> dict[int, InputPlace]:
    places = {}
    for source, taken, time in rows:
        if type(time) is not int:
            raise WireCorruptError("CKPT with a place whose time is no number")
        places[source] = InputPlace(offsets[source], fields.number(taken), time)
    return places


def _checkpoint_from_json(inc: Incarnation, key: bytes, d: Any) -> Checkpoint:
    task, number = decode_task_key(key)
    if d["timers"] != []:
        # Whoever wrote them relies on it that they fire.
        raise WireCorruptError("CKPT with timers: this version knows none outside the stores")
    inputs = _int_table(d["inputs"])
    return Checkpoint(
        inc,
        task,
        number,
        is_remote=fields.flag(d["remote"]),
        position=fields.number(d["position"]),
        label=fields.text(d["label"]),
        files=tuple(
            FileEntry(fields.text(n), fields.tag(s), fields.text(g), fields.text(at))
            for n, s, g, at in d["files"]
        ),
        input_offsets=inputs,
        sequences=_from_partitions(d["sequences"]),
        readers={fields.number(i): ReaderState.from_json(t) for i, t in d["readers"]},
        scan_from=_from_partitions(d["scan_from"]),
        reached=fields.number(d["reached"]),
        made=_hashes_from_json(d.get("made")),
        checked=_hashes_from_json(d.get("checked")),
        places=_places_from_json(d.get("places", ()), inputs),
        event_time=_event_time_from_json(d.get("time")),
    )


def _hint_from_json(inc: Incarnation, key: bytes, d: Any) -> Hint:
    task, _ = decode_task_key(key)
    offsets = _from_partitions(d["offsets"])
    checked = _hashes_from_json(d.get("checked"))
    return Hint(
        incarnation=inc,
        task=task,
        number=fields.tag(d["number"]),
        offsets=offsets,
        reached=fields.number(d["reached"]),
        checked=checked,
    )


def _release_from_json(inc: Incarnation, _: bytes, d: Any) -> Release:
    run = None if d["run"] is None else fields.tag(d["run"])
    return Release(inc, _int_table(d["positions"]), run)


def _run_from_json(inc: Incarnation, _: bytes, d: Any) -> BoundedRun:
    return BoundedRun(
        inc,
        fields.tag(d["run"]),
        tuple((fields.text(t), fields.number(p), fields.number(e)) for t, p, e in d["ends"]),
        closes_windows=fields.flag(d.get("closes", False)),
    )


_TO_JSON: dict[int, Callable[[Any], dict[str, Any]]] = {
    CONFIG: lambda r: (
        {"generation": r.generation} | ({"first": r.first_offsets} if r.first_offsets else {})
    ),
    CLAIM: lambda r: {"worker": r.worker},
    SEAL: lambda _: {},
    START: _start_to_json,
    RELEASE: lambda r: {"positions": sorted(r.positions.items()), "run": r.run},
    RUN: lambda r: {"run": r.run, "ends": r.ends} | ({"closes": True} if r.closes_windows else {}),
    HINT: lambda r: {
        "number": r.number,
        "offsets": _partitions(r.offsets),
        "reached": r.reached,
        **_hashes_to_json(checked=r.checked),
    },
    CHECKPOINT: _checkpoint_to_json,
}

_FROM_JSON: dict[int, Callable[[Incarnation, bytes, Any], LineageRecord]] = {
    CONFIG: lambda _, nonce, d: Generation(
        nonce,
        fields.tag(d["generation"]),
        tuple((fields.text(t), fields.number(o)) for t, o in d.get("first", ())),
    ),
    CLAIM: lambda _, nonce, d: Claim(nonce, fields.text(d["worker"])),
    SEAL: lambda inc, _, __: Seal(inc),
    START: _start_from_json,
    RELEASE: _release_from_json,
    RUN: _run_from_json,
    HINT: _hint_from_json,
    CHECKPOINT: _checkpoint_from_json,
}

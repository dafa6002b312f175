"""Writes down what topics hold, so that a violation can be studied when the broker is gone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.chaos.checkers import read_everything

DUMP_S_MAX = 60.0


def dump_topics(bootstrap: str, topics: Iterable[str], folder: Path) -> None:
    """One file for each topic, one JSON object for each record, aborted records included."""
    folder.mkdir(parents=True, exist_ok=True)
    for topic in topics:
        path = folder / f"{topic}.jsonl"
        try:
            found = read_everything(bootstrap, topic, deadline_s=DUMP_S_MAX)
        except AssertionError as error:
            path.write_text(json.dumps({"error": str(error)}))
            continue
        with path.open("w") as file:
            for partition, records in sorted(found.items()):
                for record in records:
                    line = {
                        "partition": partition,
                        "offset": record.offset,
                        "key": _text(record.key),
                        "value": _text(record.value),
                        "headers": {name: _text(data) for name, data in record.headers},
                    }
                    file.write(json.dumps(line) + "\n")


def _text(data: bytes | None) -> Any:
    """Text where it is, hexadecimal else."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"hex": data.hex()}
    return text if text.isprintable() else {"hex": data.hex()}

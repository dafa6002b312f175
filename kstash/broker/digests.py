"""SHA-256 of each jar that the development broker runs (`SHA256SUMS`): no other is started.

After a change of `KAFKA_VERSION` the refusal of the new jars names their digests: compare them with
what the projects publish, then put them there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_LIST = Path(__file__).with_name("SHA256SUMS")


def _read() -> dict[str, str]:
    pairs = (line.split() for line in _LIST.read_text(encoding="utf-8").splitlines())
    return {name: value for value, name in pairs}


DIGESTS: Mapping[str, str] = _read()
"""By file name, in hexadecimal."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

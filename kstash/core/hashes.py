"""Rolling hashes of all that a task makes: whether a replay has made it again, in a few numbers.

Scans do not see what hints skip, nor the records of transactional sinks. A HINT says the hashes at
a position whose lineage is stable, a CKPT those at its own, from where a replay goes on (H44).

Invariants:

- hashes depend on the outputs of each output index in their order, and on nothing else: not on
  where a batch ended, nor on what was suppressed;
- items count with their lengths, and headers with the number of their record, so that nothing may
  move from one record to the next unseen;
- hashes compare only when they began at the same position (`since`).
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from kstash.core.frames import RecordHeaders

COLUMNS = ("keys", "values", "timestamps", "headers", "number")
"""What has a hash of its own, so that an error can name what differs; the last one is a count."""

_NOTHING = (0, 0, 0, 0, 0)
_MASK = 2**32 - 1


@dataclass(frozen=True, slots=True)
class OutputHashes:
    """Hashes of what the events `[since, position)` of a task have made.

    Attributes:
        since: 0, or the position of a base that had no hashes.
        position: end of the events.
        outputs: per output index, the hash of each of `COLUMNS`; outputs without any are missing.
    """

    since: int
    position: int
    outputs: Mapping[int, tuple[int, ...]]

    def differences(self, other: OutputHashes) -> dict[int, list[str]]:
        """Per output index, which columns are not those of hashes at the same position."""
        assert (self.since, self.position) == (other.since, other.position)
        found: dict[int, list[str]] = {}
        for output in sorted({*self.outputs, *other.outputs}):
            mine = self.outputs.get(output, _NOTHING)
            theirs = other.outputs.get(output, _NOTHING)
            columns = zip(COLUMNS, mine, theirs, strict=True)
            if differing := [name for name, one, two in columns if one != two]:
                found[output] = differing
        return found


class OutputHasher:
    """Goes on from the hashes at a base."""

    def __init__(self, base: OutputHashes) -> None:
        self._since = base.since  # stays: hashes compare only with those of the same beginning
        # By output index, of those that have made something since then, as in `OutputHashes`.
        self._outputs = dict(base.outputs)

    def add(
        self,
        output: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None] | None,
        timestamps: Sequence[int],
        headers: Sequence[RecordHeaders | None] | None,
    ) -> None:
        """Take the next records of an output into account.

        Args:
            output: its index.
            keys: encoded, one or more.
            values: encoded; None where the topic keeps none.
            timestamps: as made, also where the broker keeps its own.
            headers: the user's, or None when there are none.
        """
        key, value, timestamp, header, count = self._outputs.get(output, _NOTHING)
        key = _roll(key, keys)
        if values is not None:
            value = _roll(value, values)
        timestamp = crc32(_packed("q", timestamps), timestamp)
        for number, items in enumerate(headers or (), count):
            for name, content in items or ():
                header = _roll(header, (b"%d" % number, name.encode(), content))
        self._outputs[output] = (key, value, timestamp, header, count + len(keys))

    def at(self, position: int) -> OutputHashes:
        """The hashes now, after all events below `position`."""
        return OutputHashes(self._since, position, dict(self._outputs))


def _roll(state: int, items: Sequence[bytes | None]) -> int:
    """Go on with two CRC-32: below that of the bytes, above that of the lengths."""
    try:
        lengths: Iterable[int] = map(len, items)  # type: ignore[arg-type]
        joined = b"".join(items)  # type: ignore[arg-type]  # None falls to the except
    except TypeError:
        lengths = [-1 if item is None else len(item) for item in items]
        joined = b"".join(item for item in items if item is not None)
    sizes = crc32(_packed("i", lengths), state >> 32)
    return sizes << 32 | crc32(joined, state & _MASK)


def _packed(kind: str, numbers: Iterable[int]) -> bytes:
    """Numbers of 4 (`i`) or 8 (`q`) bytes, the lowest byte first."""
    packed = array(kind, numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


class HashMarks:
    """Hashes of all that a task has made, and marks of them at rising positions.

    Kept are the marks that are not stable, and the newest one that is, if there is any: it says all
    that those before it say.
    """

    def __init__(self, made: OutputHashes) -> None:
        """Go on from what was made up to a position."""
        self._hasher = OutputHasher(made)
        # By rising position; all but the first one are not stable.
        self._marks: deque[OutputHashes] = deque()

    def note(
        self,
        output: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None] | None,
        timestamps: Sequence[int],
        headers: Sequence[RecordHeaders | None] | None,
    ) -> None:
        """Take records into account; as of `OutputHasher.add`."""
        self._hasher.add(output, keys, values, timestamps, headers)

    def at(self, position: int) -> OutputHashes:
        """Hashes of all that was noted, which was made up to a position."""
        return self._hasher.at(position)

    def mark(self, position: int, stable: int) -> None:
        """Keep the hashes of a position, higher than all that were marked before."""
        self._drop(stable)
        assert not self._marks or self._marks[-1].position < position, "marks out of order"
        self._marks.append(self._hasher.at(position))

    def newest(self, stable: int) -> OutputHashes | None:
        """The newest mark at or below a position; None when there is none."""
        self._drop(stable)
        marks = self._marks
        return marks[0] if marks and marks[0].position <= stable else None

    def _drop(self, stable: int) -> None:
        marks = self._marks
        while len(marks) > 1 and marks[1].position <= stable:
            marks.popleft()

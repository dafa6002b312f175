"""What lies behind the live values of a store, and what is written back to it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Protocol


class Backing(Protocol):
    """Encoded entries of one store, as of the last write-back."""

    def fetch(self, keys: list[bytes]) -> list[bytes | None]:
        """Encoded values in the order of `keys`; None where a key is absent."""

    def scan(self, lower: bytes, upper: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """The first entries from `lower` on and below `upper` (None: to the last), in key order.

        At most `limit`; fewer are all that there are.
        """


@dataclass(frozen=True, slots=True)
class Changes:
    """What one store writes back, in this order: what is erased, then what is put and deleted.

    Attributes:
        keys: to put, in order.
        values: encoded, as many as `keys`.
        deletions: keys to delete, in order.
        erased: from, to: all entries from the one key on and below the other go, and so do those
            of `deletions` that are there; None: no such part.
    """

    keys: list[bytes]
    values: list[bytes]
    deletions: list[bytes]
    erased: tuple[bytes, bytes] | None = None

    @property
    def single_deletions(self) -> list[bytes]:
        """Those of `deletions` that are not erased together with others."""
        if self.erased is None:
            return self.deletions
        lower, upper = (bisect_left(self.deletions, bound) for bound in self.erased)
        return self.deletions[:lower] + self.deletions[upper:]

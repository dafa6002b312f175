"""How many writes a worker has left until it is dead; for tests that crash it at any of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """Requests of all producers of a worker that are still carried out.

    Attributes:
        left: how many; None: any number.
    """

    left: int | None = None

    @property
    def is_spent(self) -> bool:
        """Whether nothing that the worker asks for reaches the cluster any more."""
        return self.left == 0

    def spend(self) -> None:
        """One request is carried out."""
        if self.left is not None:
            self.left -= 1

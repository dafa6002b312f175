"""Replacing a rule for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patch:
    """Replaces attributes and entries, and puts them back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Replace an attribute; returns what it was."""
        before = owner.__dict__[name]
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))
        return before

    def put(self, table: dict[Any, Any], key: Any, value: Any) -> Any:
        """Replace an entry; returns what it was."""
        before = table[key]
        table[key] = value
        self._undo.append(lambda: table.__setitem__(key, before))
        return before

    def undo(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()

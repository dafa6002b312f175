"""How tables are printed."""

from __future__ import annotations

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 1000
"""Wide enough for any line: a file or a pipe has no edge at which a table is cut."""


def table_console() -> Console:
    """As wide as the terminal; without one, tables are as wide as they need."""
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    return console

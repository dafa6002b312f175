"""Log count: how many lines of a server log are attacks."""

from .program import build

__all__ = ["build"]

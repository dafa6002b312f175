"""Log count: how many lines of a server log are attacks."""

from .program import KEY, build

__all__ = ["KEY", "build"]

"""Word count: sentences to words to running counts."""

from .program import build

__all__ = ["build"]

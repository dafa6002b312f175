"""How much of what a worker has made is still in its memory."""

from __future__ import annotations

UNACKED_BYTES_MAX = 64 * 1024 * 1024
"""Outputs of all tasks that are held, queued or on their way, above which no batch begins."""


class Load:
    """Bytes of outputs that no broker has acknowledged, of all tasks of a worker.

    Attributes:
        unacked_bytes: 0 or more; tasks add what they make and take away what is in its topic.
    """

    def __init__(self) -> None:
        self.unacked_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the next batch waits for acknowledgements, which need no further input."""
        assert self.unacked_bytes >= 0, "more was taken away than was made"
        return self.unacked_bytes > UNACKED_BYTES_MAX

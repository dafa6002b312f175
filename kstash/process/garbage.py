"""How often Python's garbage collector runs while a worker runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_THRESHOLDS = (20_000, 20, 50)
"""For `gc.set_threshold`. A batch is a few lists of thousands of words, all of which each pass
visits; with the default of 700 new objects there were about eighty passes a second."""


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Have the garbage collector run less often, and never visit what was imported."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECT_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()

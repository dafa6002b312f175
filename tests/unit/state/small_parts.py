"""Parts of a few entries, so that room is made beside what small tests do."""

from __future__ import annotations

import pytest

from kstash.state import budget, cache, files, parts, task_stores


def small_parts() -> pytest.MonkeyPatch:
    """Parts of three entries, found in several steps; undone by the caller."""
    patch = pytest.MonkeyPatch()
    patch.setattr(cache, "PART_ENTRIES", 3)
    patch.setattr(cache, "SPREAD_KEYS", 4)
    patch.setattr(budget, "PART_BYTES", 600)
    patch.setattr(parts, "SPREAD_KEYS", 4)
    patch.setattr(files, "AHEAD_BYTES", 500)
    patch.setattr(task_stores, "AHEAD_PARTS_MIN", 0.1)
    patch.setattr(parts, "_SAMPLE_STEP", 3)
    patch.setattr(parts, "_SAMPLES_PER_RANGE", 2)
    return patch

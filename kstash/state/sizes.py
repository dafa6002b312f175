"""Estimates of what live values cost in memory. Cheap and rough: they steer spilling only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

ENTRY_OVERHEAD_BYTES = 160
"""A slot in the live dict (about 100 bytes at its mean filling) and one in the dirty set (60)."""

_MEMBERS_SAMPLED_MAX = 8
_DEPTH_MAX = 4


def estimate_entry_bytes(key: bytes, value: Any) -> int:
    """Bytes that one resident entry takes: key, value and its slots; 160 or more."""
    return ENTRY_OVERHEAD_BYTES + sys.getsizeof(key) + estimate_value_bytes(value)


def estimate_value_bytes(value: Any, depth: int = _DEPTH_MAX) -> int:
    """Bytes of a value with what it holds, from a sample of at most eight members a level."""
    size = sys.getsizeof(value)
    if depth == 0 or isinstance(value, str | bytes | int | float):
        return size
    if isinstance(value, Mapping):
        sample = [part for pair in islice(value.items(), _MEMBERS_SAMPLED_MAX) for part in pair]
        count = 2 * len(value)
    elif isinstance(value, list | tuple | set | frozenset):
        sample = list(islice(value, _MEMBERS_SAMPLED_MAX))
        count = len(value)
    else:
        sample = list(getattr(value, "__dict__", {}).values())
        sample += [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
        count = len(sample)
    if not sample:
        return size
    sampled = sum(estimate_value_bytes(member, depth - 1) for member in sample)
    return size + sampled * count // len(sample)

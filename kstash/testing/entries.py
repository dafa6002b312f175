"""What tests read of a store, as a dict."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kstash.errors import ConfigError
from kstash.escape import short_repr


def by_key(store: str, entries: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Entries as a dict.

    Args:
        store: its name, for errors.
        entries: pairs of key and value.

    Raises:
        ConfigError: Python cannot hash a key, as it is or has a list or a dict.
        ValueError: two keys are equal to Python, so that a dict has place for one of them only.
    """
    for key, _ in entries:
        try:
            hash(key)
        except TypeError as error:
            raise ConfigError(
                f"store {store!r} has keys that no dict of Python takes, such as "
                f"{short_repr(key)}: entries({store!r}) gives them as pairs of key and value"
            ) from error
    found = dict(entries)
    if len(found) < len(entries):
        times = Counter(key for key, _ in entries)
        keys = [key for key, _ in entries if times[key] > 1]
        raise ValueError(
            f"store {store!r} has keys that are equal: {keys}; entries({store!r}) gives them as "
            "pairs of key and value"
        )
    return found

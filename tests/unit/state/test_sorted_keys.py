"""Keys in order, in chunks: equal to a sorted set, and never all moved for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstash.state import sorted_keys
from kstash.state.sorted_keys import SortedKeys

KEY = st.integers(0, 40).map(lambda number: b"%02d" % number)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "discard", "drop"]), KEY) | st.tuples(st.just("renew"), KEY),
    max_size=60,
)


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> object:
    """Chunks of four, so that a few keys make many of them."""
    patch = pytest.MonkeyPatch()
    patch.setattr(sorted_keys, "CHUNK_KEYS_MAX", 4)
    yield patch
    patch.undo()


@given(operations=OPERATIONS, lower=KEY, upper=st.none() | KEY)
def test_equals_a_sorted_set(
    operations: list[tuple[str, bytes]], lower: bytes, upper: bytes | None
) -> None:
    """Whatever was added and removed, a walk gives the keys between its bounds in order."""
    keys, model = SortedKeys(), set[bytes]()
    for operation, key in operations:
        if operation == "add":
            keys.add(key)
            model.add(key)
        elif operation == "discard":
            keys.discard(key)
            model.discard(key)
        elif operation == "renew":
            keys.renew([key, *sorted(model)[::2]])
            model = {key, *sorted(model)[::2]}
        else:
            assert keys.drop_below(key) == sorted(k for k in model if k < key)
            model = {k for k in model if k >= key}
        assert list(keys.walk(b"", None)) == sorted(model)
    wanted = sorted(k for k in model if k >= lower and (upper is None or k < upper))
    assert list(keys.walk(lower, upper)) == wanted


def test_chunks_stay_small() -> None:
    """However keys come, no list of them grows past its bound."""
    keys = SortedKeys()
    for number in range(200):
        keys.add(b"%03d" % (number * 7 % 200))
    assert max(map(len, keys._chunks)) <= 4
    assert min(map(len, keys._chunks)) >= 1

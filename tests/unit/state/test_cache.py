"""The write-back store: leases, spilling, deletion and size estimates, over the memory backend."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from kstash.errors import StateError
from kstash.ports.state import KeyValueStore, StoreSpec, TaskState
from kstash.state import budget, cache, parts
from kstash.state.backing import Changes
from kstash.state.budget import MemoryBudget
from kstash.state.cache import CachedStore
from kstash.state.sizes import ENTRY_OVERHEAD_BYTES, estimate_entry_bytes, estimate_value_bytes
from kstash.testing.state import MemoryBackend, MemoryTaskState


def encode(value: Any) -> bytes:
    """A serde's `serialize`."""
    return json.dumps(value).encode()


COUNTS = StoreSpec("counts", encode, json.loads)
LISTS = StoreSpec("lists", encode, json.loads)


def open_task(
    backend: MemoryBackend, partition: int = 0, base: str | None = None
) -> MemoryTaskState:
    """A task with two stores."""
    return backend.task("stage", partition).open([COUNTS, LISTS], base=base)


def count(store: KeyValueStore, keys: list[bytes]) -> None:
    """What a counting operator does to a batch."""
    live = store.load(keys)
    for key in keys:
        live[key] = (live.get(key) or 0) + 1


def test_absent_keys_stay_absent_until_assigned() -> None:
    """A loaded key that nobody assigned is neither in the dict nor written back."""
    state = open_task(MemoryBackend())
    assert state.store("counts").load([b"a"]) == {}
    state.checkpoint("1", 1)
    assert state.store("counts").items() == []


def test_none_deletes_at_write_back() -> None:
    """A key assigned None is gone from the store at once, and from the checkpoint."""
    backend = MemoryBackend()
    state = open_task(backend)
    count(state.store("counts"), [b"a", b"b"])
    state.checkpoint("1", 1)
    state.store("counts").load([b"a"])[b"a"] = None
    assert state.store("counts").items() == [(b"b", 1)]
    state.checkpoint("2", 2)
    assert b"a" not in state.store("counts").load([b"a"])
    assert open_task(backend, base="2").store("counts").items() == [(b"b", 1)]
    assert open_task(backend, base="1").store("counts").items() == [(b"a", 1), (b"b", 1)]


def test_deleted_key_can_come_back() -> None:
    """A key deleted and counted again in the next batch starts from nothing."""
    state = open_task(MemoryBackend())
    store = state.store("counts")
    count(store, [b"a"])
    state.checkpoint("1", 1)
    store.load([b"a"])[b"a"] = None
    count(store, [b"a"])
    state.checkpoint("2", 2)
    assert store.items() == [(b"a", 1)]


def test_values_changed_in_place_are_written() -> None:
    """A list that the operator appends to needs no assignment: loading marked it dirty."""
    backend = MemoryBackend()
    state = open_task(backend)
    state.store("lists").load([b"a"])[b"a"] = [1]
    state.checkpoint("1", 1)
    state.store("lists").load([b"a"])[b"a"].append(2)
    state.checkpoint("2", 2)
    assert open_task(backend, base="2").store("lists").items() == [(b"a", [1, 2])]


def test_a_peek_sees_what_is_live_and_what_was_written() -> None:
    """Values resident and dirty, resident and clean, and on the disk only; no deleted ones."""
    backend = MemoryBackend()
    state = open_task(backend)
    count(state.store("counts"), [b"clean", b"gone"])
    state.checkpoint("1", 1)
    state = open_task(backend, base="1")
    live = state.store("counts").load([b"dirty", b"gone"])
    live[b"dirty"], live[b"gone"] = 7, None
    keys = [b"clean", b"dirty", b"gone", b"never"]
    assert state.store("counts").peek(keys) == {b"clean": 1, b"dirty": 7}


def test_a_peek_keeps_leases_and_dirties_nothing() -> None:
    """The batch under way keeps its keys; what was only looked at is not resident afterwards."""
    backend = MemoryBackend()
    state = open_task(backend)
    count(state.store("counts"), [b"a", b"b"])
    state.checkpoint("1", 1)
    state = open_task(backend, base="1")
    store = state.store("counts")
    live = store.load([b"a"])
    assert store.peek([b"a", b"b"]) == {b"a": 1, b"b": 1}
    assert len(store) == 1
    deque(state.spilling(), maxlen=0)
    live[b"a"] = 5
    assert store.changes().keys == [b"a"]
    state.checkpoint("2", 2)
    store.peek([b"a", b"b"])
    assert store.changes().keys == []


def test_a_peek_at_unreadable_state_names_store_and_key() -> None:
    """Bytes that the serde cannot take are an error with both names, as for a load."""
    backend = MemoryBackend()
    state = open_task(backend)
    count(state.store("counts"), [b"a"])
    state.checkpoint("1", 1)
    broken = StoreSpec("counts", encode, lambda _: 1 // 0)
    store = backend.task("stage", 0).open([broken], base="1").store("counts")
    with pytest.raises(StateError, match=r"store 'counts'.*b'a' cannot be deserialized"):
        store.peek([b"a"])


def test_spilling_keeps_the_leased_keys_of_every_store() -> None:
    """Loading one store to overflow does not take the other's batch from under its operator."""
    state = open_task(MemoryBackend(memory_bytes=1))
    left, right = state.store("counts"), state.store("lists")
    for round_ in range(5):
        keys = [b"k%d" % n for n in range(round_, round_ + 20)]
        left_live = left.load(keys)
        right_live = right.load(keys)
        for key in keys:
            left_live[key] = (left_live.get(key) or 0) + 1
            right_live[key] = [*right_live.get(key, []), round_]
    expected = {b"k%d" % n: [r for r in range(5) if r <= n < r + 20] for n in range(24)}
    assert dict(right.items()) == expected
    assert dict(left.items()) == {key: len(rounds) for key, rounds in expected.items()}
    assert len(left) <= 20
    assert len(right) <= 20


def test_budget_is_shared_by_tasks() -> None:
    """A full worker takes memory from its largest task, and counts what remains right."""
    backend = MemoryBackend(memory_bytes=100_000)
    large, small = open_task(backend, 0), open_task(backend, 1)
    count(small.store("counts"), [b"x"])
    for start in range(0, 5_000, 50):
        count(large.store("counts"), [b"k%d" % n for n in range(start, start + 50)])
        count(small.store("counts"), [b"x"])
    resident = len(large.store("counts")) + len(small.store("counts"))
    assert resident * ENTRY_OVERHEAD_BYTES < 120_000
    assert small.store("counts").items() == [(b"x", 101)]
    assert len(large.store("counts").items()) == 5_000


def test_clean_entries_are_dropped_before_anything_is_written() -> None:
    """When what a checkpoint wrote is enough to drop, a spill writes nothing."""
    state = open_task(MemoryBackend(memory_bytes=1_000_000))
    store = state.store("counts")
    count(store, [b"k%d" % n for n in range(3_500)])
    state.checkpoint("1", 1)
    count(store, [b"new"])
    spilled = []
    state._write_part = lambda *_: spilled.append(1)  # type: ignore[method-assign]
    for n in range(3_500, 4_500):
        count(store, [b"k%d" % n])
    assert len(store) < 3_500
    assert spilled == []


def test_values_that_grow_are_noticed() -> None:
    """A few keys with ever longer lists are spilled although their number does not change."""
    state = open_task(MemoryBackend(memory_bytes=200_000))
    store = state.store("lists")
    used_max = 0
    for _ in range(300):
        for key in (b"a", b"b"):
            live = store.load([key])
            live.setdefault(key, []).extend(range(1_000, 1_010))
            used_max = max(used_max, store.bytes_counted)
    assert used_max > 50_000
    assert len(dict(store.items())[b"a"]) == 3_000


def test_value_that_cannot_be_serialized_names_store_and_key() -> None:
    """A value that the serde refuses stops the checkpoint with the store's and the key's name."""
    state = open_task(MemoryBackend())
    live = state.store("counts").load([b"good", b"bad"])
    live[b"good"], live[b"bad"] = 1, object()
    with pytest.raises(StateError, match=r"store 'counts'.*b'bad'.*not JSON serializable"):
        state.checkpoint("1", 1)
    live[b"bad"] = 2
    state.checkpoint("1", 1)
    assert state.store("counts").items() == [(b"bad", 2), (b"good", 1)]


def test_closing_a_task_frees_its_share() -> None:
    """A closed task counts no more in the budget."""
    backend = MemoryBackend(memory_bytes=1_000_000)
    state = open_task(backend)
    count(state.store("counts"), [b"k%d" % n for n in range(100)])
    count(state.store("counts"), [b"x"])
    assert state._budget.used_bytes > 0
    state.close()
    state.close()
    assert state._budget.used_bytes == 0


def test_budget_refuses_no_memory_at_all() -> None:
    """A limit below one byte is a programming error."""
    with pytest.raises(ValueError, match="limit_bytes"):
        MemoryBudget(0)


class Plain:
    """A user's class with a `__dict__`."""

    def __init__(self) -> None:
        self.name = "x" * 1_000


@dataclass(slots=True)
class Slotted:
    """A user's class without a `__dict__`."""

    name: str


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (lambda: 1, 20, 60),
        (lambda: "x" * 1_000, 1_000, 1_200),
        (lambda: ["x" * 1_000 for _ in range(100)], 100_000, 120_000),
        (lambda: {n: f"{n:01000}" for n in range(100)}, 100_000, 130_000),
        (lambda: ({"a": ["x" * 1_000]},), 1_000, 2_500),
        (list, 40, 100),
        (Plain, 1_000, 2_500),
        (lambda: Slotted("x" * 1_000), 1_000, 1_500),
    ],
)
def test_size_estimates_are_near_the_truth(
    make: Callable[[], object], least: int, most: int
) -> None:
    """Estimates of common shapes of values lie within a factor that makes the bound meaningful."""
    assert least <= estimate_value_bytes(make()) <= most


def test_entry_estimate_counts_key_and_slots() -> None:
    """An entry is more than its value."""
    assert estimate_entry_bytes(b"k" * 100, 1) > 100 + ENTRY_OVERHEAD_BYTES


def test_self_containing_value_is_estimated() -> None:
    """A list that holds itself ends the estimate at its depth limit."""
    loop: list[object] = []
    loop.append(loop)
    assert estimate_value_bytes(loop) > 0


def test_ports_are_implemented() -> None:
    """The memory backend fulfils the runtime's ports (checked by mypy; here at run time too)."""
    state: TaskState = open_task(MemoryBackend())
    store: KeyValueStore = state.store("counts")
    assert isinstance(store, CachedStore)


def filled(monkeypatch: pytest.MonkeyPatch, loads: int) -> tuple[list[list[bytes]], CachedStore]:
    """Keys that each load of 50 new ones has written, and the store; 1000 or so have room."""
    monkeypatch.setattr(cache, "PART_ENTRIES", 40)
    monkeypatch.setattr(budget, "PART_BYTES", 50 * ENTRY_OVERHEAD_BYTES)
    monkeypatch.setattr(parts, "SPREAD_KEYS", 400)
    monkeypatch.setattr(parts, "_SAMPLE_STEP", 7)
    state = open_task(MemoryBackend(memory_bytes=1000 * ENTRY_OVERHEAD_BYTES))
    written: list[bytes] = []
    write = state._write_part

    def seen(name: str, changes: Changes) -> None:
        written.extend(changes.keys)
        write(name, changes)

    state._write_part = seen  # type: ignore[method-assign]
    by_load = []
    for number in range(loads):
        written.clear()
        numbers = range(number * 50, number * 50 + 50)
        count(state.store("counts"), [b"%06d" % (n * 7919 % 10_007) for n in numbers])
        by_load.append(list(written))
    return by_load, state.store("counts")


def test_no_batch_waits_for_more_than_it_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is made part by part, before the bound is reached: no load writes all that is there."""
    by_load, store = filled(monkeypatch, 200)
    assert max(map(len, by_load)) <= 3 * 40
    assert sum(map(len, by_load)) > 8_000
    assert len(store.items()) == 200 * 50


def test_parts_follow_each_other_in_key_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """RocksDB takes them for half of what others cost; a pass ends, and another one begins."""
    by_load, _ = filled(monkeypatch, 100)
    keys = [key for load in by_load for key in load]
    breaks = sum(one > other for one, other in pairwise(keys))
    assert breaks <= len(keys) / 500
    assert breaks > 1


def test_keys_that_were_never_assigned_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a state that is asked for many absent keys would grow with them."""
    _, store = filled(monkeypatch, 5)
    for number in range(400):
        store.load([b"absent-%d-%d" % (number, n) for n in range(50)])
        count(store, [b"x%d-%d" % (number, n) for n in range(10)])
    assert len(store._dirty) < 20_000


def is_under_way(backend: MemoryBackend) -> bool:
    """Whether room is being made."""
    return backend._budget._steps is not None


def test_a_pass_ends_with_the_task_that_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing refers to a closed state, and the others go on."""
    monkeypatch.setattr(cache, "PART_ENTRIES", 5)
    monkeypatch.setattr(budget, "PART_BYTES", 2 * ENTRY_OVERHEAD_BYTES)
    backend = MemoryBackend(memory_bytes=100 * ENTRY_OVERHEAD_BYTES)
    large, small = open_task(backend, 0), open_task(backend, 1)
    number = 0
    while not is_under_way(backend):
        count(large.store("counts"), [b"k%d" % number])
        number += 1
    large.close()
    assert not is_under_way(backend)
    for number in range(300):
        count(small.store("counts"), [b"k%d" % number])
    assert len(small.store("counts").items()) == 300

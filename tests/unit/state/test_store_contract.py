"""Ordered stores and timers: one contract, over RocksDB and over the fake in memory.

Each case runs with room for all values and with room for none, where all but the batch under way is
on the disk: no answer may depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kstash.errors import StateError
from kstash.ports.state import (
    OrderedStore,
    StateBackend,
    StoreKind,
    StoreSpec,
    TaskState,
    Timer,
    Timers,
    end_of_prefix,
)
from kstash.state.rocks import RocksBackend
from kstash.testing.state import MemoryBackend


def encode(value: Any) -> bytes:
    """A serde's `serialize`."""
    return json.dumps(value).encode()


SPECS = [
    StoreSpec("plain", encode, json.loads),
    StoreSpec("windows", encode, json.loads, StoreKind.ORDERED),
    StoreSpec("alarms", bytes, bytes, StoreKind.TIMERS),
]

Open = Callable[[str | None], TaskState]


@pytest.fixture(params=["memory", "rocks"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which backend."""
    return str(request.param)


@pytest.fixture(params=[1, 1 << 26], ids=["no-room", "room"])
def backend(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> Iterator[StateBackend]:
    """A backend with or without room."""
    made: StateBackend
    if kind == "memory":
        made = MemoryBackend(request.param)
    else:
        made = RocksBackend(tmp_path, "app", topology_hash="h", memory_bytes=request.param)
    yield made
    made.close()


@pytest.fixture
def reopen(backend: StateBackend) -> Open:
    """Opens the task, after it closed what was open of it."""
    opened: list[TaskState] = []

    def open_at(base: str | None) -> TaskState:
        for state in opened:
            state.close()
        opened[:] = [backend.task("stage", 0).open(SPECS, base=base)]
        return opened[0]

    return open_at


@pytest.fixture
def state(reopen: Open) -> TaskState:
    """An empty task."""
    return reopen(None)


@pytest.fixture
def windows(state: TaskState) -> OrderedStore:
    """An ordered store with a to f: some written, some changed since, one deleted."""
    store = state.ordered("windows")
    store.put(dict.fromkeys((b"a", b"b", b"d", b"e"), 1))
    state.checkpoint("1", 1)
    store.load([b"b", b"c"]).update({b"b": 2, b"c": 2})
    store.put({b"f": 2})
    store.delete([b"d"])
    return store


ALL = [(b"a", 1), (b"b", 2), (b"c", 2), (b"e", 1), (b"f", 2)]


# --- ranges -----------------------------------------------------------------------------------


def test_a_range_is_in_key_order_over_memory_and_disk(windows: OrderedStore) -> None:
    """Changed entries as they are now, deleted ones not at all, the others as written."""
    assert windows.range(b"", None, limit=100) == ALL


def test_a_range_has_its_lower_and_not_its_upper_bound(windows: OrderedStore) -> None:
    """Bounds need not be keys; a range that ends before it begins is empty."""
    assert windows.range(b"b", b"e", limit=100) == ALL[1:3]
    assert windows.range(b"aa", b"ee", limit=100) == ALL[1:4]
    assert windows.range(b"c", b"c", limit=100) == []
    assert windows.range(b"d", b"b", limit=100) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
def test_a_range_goes_on_page_by_page(windows: OrderedStore, limit: int) -> None:
    """Pages from each last key on give every entry once."""
    seen: list[tuple[bytes, Any]] = []
    lower = b""
    while page := windows.range(lower, None, limit=limit):
        assert len(page) <= limit
        seen += page
        lower = page[-1][0] + b"\0"
    assert seen == ALL


def test_a_store_of_keyed_values_is_read_in_key_order_too(state: TaskState) -> None:
    """For queries: entries written, changed, deleted and new, page by page."""
    store = state.store("plain")
    store.load([b"a", b"b", b"d", b"e"]).update(dict.fromkeys([b"a", b"b", b"d", b"e"], 1))
    state.checkpoint("1", 1)
    live = store.load([b"b", b"c", b"d"])
    live[b"b"] = live[b"c"] = 2
    live[b"d"] = None
    expected = [(b"a", 1), (b"b", 2), (b"c", 2), (b"e", 1)]
    for limit in range(1, 6):
        assert store.range(b"", None, limit=limit) == expected[:limit]
        assert store.range(b"b", b"e", limit=limit) == expected[1:3][:limit]
    state.checkpoint("2", 2)
    assert store.items() == expected


def test_many_pages_over_many_deleted_entries(state: TaskState) -> None:
    """Far more entries than are read at once, most of them deleted or changed in memory."""
    store = state.ordered("windows")
    store.put({b"%04d" % n: n for n in range(1000)})
    state.checkpoint("1", 1)
    store.delete([b"%04d" % n for n in range(1000) if n % 50])
    store.put({b"%04d" % n: -n for n in range(0, 1000, 100)})
    expected = [(b"%04d" % n, -n if n % 100 == 0 else n) for n in range(0, 1000, 50)]
    assert store.range(b"", None, limit=7) == expected[:7]
    assert store.range(b"0301", b"0700", limit=100) == expected[7:14]
    assert store.items() == expected


def test_a_prefix_is_a_range() -> None:
    """The end of a prefix stands after all its keys and before all others; 0xff carries over."""
    assert end_of_prefix(b"ab") == b"ac"
    assert end_of_prefix(b"a\xff\xff") == b"b"
    assert end_of_prefix(b"\xff") is None
    assert end_of_prefix(b"") is None


def test_entries_of_a_prefix(state: TaskState) -> None:
    """A key's map is read by its prefix, also where the next byte is the highest."""
    store = state.ordered("windows")
    store.put({b"k\xff": 1, b"k\xff\x00": 2, b"k\xff\xff": 3, b"l": 4})
    found = store.range(b"k\xff", end_of_prefix(b"k\xff"), limit=10)
    assert [value for _, value in found] == [1, 2, 3]


def test_a_range_sees_the_batch_under_way(state: TaskState) -> None:
    """What the caller assigned, changed in place or deleted in a loaded dict counts at once."""
    store = state.ordered("windows")
    store.put({b"a": [1], b"c": [1]})
    state.checkpoint("1", 1)
    live = store.load([b"a", b"b", b"c"])
    assert store.range(b"", None, limit=9) == [(b"a", [1]), (b"c", [1])]
    live[b"b"] = [2]
    live[b"a"].append(2)
    live[b"c"] = None
    assert store.range(b"", None, limit=9) == [(b"a", [1, 2]), (b"b", [2])]
    state.store("plain").load([b"x"])  # without room, the ordered store is written meanwhile
    live[b"c"] = [3]
    assert store.range(b"", None, limit=9) == [(b"a", [1, 2]), (b"b", [2]), (b"c", [3])]


def test_an_entry_comes_back_after_its_deletion(state: TaskState) -> None:
    """Deleted and put, or assigned, again: before and after a write-back."""
    store = state.ordered("windows")
    store.put({b"a": 1, b"b": 1})
    state.checkpoint("1", 1)
    store.delete([b"a", b"b", b"never"])
    assert store.range(b"", None, limit=9) == []
    store.put({b"a": 2})
    store.load([b"b"])[b"b"] = 2
    assert store.range(b"", None, limit=9) == [(b"a", 2), (b"b", 2)]
    store.delete([b"a"])
    state.checkpoint("2", 2)
    store.put({b"a": 3})
    assert store.range(b"", None, limit=9) == [(b"a", 3), (b"b", 2)]


def test_a_value_that_cannot_be_read_names_store_and_key(
    backend: StateBackend, state: TaskState
) -> None:
    """A serde that does not fit the bytes is an error of the store, not of the caller."""
    state.ordered("windows").put({b"a": 1})
    state.checkpoint("1", 1)
    state.close()
    broken = StoreSpec("windows", encode, lambda _: 1 // 0, StoreKind.ORDERED)
    store = backend.task("stage", 0).open([broken], base="1").ordered("windows")
    with pytest.raises(StateError, match=r"store 'windows'.*b'a' cannot be deserialized"):
        store.range(b"", None, limit=1)


# --- expiry -----------------------------------------------------------------------------------


def test_expiry_removes_the_first_entries_step_by_step(windows: OrderedStore) -> None:
    """At most so many, in key order, in memory and on the disk; it says whether some are left."""
    assert windows.expire_below(b"e", limit=2)
    assert windows.range(b"", None, limit=9) == ALL[2:]
    assert not windows.expire_below(b"e", limit=2)
    assert windows.range(b"", None, limit=9) == ALL[3:]
    assert not windows.expire_below(b"e", limit=2)
    assert windows.range(b"", None, limit=9) == ALL[3:]


def test_a_step_that_is_just_enough_leaves_nothing(windows: OrderedStore) -> None:
    """With as many entries as the limit nothing is left, and the bound itself stays."""
    assert not windows.expire_below(b"e", limit=3)
    assert windows.range(b"", None, limit=9) == ALL[3:]


def test_what_expired_is_nowhere(windows: OrderedStore, state: TaskState, reopen: Open) -> None:
    """No load, peek or range has it, nor the next checkpoint; the checkpoint before does."""
    windows.expire_below(b"c", limit=9)
    assert windows.peek([b"a", b"b", b"c"]) == {b"c": 2}
    live = windows.load([b"a", b"b", b"c"])
    assert {key: live[key] for key in (b"a", b"b", b"c") if key in live} == {b"c": 2}
    state.checkpoint("2", 2)
    assert windows.items() == ALL[2:]
    assert reopen("2").ordered("windows").items() == ALL[2:]
    assert reopen("1").ordered("windows").items() == [(key, 1) for key in (b"a", b"b", b"d", b"e")]


def test_what_is_put_below_a_bound_later_is_there(
    windows: OrderedStore, state: TaskState, reopen: Open
) -> None:
    """A bound is no promise about the future: a later entry counts, and what expired does not."""
    windows.expire_below(b"e", limit=9)
    windows.put({b"b": 7})
    assert windows.peek([b"a", b"b"]) == {b"b": 7}
    assert windows.range(b"", b"e", limit=9) == [(b"b", 7)]
    state.checkpoint("2", 2)
    state.store("plain").load([b"x"])  # without room, what was written is read again
    assert windows.range(b"", b"e", limit=9) == [(b"b", 7)]
    windows.put({b"c": 8})
    state.checkpoint("3", 3)
    store = reopen("3").ordered("windows")
    assert store.items() == [(b"b", 7), (b"c", 8), *ALL[3:]]
    assert not store.expire_below(b"c", limit=9)
    assert store.items() == [(b"c", 8), *ALL[3:]]


def test_a_leased_entry_that_expires_can_be_assigned_again(
    windows: OrderedStore, state: TaskState, reopen: Open
) -> None:
    """The batch under way finds it gone, and what it assigns then is kept."""
    live = windows.load([b"a", b"b"])
    windows.expire_below(b"e", limit=9)
    assert b"a" not in live
    live[b"a"] = 9
    state.store("plain").load([b"x"])
    assert windows.range(b"", b"e", limit=9) == [(b"a", 9)]
    state.checkpoint("2", 2)
    assert reopen("2").ordered("windows").range(b"", b"e", limit=9) == [(b"a", 9)]


def test_a_rolling_store_holds_what_is_left(state: TaskState, reopen: Open) -> None:
    """Entries come at one end and go at the other, over many checkpoints and restarts."""
    for number in range(40):
        store = state.ordered("windows")
        store.put({b"%06d" % n: n for n in range(number * 50, number * 50 + 50)})
        while store.expire_below(b"%06d" % (number * 50 - 100), limit=20):
            pass
        state.checkpoint(str(number), number)
        if number % 10 == 9:
            state = reopen(str(number))
        first = max(0, number * 50 - 100)
        expected = [(b"%06d" % n, n) for n in range(first, number * 50 + 50)]
        assert state.ordered("windows").items() == expected


# --- timers -----------------------------------------------------------------------------------


def test_timers_are_due_in_the_order_of_time_key_and_name(state: TaskState) -> None:
    """Times may be negative; keys any bytes, also zeros and each other's beginnings."""
    timers = state.timers("alarms")
    keys = [b"", b"\x00", b"\x00\x00", b"\x00\xff", b"a", b"a\x00", b"a\x00b", b"a\xff", b"b"]
    wanted = [
        Timer(at_ms, key, name)
        for at_ms in (-(1 << 63), -1, 0, 5, (1 << 63) - 1)
        for key in keys
        for name in ("", "x", "xy", "é")
    ]
    for timer in wanted[::-1]:
        timers.set(timer.key, f"{timer.name}{timer.at_ms}", timer.at_ms)
    named = [Timer(t.at_ms, t.key, f"{t.name}{t.at_ms}") for t in wanted]
    assert timers.due((1 << 63) - 1, limit=1000) == sorted(named)
    state.checkpoint("1", 1)
    assert timers.due(0, limit=1000) == sorted(t for t in named if t.at_ms <= 0)


def test_what_is_due_stays_until_it_is_cancelled(state: TaskState) -> None:
    """Due timers are asked for up to a limit, and again, until they are cancelled."""
    timers = state.timers("alarms")
    for number in range(5):
        timers.set(b"k%d" % number, "idle", 100 + number)
    first = timers.due(103, limit=2)
    assert first == [Timer(100, b"k0", "idle"), Timer(101, b"k1", "idle")]
    assert timers.due(103, limit=2) == first
    for timer in first:
        assert timers.cancel(timer.key, timer.name)
    assert timers.due(103, limit=9) == [Timer(102, b"k2", "idle"), Timer(103, b"k3", "idle")]
    assert timers.due(101, limit=9) == []
    assert not timers.cancel(b"k0", "idle")


def test_setting_a_timer_again_moves_it(state: TaskState) -> None:
    """A key has one timer of a name; before and after a write-back, to earlier and to later."""
    timers = state.timers("alarms")
    timers.set(b"k", "idle", 100)
    timers.set(b"k", "other", 100)
    timers.set(b"k", "idle", 50)
    assert timers.due(200, limit=9) == [Timer(50, b"k", "idle"), Timer(100, b"k", "other")]
    state.checkpoint("1", 1)
    timers.set(b"k", "idle", 150)
    timers.set(b"k", "other", 100)
    assert timers.due(200, limit=9) == [Timer(100, b"k", "other"), Timer(150, b"k", "idle")]
    assert timers.cancel(b"k", "idle")
    assert timers.due(200, limit=9) == [Timer(100, b"k", "other")]


def test_the_next_due_time(state: TaskState) -> None:
    """That of the first timer, whatever was set, moved, cancelled or written meanwhile."""
    timers = state.timers("alarms")
    assert timers.next_due() is None
    timers.set(b"b", "t", 20)
    timers.set(b"a", "t", 30)
    assert timers.next_due() == 20
    state.checkpoint("1", 1)
    timers.cancel(b"b", "t")
    assert timers.next_due() == 30
    timers.set(b"c", "t", -5)
    assert timers.next_due() == -5
    timers.cancel(b"c", "t")
    timers.cancel(b"a", "t")
    assert timers.next_due() is None
    state.checkpoint("2", 2)
    assert timers.next_due() is None


def test_timers_are_in_the_checkpoint(state: TaskState, reopen: Open) -> None:
    """A restart has those of its checkpoint: what was set or cancelled later is as it was."""
    timers = state.timers("alarms")
    timers.set(b"a", "t", 1)
    timers.set(b"b", "t", 2)
    state.checkpoint("1", 1)
    timers.cancel(b"a", "t")
    timers.set(b"c", "t", 3)
    state.checkpoint("2", 2)
    timers.cancel(b"b", "t")
    timers = reopen("2").timers("alarms")
    assert timers.due(9, limit=9) == [Timer(2, b"b", "t"), Timer(3, b"c", "t")]
    assert reopen("1").timers("alarms").due(9, limit=9) == [
        Timer(1, b"a", "t"),
        Timer(2, b"b", "t"),
    ]


def test_a_time_beyond_64_bits_is_refused(state: TaskState) -> None:
    """Such a time is a mistake, and leaves the timer as it was."""
    timers: Timers = state.timers("alarms")
    timers.set(b"k", "t", 5)
    with pytest.raises(OverflowError):
        timers.set(b"k", "t", 1 << 63)
    assert timers.due(9, limit=9) == [Timer(5, b"k", "t")]


def test_sizes_count_timers_once(state: TaskState) -> None:
    """What is kept twice for a timer is one entry to people."""
    for number in range(10):
        state.timers("alarms").set(b"%d" % number, "t", number)
    state.checkpoint("1", 1)
    assert state.sizes()["alarms"].entries == 10

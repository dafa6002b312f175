"""Random operations on ordered stores and timers equal a dict that is sorted, on both backends."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from kstash.ports.state import StateBackend, StoreKind, StoreSpec, TaskState, Timer
from kstash.testing.state import MemoryBackend
from tests.unit.state.on_rocks import OnRocks
from tests.unit.state.small_parts import small_parts

Entries = dict[bytes, str]
Set = dict[tuple[bytes, str], int]

SPECS = [
    StoreSpec("entries", str.encode, bytes.decode, StoreKind.ORDERED),
    StoreSpec("timers", bytes, bytes, StoreKind.TIMERS),
    StoreSpec("plain", str.encode, bytes.decode),
]
KEYS = st.integers(0, 30).map(lambda number: b"%02d" % number) | st.binary(max_size=2)
VALUES = st.text(max_size=3)
TIMES = st.integers(-3, 12)
NAMES = st.sampled_from(["", "a", "b"])


class OrderedMachine(RuleBasedStateMachine):
    """A task with an ordered store and timers, beside a model of both."""

    backend: StateBackend
    state: TaskState

    def __init__(self) -> None:
        super().__init__()
        self.patch: pytest.MonkeyPatch | None = None
        self.entries: Entries = {}
        self.timers: Set = {}
        self.checkpoints: dict[str, tuple[Entries, Set]] = {}

    def make_backend(self, memory_bytes: int) -> StateBackend:
        """The backend under test."""
        return MemoryBackend(memory_bytes)

    def crash(self) -> None:
        """Lose everything but the checkpoints."""

    @initialize(is_in_parts=st.booleans(), memory_bytes=st.sampled_from([1, 4_000, 1_000_000]))
    def start(self, memory_bytes: int, *, is_in_parts: bool) -> None:
        """An empty task under some memory bound."""
        if is_in_parts:
            self.patch = small_parts()
        self.memory_bytes = memory_bytes
        self.backend = self.make_backend(memory_bytes)
        self.state = self.backend.task("stage", 0).open(SPECS, base=None)

    @rule(entries=st.dictionaries(KEYS, VALUES, max_size=8))
    def put(self, entries: Entries) -> None:
        """Entries whose older values nobody needs."""
        self.state.ordered("entries").put(entries)
        self.entries.update(entries)

    @rule(keys=st.lists(KEYS, max_size=8))
    def delete(self, keys: list[bytes]) -> None:
        """Entries that may be there."""
        self.state.ordered("entries").delete(keys)
        for key in keys:
            self.entries.pop(key, None)

    @rule(
        batch=st.lists(st.tuples(KEYS, st.none() | VALUES), min_size=1, max_size=8),
        bound=st.none() | KEYS,
        spills=st.booleans(),
    )
    def process(
        self, batch: list[tuple[bytes, str | None]], bound: bytes | None, *, spills: bool
    ) -> None:
        """A batch that loads, compares and assigns, with an expiry and a spill in its middle."""
        store = self.state.ordered("entries")
        live = store.load([key for key, _ in batch])
        for index, (key, value) in enumerate(batch):
            assert live.get(key) == self.entries.get(key)
            live[key] = value
            self.entries.pop(key, None) if value is None else self.entries.update({key: value})
            if index == len(batch) // 2:
                if bound is not None:
                    self.expire(bound, 100)
                if spills:
                    self.state.store("plain").load([b"%d" % n for n in range(30)])

    @rule(bound=KEYS, limit=st.integers(1, 10))
    def expire(self, bound: bytes, limit: int) -> None:
        """The first entries below a bound."""
        below = sorted(key for key in self.entries if key < bound)
        is_more = self.state.ordered("entries").expire_below(bound, limit=limit)
        assert is_more is (len(below) > limit)
        for key in below[:limit]:
            del self.entries[key]

    @rule(lower=KEYS, upper=st.none() | KEYS, limit=st.integers(1, 12))
    def compare_a_range(self, lower: bytes, upper: bytes | None, limit: int) -> None:
        """A part of the store."""
        found = self.state.ordered("entries").range(lower, upper, limit=limit)
        inside = [k for k in sorted(self.entries) if k >= lower and (upper is None or k < upper)]
        assert found == [(key, self.entries[key]) for key in inside[:limit]]

    @rule(keys=st.lists(KEYS, max_size=8))
    def peek(self, keys: list[bytes]) -> None:
        """Some keys."""
        found = self.state.ordered("entries").peek(keys)
        assert found == {key: self.entries[key] for key in keys if key in self.entries}

    @rule(timers=st.lists(st.tuples(KEYS, NAMES, TIMES), max_size=8))
    def set_timers(self, timers: list[tuple[bytes, str, int]]) -> None:
        """Timers, new or moved."""
        for key, name, at_ms in timers:
            self.state.timers("timers").set(key, name, at_ms)
            self.timers[key, name] = at_ms

    @rule(key=KEYS, name=NAMES)
    def cancel(self, key: bytes, name: str) -> None:
        """A timer that may be set."""
        was_set = self.timers.pop((key, name), None) is not None
        assert self.state.timers("timers").cancel(key, name) is was_set

    @rule(until_ms=TIMES, limit=st.integers(1, 6))
    def fire(self, until_ms: int, limit: int) -> None:
        """What is due fires in order and is set no more."""
        timers = self.state.timers("timers")
        due = timers.due(until_ms, limit=limit)
        assert due == [t for t in self.sorted_timers() if t.at_ms <= until_ms][:limit]
        for timer in due:
            assert timers.cancel(timer.key, timer.name)
            del self.timers[timer.key, timer.name]

    @rule(calls=st.integers(1, 12))
    def write_ahead(self, calls: int) -> None:
        """Parts of what the next checkpoint holds; a crash may come after each of them."""
        for _ in range(calls):
            self.state.write_ahead()

    @rule()
    def checkpoint(self) -> None:
        """A checkpoint under a new label."""
        label = f"cp-{len(self.checkpoints)}"
        self.state.checkpoint(label, 1)
        self.checkpoints[label] = (dict(self.entries), dict(self.timers))

    @precondition(lambda self: self.checkpoints)
    @rule(data=st.data())
    def crash_and_restore(self, data: st.DataObject) -> None:
        """A restart has exactly what its base had."""
        label = data.draw(st.sampled_from(sorted(self.checkpoints)))
        self.crash()
        self.state = self.backend.task("stage", 0).open(SPECS, base=label)
        entries, timers = self.checkpoints[label]
        self.entries, self.timers = dict(entries), dict(timers)

    @invariant()
    def the_next_timer_is_known(self) -> None:
        """That of the model."""
        if hasattr(self, "state"):
            first = min(self.timers.values(), default=None)
            assert self.state.timers("timers").next_due() == first

    def sorted_timers(self) -> list[Timer]:
        """Those that are set, in order."""
        return sorted(Timer(at_ms, key, name) for (key, name), at_ms in self.timers.items())

    def teardown(self) -> None:
        """Compare all, and close what is open."""
        if hasattr(self, "state"):
            assert self.state.ordered("entries").items() == sorted(self.entries.items())
            assert self.state.timers("timers").due(99, limit=999) == self.sorted_timers()
            self.state.close()
            self.backend.close()
        if self.patch is not None:
            self.patch.undo()


class RocksOrderedMachine(OnRocks, OrderedMachine):
    """The same on RocksDB."""


SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
EXAMPLES = settings().max_examples
"""Those of the profile: 100 at every save, 500 before a merge."""

TestMemory = OrderedMachine.TestCase
TestMemory.settings = settings(SETTINGS, max_examples=EXAMPLES * 3 // 10, stateful_step_count=50)
TestRocks = RocksOrderedMachine.TestCase
TestRocks.settings = settings(SETTINGS, max_examples=EXAMPLES * 3 // 100, stateful_step_count=40)

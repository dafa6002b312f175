"""Random operations on both backends equal a plain dict, with a memory bound that fits nothing."""

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

from kstash.core.records import FileEntry
from kstash.ports.state import StateBackend, StoreSpec, TaskState
from kstash.testing.state import MemoryBackend
from tests.unit.state.on_rocks import OnRocks
from tests.unit.state.small_parts import small_parts

Model = dict[str, dict[bytes, str]]

STORES = ("left", "right")
SPECS = [StoreSpec(name, str.encode, bytes.decode) for name in STORES]
KEYS = st.integers(0, 60).map(lambda number: b"key-%d" % number)
BATCHES = st.lists(st.tuples(KEYS, st.none() | st.text(max_size=3)), min_size=1, max_size=30)


class StateMachine(RuleBasedStateMachine):
    """A task that takes batches, checkpoints, crashes and comes back, beside a model of it."""

    backend: StateBackend
    state: TaskState

    def __init__(self) -> None:
        super().__init__()
        self.patch: pytest.MonkeyPatch | None = None
        self.model: Model = {name: {} for name in STORES}
        self.checkpoints: dict[str, tuple[Model, tuple[FileEntry, ...]]] = {}
        self.label_count = 0

    def make_backend(self, memory_bytes: int) -> StateBackend:
        """The backend under test."""
        return MemoryBackend(memory_bytes)

    def crash(self) -> None:
        """Lose everything but the checkpoints."""

    @initialize(
        is_in_parts=st.booleans(), memory_bytes=st.sampled_from([1, 3_000, 8_000, 1_000_000])
    )
    def start(self, memory_bytes: int, *, is_in_parts: bool) -> None:
        """An empty task under some memory bound."""
        if is_in_parts:
            self.patch = small_parts()
        self.memory_bytes = memory_bytes
        self.backend = self.make_backend(memory_bytes)
        self.state = self.backend.task("stage", 0).open(SPECS, base=None)

    @rule(name=st.sampled_from(STORES), batch=BATCHES)
    def process(self, name: str, batch: list[tuple[bytes, str | None]]) -> None:
        """A batch on one store: read, compare and assign each key."""
        live = self.state.store(name).load([key for key, _ in batch])
        model = self.model[name]
        for key, value in batch:
            assert live.get(key) == model.get(key)
            live[key] = value
            model.pop(key, None) if value is None else model.__setitem__(key, value)

    @rule(batch=BATCHES)
    def process_both(self, batch: list[tuple[bytes, str | None]]) -> None:
        """A join: a batch loaded from both stores before either is assigned."""
        keys = [key for key, _ in batch]
        lives = {name: self.state.store(name).load(keys) for name in STORES}
        for key, value in batch:
            for name, live in lives.items():
                assert live.get(key) == self.model[name].get(key)
                if value is not None:
                    live[key] = value
                    self.model[name][key] = value

    @rule(
        name=st.sampled_from(STORES), lower=KEYS, upper=st.none() | KEYS, limit=st.integers(1, 20)
    )
    def compare_a_range(self, name: str, lower: bytes, upper: bytes | None, limit: int) -> None:
        """A part of a store, in key order."""
        inside = [
            (key, value)
            for key, value in sorted(self.model[name].items())
            if key >= lower and (upper is None or key < upper)
        ]
        assert self.state.store(name).range(lower, upper, limit=limit) == inside[:limit]

    @rule(calls=st.integers(1, 12))
    def write_ahead(self, calls: int) -> None:
        """Parts of what the next checkpoint holds; a crash may come after each of them."""
        for _ in range(calls):
            self.state.write_ahead()

    @rule()
    def checkpoint(self) -> None:
        """A checkpoint under a new label; it verifies."""
        self.label_count += 1
        label = f"cp-{self.label_count}"
        files = self.state.checkpoint(label, self.label_count)
        assert self.backend.task("stage", 0).verify(label, files)
        self.checkpoints[label] = ({n: dict(m) for n, m in self.model.items()}, files)

    @rule()
    def crash_and_open_empty(self) -> None:
        """Without a base, a restart begins with nothing."""
        self.crash()
        self.state = self.backend.task("stage", 0).open(SPECS, base=None)
        self.model = {name: {} for name in STORES}

    @precondition(lambda self: self.checkpoints)
    @rule(data=st.data())
    def crash_and_restore(self, data: st.DataObject) -> None:
        """A restart has exactly what its base had, and other checkpoints stay valid."""
        label = data.draw(st.sampled_from(sorted(self.checkpoints)))
        self.crash()
        for other, (_, files) in self.checkpoints.items():
            assert self.backend.task("stage", 0).verify(other, files)
        self.state = self.backend.task("stage", 0).open(SPECS, base=label)
        self.model = {n: dict(m) for n, m in self.checkpoints[label][0].items()}

    @precondition(lambda self: self.checkpoints)
    @rule(data=st.data())
    def retain(self, data: st.DataObject) -> None:
        """Deleting checkpoints deletes those and touches nothing else."""
        labels = data.draw(st.sets(st.sampled_from(sorted(self.checkpoints)), max_size=2))
        self.backend.task("stage", 0).retain(labels)
        for label in set(self.checkpoints) - labels:
            assert not self.backend.task("stage", 0).verify(label, self.checkpoints.pop(label)[1])

    @invariant()
    def equals_the_model(self) -> None:
        """All entries, resident or not, equal the model's."""
        if hasattr(self, "state"):
            for name in STORES:
                assert self.state.store(name).items() == sorted(self.model[name].items())

    def teardown(self) -> None:
        """Close what is open."""
        if hasattr(self, "state"):
            self.state.close()
            self.backend.close()
        if self.patch is not None:
            self.patch.undo()


class RocksMachine(OnRocks, StateMachine):
    """The same on RocksDB."""


SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
EXAMPLES = settings().max_examples
"""Those of the profile: 100 at every save, 500 before a merge."""

TestMemory = StateMachine.TestCase
TestMemory.settings = settings(SETTINGS, max_examples=EXAMPLES // 5, stateful_step_count=40)
TestRocks = RocksMachine.TestCase
TestRocks.settings = settings(SETTINGS, max_examples=EXAMPLES // 25, stateful_step_count=30)

"""Calls of simulated tasks: the system that they ask, and how a task starts and completes them.

A RESULT is a record of the lineage topic like any other, but that its bytes are the simulator's
own. Which answer counts, when a call may start and what may be given up are the core's rules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import kstash.core.calls as core_calls
from kstash.core.determinants import Completed
from kstash.core.ids import Incarnation, TaskId
from kstash.core.trim import retained_remote
from tests.simulation.programs import Call, Emission, Stage, State, emit, mix
from tests.simulation.sim_kafka import Record
from tests.simulation.truth import ViolationError

if TYPE_CHECKING:
    from tests.simulation.sim_live import LiveGroup
    from tests.simulation.sim_task import SimTask

OPEN_MAX = 4
"""Calls that are open before a task takes no more records."""

_KEY = struct.Struct(">BQQHH")
_RESULT = 0xEE
_ANSWER = struct.Struct(">IQ")

AskedFor = tuple[int, tuple[int, int], bytes]
"""The key that another system knows a request by: (generation, task, name of the call)."""


@dataclass(frozen=True, slots=True)
class Result:
    """A RESULT in the lineage topic."""

    incarnation: Incarnation
    task: TaskId
    call: Call
    answer: bytes

    @property
    def key(self) -> bytes:
        """It is written under."""
        head = _KEY.pack(_RESULT, *self.incarnation, *self.task)
        return head + self.call.name


def is_of_calls(record: Record) -> bool:
    """Whether a record of the lineage topic is a RESULT, or gives one up."""
    return record.key is not None and record.key[0] == _RESULT


class Answers:
    """The RESULTs that one attempt has read."""

    def __init__(self) -> None:
        self.found = core_calls.CallResults()
        self.records: dict[bytes, Result] = {}

    def fold(self, record: Record, generation: int | None) -> None:
        """Take a record into account, of those of which `is_of_calls` is true."""
        assert record.key is not None
        if record.value is None:
            _, life, offset, stage, partition = _KEY.unpack_from(record.key)
            name = record.key[_KEY.size :]
            self.found.forget(TaskId(stage, partition), name, Incarnation(life, offset))
            self.records.pop(record.key, None)
            return
        result: Result = record.value
        if result.incarnation.generation == generation:  # H46
            self.add(result)

    def add(self, result: Result) -> None:
        """One is there."""
        self.found.fold(result.task, result.call.name, result.incarnation, result.answer)
        self.records[result.key] = result


class Request(NamedTuple):
    """One on its way to the other system."""

    caller: Caller
    key: AskedFor
    call: Call


class Outside:
    """Another system.

    It remembers what it was asked under which key and gives the same answer again, or forgets it
    and gives another one; it never takes one key for two requests.
    """

    def __init__(self, *, forgets: bool) -> None:
        self.forgets = forgets
        self.on_way: list[Request] = []
        # Requests that were carried out, by key, and all answers that were given.
        self.asked: dict[AskedFor, int] = {}
        self.given: dict[AskedFor, list[bytes]] = {}

    def arrive(self, index: int) -> None:
        """A request arrives, whether its sender is still there or not, and is answered."""
        caller, key, call = self.on_way.pop(index)
        caller.on_answer(call, self._carry_out(key, call.request))

    def _carry_out(self, key: AskedFor, request: int) -> bytes:
        before = self.asked.setdefault(key, request)
        if before != request:
            raise ViolationError("I13", f"{key} asks for {request}, and for {before} before")
        given = self.given.setdefault(key, [])
        if self.forgets or not given:
            given.append(_ANSWER.pack(request, len(self.asked) << 8 | len(given)))
        return given[-1]


class Caller:
    """The open calls of one incarnation of a task: which are started, and what was answered."""

    __slots__ = ("ready", "started", "task")

    def __init__(self, task: SimTask) -> None:
        self.task = task
        self.started: set[bytes] = set()
        # Answers that are in the lineage topic: by call, of which incarnation.
        self.ready: dict[bytes, Incarnation] = {}

    def start(self, confirmed: int) -> None:
        """Start what may be started; what somebody has an answer of is not asked again."""
        task, group = self.task, self.task.group
        if task.is_replaying or group.is_draining or group.life < group.world.life:
            return
        for name, call in sorted(task.state.open.items()):
            if name in self.started:
                continue
            if not call.is_read and not core_calls.may_start(call.position, confirmed):
                continue
            self.started.add(name)
            newest = group.answers.found.newest(task.id, name)
            if newest is not None:
                self.ready[name] = newest[0]
            else:
                key = task.incarnation.generation, task.id, name
                group.world.outside.on_way.append(Request(self, key, call))

    def on_answer(self, call: Call, answer: bytes) -> None:
        """The other system has answered: the RESULT comes first."""
        group = self.task.group
        if group.dead or group.is_draining:
            return  # the next owner calls again, under the same key
        result = Result(self.task.incarnation, self.task.id, call, answer)
        record = Record(result.key, result, None, result)
        group.worker.lineage.send(group.lineage_log, record, lambda *_: self._on_result(result))
        if group.world.mutations.completes_early:
            self._on_result(result)

    def _on_result(self, result: Result) -> None:
        if not self.task.group.dead:
            self.task.group.answers.add(result)
            self.ready[result.call.name] = result.incarnation

    def choose(self, rng: Random, position: int) -> Completed | None:
        """The completion of one of those that are answered; None when there is none."""
        names = sorted(name for name in self.ready if name in self.task.state.open)
        if not names:
            return None
        name = names[int(rng.random() * len(names))]
        return Completed(position, name, self.ready.pop(name))


def run_completion(
    stage: Stage, state: State, name: bytes, answer: bytes, partitions: int, out: list[Emission]
) -> None:
    """A call has an answer; results of a key go on in the order of its calls."""
    call = state.open.pop(name, None)
    if call is None:
        raise ViolationError("I1", f"{name.hex()} is completed, and not open")
    request, number = _ANSWER.unpack(answer)
    if request != call.request:
        raise ViolationError("I13", f"{call} has the answer to {request}")
    state.held[name] = call, number
    waiting = [*state.open.values(), *(held for held, _ in state.held.values())]
    state.count += 1
    for first in sorted(c for c in waiting if c.key == call.key):
        if first.name not in state.held:
            break
        _, number = state.held.pop(first.name)
        state.hash = mix(mix(mix(state.hash, 0xCA11), first.request), number)
        emit(stage, call.key, state.hash, partitions, out)


def given_up(group: LiveGroup) -> Iterable[bytes]:
    """Keys of the RESULTs that no recovery needs."""
    view, world = group.core.view, group.world
    for key, result in sorted(group.answers.records.items()):
        base = retained_remote(view, result.task)
        saved = None if base is None else world.remote.get((result.task, base.label))
        if base is None or saved is None:
            continue
        # What is open in it stands in the CKPT, as it is in its state.
        opened = State.restored(saved.snapshot).open.values()
        call = result.call
        if call.is_read and not world.mutations.gives_up_by_position:
            offsets = [c.offset for c in opened if c.is_read and c.source == call.source]
            taken = base.input_offsets.get(call.source, 0)
            if core_calls.is_given_up(call.offset, taken, min(offsets, default=None)):
                yield key
        else:
            oldest = min((c.position for c in opened), default=None)
            if core_calls.is_given_up(call.position, base.position, oldest):
                yield key

"""Mutants of the rules for calls to the outside."""

from __future__ import annotations

import struct
from typing import Any

import kstash.core.calls as core_calls
from kstash.core.calls import CallResults
from tests.simulation import programs, shapes
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch
from tests.simulation.programs import Call, Snapshot, mix


def _starts_at_once(patch: Patch) -> Mutations:
    patch.set(core_calls, "may_start", lambda *_: True)
    return Mutations()


def _reads_by_event(patch: Patch) -> Mutations:
    def name(call: Call) -> bytes:
        return struct.pack(">BIH", call.is_read, call.position, call.within)

    patch.set(Call, "name", property(name))
    return Mutations()


def _reads_of_state(patch: Patch) -> Mutations:
    def request_of(call: Call, value: int, state: int) -> int:
        return mix(before(call, value, state), state)

    before = patch.set(programs, "request_of", request_of)
    return Mutations()


class _NothingOpen(Mutations):
    def frozen(self, snapshot: Snapshot) -> Snapshot:
        return (*snapshot[:6], (), *snapshot[7:])


class _NothingHeld(Mutations):
    def frozen(self, snapshot: Snapshot) -> Snapshot:
        return (*snapshot[:7], (), *snapshot[8:])


def _completes_early(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.completes_early = True
    return mutations


def _first_answer(patch: Patch) -> Mutations:
    def answer_of(results: CallResults, task: Any, completed: Any) -> bytes:
        return next(iter(results._found[task, completed.call].values()))

    patch.set(CallResults, "answer_of", answer_of)
    return Mutations()


def _open_forgotten(patch: Patch) -> Mutations:
    patch.set(core_calls, "is_given_up", lambda made_at, taken, _: made_at < taken)
    return Mutations()


def _gives_up_by_position(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.gives_up_by_position = True
    return mutations


def _ends_with_open_calls(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.ends_with_open_calls = True
    return mutations


CALL_MUTANTS = (
    Mutant("V18", "calls of confirmed events only", _starts_at_once, shapes.CALLS),
    Mutant("V19", "reads are known by their record", _reads_by_event, shapes.CALLS),
    Mutant("V20", "reads do not ask for state", _reads_of_state, shapes.CALLS),
    Mutant("V21", "open calls in checkpoints", lambda _: _NothingOpen(), shapes.CALLS),
    Mutant("V22", "results that wait, too", lambda _: _NothingHeld(), shapes.ANSWERS_GIVEN_UP),
    Mutant("V23", "an answer before its event", _completes_early, shapes.CALLS),
    Mutant("V24", "events name whose answer", _first_answer, shapes.CALLED_AGAIN),
    Mutant("V25", "answers of open calls stay", _open_forgotten, shapes.ANSWERS_GIVEN_UP),
    Mutant("V26", "reads are given up by record", _gives_up_by_position, shapes.READ_AGAIN, (64,)),
    Mutant("V27", "END comes after the calls", _ends_with_open_calls, shapes.ENDS_OF_CALLS),
)

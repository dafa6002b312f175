"""Mutants of the rules for what of the lineage may go, and what is given up."""

from __future__ import annotations

import kstash.core.trim as core_trim
from kstash.core.ids import Incarnation
from kstash.core.lineage import LineageView
from tests.simulation import shapes
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch


def _void_left(patch: Patch) -> Mutations:
    patch.set(LineageView, "note_void", lambda *_: None)
    return Mutations()


def _claims_too_early(patch: Patch) -> Mutations:
    def below(view: LineageView, floor: Incarnation) -> list[bytes]:
        del floor
        return list(view.claims)

    patch.set(core_trim, "claims_below", below)
    return Mutations()


def _starts_too_early(patch: Patch) -> Mutations:
    def below(view: LineageView, floor: Incarnation) -> list[bytes]:
        keys: list[bytes] = before(view, max(floor, *view.starts))
        return keys

    before = patch.set(core_trim, "starts_below", below)
    return Mutations()


def _gone_counts(patch: Patch) -> Mutations:
    patch.set(LineageView, "forget", lambda *_: None)
    return Mutations()


TRIM_MUTANTS = (
    Mutant("S11", "the void goes before its CLAIM", _void_left, shapes.TRIMMED_CLAIMS),
    Mutant("S12", "CLAIMs from the floor on stay", _claims_too_early, shapes.TRIMMED_CLAIMS),
    Mutant("S13", "STARTs from the floor on stay", _starts_too_early, shapes.TRIMMED_CLAIMS),
    Mutant("S14", "what is given up does not count", _gone_counts, shapes.HALF_CLEANED),
)

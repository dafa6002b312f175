"""Mutants of the rules for events that are no records, and for merged ones."""

from __future__ import annotations

from typing import Any

import kstash.core.recovery as core_recovery
import kstash.core.stash as core_stash
from kstash.core.confirmed import Confirmed
from kstash.core.determinants import end_of
from kstash.core.ids import UNBOUNDED
from kstash.core.live import Admission, LiveRules, MayCome
from kstash.core.merge import MergeOrder
from kstash.core.outputs import Output
from kstash.core.records import Claim
from kstash.core.replay import Replay
from kstash.core.sink import SinkCommitter
from kstash.core.task import TaskCore
from tests.simulation import shapes
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch


def _acknowledges_all(patch: Patch) -> Mutations:
    def on_acked(output: Output, position: int, offset: int | None) -> None:
        while output.in_flight and output.in_flight[0] <= position:
            output.in_flight.popleft()
        output.acked.append((position, offset))

    patch.set(Output, "on_acked", on_acked)
    patch.set(Output, "check", lambda *_: None)
    return Mutations()


def _commits_within_event(patch: Patch) -> Mutations:
    patch.set(SinkCommitter, "may_close", lambda committer, _: committer.is_due)
    return Mutations()


def _freezes_within_event(patch: Patch) -> Mutations:
    def made(core: TaskCore) -> Any:
        return None if core.marks is None else core.marks.at(core.position)

    patch.set(TaskCore, "made", made)
    patch.set(TaskCore, "over", property(lambda core: core.position))
    mutations = Mutations()
    mutations.freezes_within_event = True
    return mutations


def _ends_within_event(patch: Patch) -> Mutations:
    patch.set(TaskCore, "over", property(lambda core: core.position))
    return Mutations()


def _acts_at_once(patch: Patch) -> Mutations:
    def may_come(rules: LiveRules, *, is_at_end: bool) -> MayCome:
        found = before(rules, is_at_end=is_at_end)
        return MayCome.ANY if found is MayCome.RECORDS else found

    before = patch.set(LiveRules, "may_come", may_come)
    return Mutations()


def _acts_when_given_up(patch: Patch) -> Mutations:
    patch.set(Admission, "close", lambda _: None)
    return Mutations()


def _times_go_back(patch: Patch) -> Mutations:
    patch.set(LiveRules, "time_ms", lambda _, clock_ms: clock_ms)
    return Mutations()


def _logs_as_now(patch: Patch) -> Mutations:
    def positions(spec: Any, chain: Any, owners: Any) -> Any:
        del chain, owners
        return [(0, UNBOUNDED)] if spec.implicit and not spec.logs else []

    patch.set(core_recovery, "positions_not_logged", positions)
    return Mutations()


def _ticks_anew(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.ticks_anew = True
    return mutations


def _merge_grows(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.merge_grows = True
    return mutations


def _merges_anew(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.merges_anew = True
    return mutations


def _sorted_heads(patch: Patch) -> Mutations:
    def begin(order: MergeOrder, waiting: Any, times: Any) -> None:
        # By the times of all that waits, and not of what is next in each input.
        before(order, waiting, times)
        every = sorted(
            (times.get(source, 0) if time is None else time, source)
            for source, found in waiting.items()
            for time in found
        )
        order._sorted = [source for _, source in every]  # type: ignore[attr-defined]

    def take(order: MergeOrder, most: int) -> list[int]:
        left: list[int] = order._sorted  # type: ignore[attr-defined]
        taken = left[:most]
        del left[:most]
        for source in taken:
            order.counts[source] += 1
        return taken

    before = patch.set(MergeOrder, "__init__", begin)
    patch.set(MergeOrder, "take", take)
    return Mutations()


def _cut_anywhere(patch: Patch) -> Mutations:
    def whole_events(entries: Any, count: int) -> tuple[int, int]:
        return count, max(map(end_of, entries[:count]))

    patch.set(core_stash, "_whole_events", whole_events)
    return Mutations()


def _places_forgotten(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.places_forgotten = True
    return mutations


def _acknowledged_is_confirmed(patch: Patch) -> Mutations:
    patch.set(Confirmed, "through", lambda *given: given[-1])
    return Mutations()


def _any_claim(patch: Patch) -> Mutations:
    def fold(confirmed: Confirmed, offset: int, record: Any) -> None:
        if not isinstance(record, Claim):
            before(confirmed, offset, record)

    before = patch.set(Confirmed, "fold", fold)
    return Mutations()


def _attachments_dropped(patch: Patch) -> Mutations:
    def attachment(*_: Any) -> bytes:
        return bytes(4)

    patch.set(Replay, "attachment", attachment)
    return Mutations()


EVENT_MUTANTS = (
    Mutant("V1", "an acknowledgement is of one part", _acknowledges_all, shapes.IN_PARTS),
    Mutant("V2", "no event of its own after END", _acts_at_once, shapes.ENDS_OF_EVENTS),
    Mutant("V3", "START says who logs", _logs_as_now, shapes.RELEASES),
    Mutant("V4", "a tick is of the time logged", _ticks_anew, shapes.EVENTS),
    Mutant("V5", "a merged batch is a snapshot", _merge_grows, shapes.MERGED),
    Mutant("V6", "it is merged again as one", _merges_anew, shapes.MERGED),
    Mutant("V7", "heads are merged, not sorted", _sorted_heads, shapes.MERGED),
    Mutant("V8", "segments end at whole events", _cut_anywhere, shapes.MERGED_IN_PARTS),
    Mutant("V9", "places within frames are kept", _places_forgotten, shapes.MERGED),
    Mutant("V10", "acknowledged is not confirmed", _acknowledged_is_confirmed, shapes.OUTSIDE),
    Mutant("V11", "confirmed before a higher CLAIM", _any_claim, shapes.OUTSIDE),
    Mutant("V12", "answers are of the lineage", _attachments_dropped, shapes.ASKING),
    Mutant("V13", "nothing after the last checkpoint", _acts_when_given_up, shapes.GIVEN_UP),
    Mutant("V14", "times never go back", _times_go_back, shapes.EVENTS),
    Mutant("V15", "a commit is of whole events", _commits_within_event, shapes.IN_PARTS),
    Mutant("V16", "a checkpoint is of whole events", _freezes_within_event, shapes.IN_PARTS),
    Mutant("V17", "END comes after the last part", _ends_within_event, shapes.ENDS_IN_PARTS),
)

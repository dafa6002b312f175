"""The protocol with one rule removed at a time: the checkers must find each one out.

A mutant is a patch of one named function of the core, or of the driver's obedience to the order of
effects. `shape` fixes knobs so that the rare ones are met often; `seeds` are kept runs in which the
rule was seen to matter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kstash.core.group as core_group
import kstash.core.lineage as core_lineage
import kstash.core.recovery as core_recovery
import kstash.core.trim as core_trim
from kstash.core import effects, events
from kstash.core.determinants import lineage_from
from kstash.core.group_state import GroupState
from kstash.core.ids import UNBOUNDED, Incarnation
from kstash.core.lineage import LineageView
from kstash.core.reader import ReaderState
from kstash.core.sink import CommitState, CommittedPositions, SinkCommitter
from kstash.core.starting import Takeover
from kstash.core.tail_scan import TailScan
from kstash.core.task import TaskCore
from kstash.core.wire import Fence
from tests.simulation import shapes
from tests.simulation.call_mutants import CALL_MUTANTS
from tests.simulation.event_mutants import EVENT_MUTANTS
from tests.simulation.file_mutants import FILE_MUTANTS
from tests.simulation.flush_mutants import FLUSH_MUTANTS
from tests.simulation.knobs import Mutations
from tests.simulation.mutant import Mutant
from tests.simulation.patching import Patch
from tests.simulation.replay_mutants import REPLAY_MUTANTS
from tests.simulation.sim_group import SimGroup
from tests.simulation.sim_kafka import Log
from tests.simulation.trim_mutants import TRIM_MUTANTS
from tests.simulation.watermark_mutants import WATERMARK_MUTANTS


def _h1(patch: Patch) -> Mutations:
    patch.set(ReaderState, "_passes_fence", lambda *_: True)
    return Mutations()


class _EarlyTails(Mutations):
    def before_fence(self, group: SimGroup, logs: list[Log]) -> None:
        del logs
        group.early_ends = {key: log.end for key, log in group.world.cluster.logs.items()}

    def scan_end(self, group: SimGroup, log: Log, end: int) -> int:
        return min(end, group.early_ends.get(log.key, 0))


def _h2(_: Patch) -> Mutations:
    return _EarlyTails()


def _h3(patch: Patch) -> Mutations:
    def sealed(core: Any, _: Any) -> list[Any]:
        core.state = GroupState.READING_SEAL
        return [effects.ReadLineage(core.view.next_offset, core.claim_offset)]

    key = GroupState.SEALING, events.SealAppended
    before = core_group.TRANSITIONS[key]
    patch.put(core_group.TRANSITIONS, key, replace(before, take=sealed))
    return Mutations()


def _h4(patch: Patch) -> Mutations:
    def acked(core: TaskCore, partition: Any, position: int, offset: int) -> None:
        before(core, partition, position, offset)
        stash = core.stash
        end = min(position, stash.end)
        stash._flushed = max(stash._flushed, end)
        stash.mark_stable(end)

    before = patch.set(TaskCore, "on_output_acked", acked)
    return Mutations()


def _h5(patch: Patch) -> Mutations:
    patch.set(TaskCore, "may_publish_checkpoint", lambda core, position: core.stable >= position)
    return Mutations()


def _h6(patch: Patch) -> Mutations:
    late = LineageView.is_late
    patch.set(LineageView, "is_late_hint", late)
    patch.set(LineageView, "is_late", lambda *_: False)
    return Mutations()


def _h7(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.trims_without_reading_back = True
    return mutations


class _ShortKeys(Mutations):
    def cleaner_key(self, key: bytes) -> bytes:
        # The first 16 bytes are the incarnation.
        return bytes(16) + key[16:]


def _h8(_: Patch) -> Mutations:
    return _ShortKeys()


def _h9(patch: Patch) -> Mutations:
    for module in (core_lineage, core_recovery):
        patch.set(module, "history_limit", lambda *_: UNBOUNDED)
    return Mutations()


def _h10(patch: Patch) -> Mutations:
    def starts(view: Any, spec: Any, base: Any) -> Any:
        return {
            partition: (offset, Incarnation(incarnation.generation, 0))
            for partition, (offset, incarnation) in before(view, spec, base).items()
        }

    before = patch.set(core_group, "scan_starts", starts)
    return Mutations()


def _h10_late(patch: Patch) -> Mutations:
    patch.set(LineageView, "is_late_hint", lambda *_: False)
    return Mutations()


def _h11(patch: Patch) -> Mutations:
    def start(core: TaskCore, _: Any) -> int:
        return max([core.stash.stable, *(o.sent for o in core._outputs._made.values())])

    patch.set(TaskCore, "chunk_start", start)
    return Mutations()


def _h12(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.skips_on_failure = True
    return mutations


def _h14(patch: Patch) -> Mutations:
    patch.set(core_trim, "writer_limit", lambda *_: 1 << 60)
    return Mutations()


def _purge_by_files(patch: Patch) -> Mutations:
    def vouching(view: Any, task: Any, base: Any) -> Any:
        del view, task
        return [] if base is None else [base]

    patch.set(core_recovery, "_vouching", vouching)
    return Mutations()


def _h19(patch: Patch) -> Mutations:
    patch.set(TaskCore, "fits", lambda *_: True)
    return Mutations()


def _h21(patch: Patch) -> Mutations:
    patch.set(core_trim, "may_trim_by", lambda _: True)
    return Mutations()


def _h25(patch: Patch) -> Mutations:
    def on_history(chain: Any, checkpoint: Any) -> bool:
        return any(start.incarnation == checkpoint.incarnation for start in chain)

    patch.set(core_recovery, "is_on_history", on_history)
    return Mutations()


def _h26(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.generation_is_constant = True
    return mutations


def _h27(patch: Patch) -> Mutations:
    patch.set(SinkCommitter, "is_stable", lambda *_: True)
    return Mutations()


class _EarlyPositions(Mutations):
    def committed_before_fence(self, group: SimGroup) -> list[str | None] | None:
        return [group.world.cluster.positions.get(f"app-{group.number}")]


def _h28(_: Patch) -> Mutations:
    return _EarlyPositions()


def _h29(patch: Patch) -> Mutations:
    def part(owners: Any, incarnation: Any, entries: Any) -> Any:
        own = next((o.start for o in owners if o.incarnation == incarnation), 0)
        return lineage_from(before(owners, incarnation, entries), own)

    before = core_lineage.history_part
    patch.set(core_recovery, "history_part", part)
    return Mutations()


def _h30(patch: Patch) -> Mutations:
    patch.set(TaskCore, "hint_limit", lambda core: core.position)
    return Mutations()


def _h31(patch: Patch) -> Mutations:
    def acked(core: TaskCore, partition: Any, position: int, offset: int) -> None:
        before(core, partition, position, offset)
        if core._outputs.of(partition).is_sink:
            core.scans._offsets[partition] = offset

    before = patch.set(TaskCore, "on_output_acked", acked)
    return Mutations()


def _h32(patch: Patch) -> Mutations:
    def plan(*args: Any, **kwargs: Any) -> Any:
        made = before(*args, **kwargs)
        return replace(made, committed=made.adopted)

    before = patch.set(core_group, "plan_task", plan)
    return Mutations()


class _ListedEnds(Mutations):
    def read_end(self, group: SimGroup, through: int) -> int:
        return min(through, group.lineage_log.listed_end - 1)

    def scan_end(self, group: SimGroup, log: Log, end: int) -> int:
        return min(end, log.listed_end) if log.key in group._fence_offsets else end


def _h24(_: Patch) -> Mutations:
    return _ListedEnds()


def _h33(patch: Patch) -> Mutations:
    patch.set(Takeover, "check_committed", lambda *_: None)
    return Mutations()


def _uncommitted_release(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.releases_before_commits = True
    return mutations


def _h34(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.claims_are_retried = True
    return mutations


def _h35(patch: Patch) -> Mutations:
    def mark(table: ReaderState, marker: Any) -> None:
        if isinstance(marker, Fence):
            known = {(app, task.partition) for app, task in table.last_seq}
            kept = tuple(
                item for item in marker.incarnations if (marker.application, item[0]) in known
            )
            marker = Fence(marker.application, kept)
        before(table, marker)

    before = patch.set(ReaderState, "mark", mark)
    return Mutations()


def _h36(patch: Patch) -> Mutations:
    patch.set(core_recovery, "adopted_floor", lambda _, committed: committed)
    return Mutations()


def _h37(patch: Patch) -> Mutations:
    patch.set(SinkCommitter, "admits", lambda c, *_: c.state is CommitState.OPEN)
    return Mutations()


def _held_across(patch: Patch) -> Mutations:
    patch.set(TaskCore, "is_held_through", lambda *_: False)
    return Mutations()


def _held_passed_over(patch: Patch) -> Mutations:
    unacked_of: dict[int, int] = {}

    def may_switch(committer: SinkCommitter, tasks: Any, unacked: int) -> bool:
        unacked_of[id(committer)] = unacked
        return bool(before(committer, tasks, unacked))

    def may_commit(committer: SinkCommitter, tasks: Any) -> bool:
        is_closing = committer.state is CommitState.CLOSING
        return is_closing and not unacked_of.get(id(committer), 1) and committer.is_stable(tasks)

    def commit(committer: SinkCommitter) -> str:
        committer.state = CommitState.COMMITTING
        return CommittedPositions(committer.committed.generation, committer._closing).encode()

    before = patch.set(SinkCommitter, "may_switch", may_switch)
    patch.set(SinkCommitter, "may_commit", may_commit)
    patch.set(SinkCommitter, "commit", commit)
    return Mutations()


def _h38(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.hand_over_within_event = True
    return mutations


def _h39(patch: Patch) -> Mutations:
    patch.set(ReaderState, "_end_counts", lambda *_: True)
    return Mutations()


def _h39_forgotten(patch: Patch) -> Mutations:
    def copy(table: ReaderState) -> ReaderState:
        made: ReaderState = before(table)
        made.ends = {}
        return made

    before = patch.set(ReaderState, "copy", copy)
    return Mutations()


def _h40(patch: Patch) -> Mutations:
    patch.set(TaskCore, "on_idle_end", lambda *_: None)
    return Mutations()


def _h40_not_idle(patch: Patch) -> Mutations:
    patch.set(TaskCore, "is_idle_at", lambda *_: True)
    return Mutations()


def _older_generations(patch: Patch) -> Mutations:
    def starts(view: Any, spec: Any, base: Any) -> Any:
        offset, record = view.generation_record
        return before(
            replace(view, generation_record=(offset, replace(record, generation=0))), spec, base
        )

    before = patch.set(core_group, "scan_starts", starts)
    return Mutations()


def _parent_forgotten(patch: Patch) -> Mutations:
    patch.set(core_recovery, "inherited_floor", lambda *_: 0)
    return Mutations()


def _skipped_forgotten(patch: Patch) -> Mutations:
    patch.set(core_recovery, "skipped_floor", lambda *_: 0)
    return Mutations()


def _end_without_position(patch: Patch) -> Mutations:
    def on_marker(scan: Any, partition: Any, offset: int, marker: Any) -> None:
        if isinstance(marker, Fence):
            before(scan, partition, offset, marker)

    before = patch.set(TailScan, "on_marker", on_marker)
    return Mutations()


def _early_ends(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.ends_before_stable = True
    return mutations


def _early_switch(patch: Patch) -> Mutations:
    def may_switch(committer: SinkCommitter, tasks: Any, unacked: int) -> bool:
        del unacked
        return bool(before(committer, tasks, 0))

    before = patch.set(SinkCommitter, "may_switch", may_switch)
    return Mutations()


def _committed_forgotten(patch: Patch) -> Mutations:
    patch.set(core_recovery, "adopted_floor", lambda scan, _: scan.position)
    return Mutations()


def _first_position(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.counts_first_position = True
    return mutations


def _early_release(_: Patch) -> Mutations:
    mutations = Mutations()
    mutations.releases_before_checkpoints = True
    return mutations


def _own_starts(patch: Patch) -> Mutations:
    patch.set(core_trim, "oldest_needed", lambda _, base: base.incarnation)
    return Mutations()


def _foreign_counts(patch: Patch) -> Mutations:
    patch.set(LineageView, "is_foreign", lambda *_: False)
    return Mutations()


def _newer_counts(patch: Patch) -> Mutations:
    def is_own(scan: Any, partition: Any, identity: Any) -> bool:
        return bool(identity.incarnation >= scan.starts[partition][1])

    patch.set(TailScan, "_is_own", is_own)
    return Mutations()


def _unfenced_frames(patch: Patch) -> Mutations:
    patch.set(ReaderState, "needs_fence", lambda *_: False)
    return Mutations()


def _any_fence(patch: Patch) -> Mutations:
    def passes(table: ReaderState, application: int, task: Any, incarnation: Incarnation) -> bool:
        known = table.max_incarnation.get((application, task.partition))
        if known is not None and incarnation > known:
            table._raise(application, task.partition, incarnation)
        return bool(before(table, application, task, incarnation))

    before = patch.set(ReaderState, "_passes_fence", passes)
    return Mutations()


def _topic_of_before(patch: Patch) -> Mutations:
    patch.set(LineageView, "is_another", lambda *_: False)
    return Mutations()


class _OldEnds(Mutations):
    def first_question(self, worker: Any) -> int:
        del worker
        return 0


def _ends_of_before(_: Patch) -> Mutations:
    return _OldEnds()


MUTANTS = (
    Mutant("H1", "fence in the reader rule", _h1),
    Mutant("H2", "tails are read after the fences", _h2),
    Mutant("H3", "lineage is read to the SEAL", _h3),
    Mutant("H4", "only lineage acks are stable", _h4),
    Mutant("H5", "checkpoint after its outputs", _h5),
    Mutant("H6", "late checkpoints are void", _h6, shapes.SLOW_DATA),
    Mutant("H7", "trim after the read-back", _h7, shapes.TRIMMED),
    Mutant("H8", "incarnation in every key", _h8),
    Mutant("H9", "START chain bounds histories", _h9),
    Mutant("H10", "scan starts carry a fence", _h10, shapes.IDLE_SUCCESSORS),
    Mutant("H10b", "late hints are void", _h10_late, shapes.SLOW_ZOMBIES),
    Mutant("H11", "chunk per partition", _h11),
    Mutant("H12", "fail-stop producers", _h12, {"rate_fail": 0.05}),
    Mutant("H14", "purge minds the writers", _h14, shapes.PURGED),
    Mutant("H19", "cap of the header", _h19),
    Mutant("H21", "trim by remote checkpoints", _h21, shapes.LOST_DISKS),
    Mutant("H24", "read to an own record", _h24, {"rate_lead": 0.2}),
    Mutant("H25", "no state of an abandoned branch", _h25, shapes.BRANCHES),
    Mutant("H26", "generation in the incarnation", _h26, shapes.RECREATED),
    Mutant("H27", "commit after stable lineage", _h27),
    Mutant("H28", "position read after the fence", _h28),
    Mutant("H29", "restated lineage counts", _h29),
    Mutant("H30", "hints after stable lineage", _h30, shapes.SELDOM_FLUSHED),
    Mutant("H31", "hints on sinks are committed", _h31, shapes.SELDOM_FLUSHED),
    Mutant("H32", "sinks suppress by the commit", _h32),
    Mutant("H33", "no start without a position", _h33, {"expires": True, "is_bounded": False}),
    Mutant("H34", "nonce keys are never repeated", _h34),
    Mutant("H35", "fences of unknown writers stay", _h35),
    Mutant("H36", "adopt what identity shows", _h36),
    Mutant("H37", "held outputs go first", _h37),
    Mutant("H37b", "no switch while outputs are held", _held_across, shapes.HELD),
    Mutant("H42", "no commit past what is held", _held_passed_over, shapes.HELD),
    Mutant("H38", "whole events", _h38),
    Mutant("H39", "END only of the newest", _h39, shapes.ENDS),
    Mutant("H39b", "END in the reader state", _h39_forgotten, {"is_bounded": True}),
    Mutant("H40", "idle writers move on", _h40, {"has_finale": True}),
    Mutant("H40b", "only idle writers do", _h40_not_idle),
    Mutant("H45", "frames after their own FENCE", _any_fence, shapes.LATE_FENCES, (448,)),
    Mutant("H46", "one generation of lineage", _foreign_counts, shapes.RESET),
    Mutant("H46b", "frames after a FENCE only", _unfenced_frames, shapes.RESET),
    Mutant("H48", "successors say nothing yet", _newer_counts, shapes.STALLED),
    Mutant("H49", "STARTs of what was taken over", _own_starts, shapes.TAKEN_OVER),
    Mutant("H63", "the CONFIG is looked at again", _topic_of_before, shapes.RESET),
    Mutant("H64", "ends listed since the start", _ends_of_before, shapes.MOVED_RESET, (918,)),
    # Not in the protocol's table: found by this simulator.
    Mutant("S1", "older generations in sinks are void", _older_generations, shapes.RECREATED),
    Mutant("S2", "what a parent adopted stays", _parent_forgotten, shapes.HANDED_ON),
    Mutant("S3", "END after stable lineage", _early_ends, shapes.EXPLICIT_ENDS),
    Mutant("S4", "what hints skip is adopted", _skipped_forgotten, shapes.IMPLICIT),
    Mutant("S5", "END fixes the history", _end_without_position, shapes.IMPLICIT_ENDS),
    Mutant(
        "S9",
        "damaged checkpoints tell scan starts",
        _purge_by_files,
        shapes.PURGED_AND_DAMAGED,
        (2,),
    ),
    Mutant("S6", "next transaction after acks", _early_switch, {"switches": True}),
    Mutant("S7", "what is committed is adopted", _committed_forgotten, shapes.HEADERLESS),
    Mutant("S8", "the newest position read counts", _first_position, shapes.HEADERLESS),
    Mutant("S10", "RELEASE after the last checkpoint", _early_release, {"rate_release": 0.05}),
    Mutant("S15", "RELEASE after the commits", _uncommitted_release, {"rate_release": 0.05}),
    *TRIM_MUTANTS,
    *FILE_MUTANTS,
    *EVENT_MUTANTS,
    *CALL_MUTANTS,
    *REPLAY_MUTANTS,
    *FLUSH_MUTANTS,
    *WATERMARK_MUTANTS,
)

"""What follows from what an input or an output is. Source: protocol, sections 4 and 7."""

from __future__ import annotations

from kstash.core.kinds import InputKind, OutputKind


def test_all_outputs_but_transactional_ones_carry_lineage() -> None:
    """Nobody sees a transactional record before its commit, which waits for stable lineage."""
    carrying = [kind for kind in OutputKind if kind.carries_lineage]
    assert carrying == [OutputKind.FRAMES, OutputKind.IMMEDIATE]


def test_all_outputs_but_frames_count_when_they_are_committed() -> None:
    """Every sink is written in transactions, whoever may read it before their end."""
    committed = [kind for kind in OutputKind if kind.counts_when_committed]
    assert committed == [OutputKind.IMMEDIATE, OutputKind.TRANSACTIONAL]


def test_what_kstash_wrote_is_read_under_the_reader_rule() -> None:
    """Records of plain topics have no identity that a rule could go by."""
    assert [kind for kind in InputKind if kind.is_ruled] == [InputKind.FRAMES, InputKind.IMMEDIATE]


def test_immediate_sinks_alone_are_read_before_their_commit() -> None:
    """That is what makes them immediate; a plain topic's aborted records count for nobody."""
    assert [kind for kind in InputKind if kind.is_uncommitted] == [InputKind.IMMEDIATE]

"""Where scans may begin, and what HINTs say of it. Source: protocol, section 4; H30, H40."""

from __future__ import annotations

from kstash.core.outputs import Output
from kstash.core.records import Hint
from kstash.core.scan_starts import ScanStarts
from tests.unit.core_cases import OTHER, OUT, TASK, inc


def test_what_was_acknowledged_is_passed_in_order() -> None:
    """H30: only up to the limit; one without an offset is passed all the same."""
    starts = ScanStarts(TASK, inc(1))
    output = Output(is_sink=False, has_lineage=True)
    output.acked.extend([(2, 10), (4, None), (6, 12)])
    starts.pass_acked(OUT, output, 4)
    assert (starts.offsets(), list(output.acked)) == ({OUT: 10}, [(6, 12)])
    starts.pass_acked(OUT, output, 6)
    assert (starts.offsets(), list(output.acked)) == ({OUT: 12}, [])


def test_what_nobody_scans_has_no_start() -> None:
    """A transactional sink's records carry no lineage."""
    starts = ScanStarts(TASK, inc(1))
    output = Output(is_sink=True, has_lineage=False)
    output.acked.append((2, 10))
    starts.pass_acked(OUT, output, 2)
    assert (starts.offsets(), list(output.acked)) == ({}, [])


def test_starts_never_go_back() -> None:
    """H40: an end that was listed long ago says nothing where more is known."""
    starts = ScanStarts(TASK, inc(1))
    starts.inherit({OUT: 7})
    assert starts.has_moved
    starts.move(OUT, 5)
    starts.move(OTHER, 0)
    assert starts.offsets() == {OUT: 7, OTHER: 0}


def test_hints_are_numbered_and_say_news() -> None:
    """What the last one said is no news; each has a number of its own."""
    starts = ScanStarts(TASK, inc(1))
    assert not starts.is_news({}, None)
    assert starts.is_news({OUT: 7}, None)
    assert not starts.is_news({OUT: 7}, None)
    assert starts.hint({OUT: 7}, 3, None) == Hint(inc(1), TASK, 1, {OUT: 7}, 3, None)
    assert starts.hint({OUT: 7}, 3, None).number == 2

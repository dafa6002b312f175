"""What an output partition promises, asserted where it changes. Source: protocol, section 4."""

from __future__ import annotations

from collections import deque

import pytest

from kstash.core.ids import UNBOUNDED
from kstash.core.outputs import Held, Output

END = 9


def output() -> Output:
    """An output partition of which something is held, in flight and acknowledged."""
    held = deque([Held(7, 8, 3, 1, None), Held(9, 9, 4, 2, None)])
    in_flight, acked = deque([5, 7]), deque[tuple[int, int | None]]([(2, 20), (4, None)])
    return Output(False, True, 5, 7, held, in_flight, acked)


def test_what_is_true_passes() -> None:
    """The order held, in flight, acknowledged is that of the positions."""
    output().check(END)
    Output(False, True).check(0)


def test_no_more_lineage_was_sent_than_there_is() -> None:
    """`sent <= lineage_end`: a chunk covers what was processed, and nothing else."""
    out = output()
    out.sent = END + 1
    with pytest.raises(AssertionError, match="more lineage was sent"):
        out.check(END)


def test_what_is_held_relies_on_lineage_that_is_there() -> None:
    """The chunk of a held output can be made at any time."""
    out = output()
    out.held.append(Held(9, END + 1, 6, 1, None))
    with pytest.raises(AssertionError, match="held for lineage"):
        out.check(END)


def test_nothing_overtakes_what_is_held() -> None:
    """What was handed over lies before what is held."""
    out = output()
    out.in_flight.append(8)
    with pytest.raises(AssertionError, match="sent before what is held"):
        out.check(END)


def test_acknowledgements_rise() -> None:
    """One producer acknowledges the records of a partition in their order."""
    out = output()
    out.acked.append((1, 30))
    with pytest.raises(AssertionError, match="acknowledgements went back"):
        out.check(END)


def test_what_is_acknowledged_is_no_longer_in_flight() -> None:
    """Acknowledgements come in order; parts of one event share a position."""
    out = output()
    out.acked.append((6, 30))
    with pytest.raises(AssertionError, match="acknowledged and in flight"):
        out.check(END)


def test_what_is_open_bounds_what_is_done() -> None:
    """Held and in flight count everywhere, acknowledged only on sinks, which wait for a commit."""
    for is_sink, done in ((False, UNBOUNDED - 1), (True, 2)):
        output = Output(is_sink, has_lineage=True)
        assert output.done_through == UNBOUNDED - 1
        output.acked.append((3, 1))
        assert output.done_through == done
        output.in_flight.append(5)
        assert output.done_through == min(done, 4)
        output.held.append(Held(5, 9, 1, 1, None))
        assert output.done_through == min(done, 4)
        assert (output.holds(4), output.holds(5)) == (False, True)

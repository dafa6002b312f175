"""The checkers themselves: each violation they are there for is seen."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import pytest

from tests.chaos.checkers import (
    Output,
    ReaderRule,
    check_chains,
    check_counts,
    check_same,
    next_hash,
)

APPLICATION = 77


def identified(sequence: int, *, claim: int = 1, generation: int = 5, partition: int = 0) -> Output:
    """A record with an identity header."""
    fields = (1, APPLICATION, 0, partition, generation, claim, 99, 1, sequence)
    header = struct.pack(">BQHIQQQIQ", *fields)
    return Output(0, 0, b"k", b"v", (("user", b"x"), ("__kstash.s", header)))


def _accepted(*outputs: Output) -> list[bool]:
    rule = ReaderRule()
    return [rule.accepts(output) for output in outputs]


def test_rule_drops_repetitions() -> None:
    """A sequence number that was accepted is not accepted again."""
    assert _accepted(
        identified(1), identified(2), identified(2, claim=3), identified(3, claim=3)
    ) == [True, True, False, True]


def test_rule_drops_zombies() -> None:
    """A record of an older incarnation after one of a newer is dropped, even with a new number."""
    assert _accepted(identified(1), identified(2, claim=9), identified(3)) == [True, True, False]


def test_rule_starts_over_with_a_new_lineage_topic() -> None:
    """A higher generation counts from 1 again; a CLAIM offset says nothing across generations."""
    newer = [identified(number, generation=6, claim=0) for number in (1, 2)]
    assert _accepted(identified(1), *newer) == [True, True, True]


def test_rule_sees_a_lost_record() -> None:
    """A jump in the sequence is an error, not an output."""
    with pytest.raises(AssertionError, match="jumps from sequence 1 to 3"):
        _accepted(identified(1), identified(3))


def test_rule_wants_an_identity() -> None:
    """A record without identity header is an error."""
    with pytest.raises(AssertionError, match="0 identity headers"):
        _accepted(Output(0, 0, b"k", b"v", ()))


def _numbers(*numbers: int, key: bytes = b"w") -> dict[int, list[Output]]:
    return {0: [Output(0, at, key, b"%d" % n, ()) for at, n in enumerate(numbers)]}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1, 2, 2), "output 3 says 2"),
        ((1, 3, 2), "output 2 says 3"),
        ((1, 2), "2 of 3 outputs"),
        ((1, 2, 3, 4), "4 of 3 outputs"),
        ((), "no output"),
    ],
)
def test_counts_must_be_exactly_one_to_n(numbers: Sequence[int], message: str) -> None:
    """Doubled, misplaced, lost and surplus outputs are each found."""
    check_counts(_numbers(1, 2, 3), {"w": 3})
    with pytest.raises(AssertionError, match=message):
        check_counts(_numbers(*numbers), {"w": 3})


def _chain(*values: str) -> dict[int, list[Output]]:
    outputs = []
    chain = ""
    for index, value in enumerate(values):
        chain = next_hash(chain, value)
        state = {"count": index + 1, "hash": chain, "last": value}
        outputs.append(Output(0, index, b"k", json.dumps(state).encode(), ()))
    return {0: outputs}


INPUTS = ({"k": ["a1", "a2"]}, {"k": ["b1", "b2"]})


def test_any_interleaving_is_a_chain() -> None:
    """Each topic's order must be kept; how the topics are mixed is free."""
    check_chains(_chain("a1", "b1", "b2", "a2"), INPUTS)
    check_chains(_chain("b1", "b2", "a1", "a2"), INPUTS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("a2", "a1", "b1", "b2"), "out of turn"),
        (("a1", "a1", "b1", "b2"), "out of turn"),
        (("a1", "a2", "b1"), "made no output"),
    ],
)
def test_order_within_a_topic_is_checked(values: Sequence[str], message: str) -> None:
    """A topic's values out of order, repeated or missing are found."""
    with pytest.raises(AssertionError, match=message):
        check_chains(_chain(*values), INPUTS)


def test_divergence_is_seen_though_the_counts_are_right() -> None:
    """Old outputs with a state that took another order: counts 1 to 4, but no chain."""
    seen, other = _chain("a1", "b1", "a2", "b2"), _chain("b1", "a1", "a2", "b2")
    mixed = {0: [*seen[0][:2], *other[0][2:]]}
    with pytest.raises(AssertionError, match="output 3 of 4 does not follow"):
        check_chains(mixed, INPUTS)


def test_readers_must_agree() -> None:
    """Two readers that saw different outputs of a key are a violation."""
    check_same(_numbers(1, 2), _numbers(1, 2))
    with pytest.raises(AssertionError, match="differ from output 2"):
        check_same(_numbers(1, 2), _numbers(1))


def test_an_input_that_is_twice_in_its_topic_counts_twice() -> None:
    """What a producer wrote again is input like any other: it must be consumed, in its place."""
    inputs = ({"k": ["a1", "a2", "a1"]}, {"k": ["b1"]})
    check_chains(_chain("a1", "a2", "b1", "a1"), inputs)
    with pytest.raises(AssertionError, match="made no output"):
        check_chains(_chain("a1", "a2", "b1"), inputs)

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
    check_gathered,
    check_in_order,
    check_no_headers,
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


def _gathered(*said: tuple[str, str, int, str]) -> dict[int, list[Output]]:
    """Outputs of (key, item, now, id): of timers that were set 200 ms before."""
    outputs = []
    for offset, (key, item, now_ms, name) in enumerate(said):
        due_ms = now_ms // 10 * 10
        value = {"item": item, "set_ms": due_ms - 200, "due_ms": due_ms, "now_ms": now_ms}
        outputs.append(
            Output(0, offset, key.encode(), json.dumps({**value, "id": name}).encode(), ())
        )
    return {0: outputs}


RIGHT = (("k", "a", 303, "x"), ("k", "b", 303, "x"), ("j", "c", 303, "y"), ("k", "d", 520, "z"))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (RIGHT[1:], "differ from number 1"),
        ((*RIGHT, RIGHT[-1]), "differ from number 4"),
        ((RIGHT[1], RIGHT[0], *RIGHT[2:]), "differ from number 1"),
        ((*RIGHT[:3], ("k", "d", 320, "x")), "'now_ms': 320"),
        ((*RIGHT[:3], ("k", "d", 302, "z")), "303 comes before 302"),
        ((*RIGHT[:3], ("k", "d", 520, "x")), "'now_ms': 520"),
        ((*RIGHT[:2], RIGHT[3]), "keys differ"),
    ],
)
def test_what_was_gathered_leaves_once_by_one_history(
    said: Sequence[tuple[str, str, int, str]], message: str
) -> None:
    """Lost, doubled and misplaced values, clocks that go back, and ids of two are each found."""
    check_gathered(_gathered(*RIGHT), {"k": ["a", "b", "d"], "j": ["c"]})
    with pytest.raises(AssertionError, match=message):
        check_gathered(_gathered(*said), {"k": ["a", "b", "d"], "j": ["c"]})


def test_order_of_all_outputs_is_checked() -> None:
    """Of a partition, keys included."""
    expected = [(b"w", b"1"), (b"w", b"2")]
    check_in_order(_numbers(1, 2), {0: expected}, "counts")
    with pytest.raises(AssertionError, match="counts, partition 0: 2 outputs, 2 expected; number"):
        check_in_order(_numbers(2, 1), {0: expected}, "counts")


def test_transactional_records_have_no_header() -> None:
    """None of any name."""
    check_no_headers(_numbers(1))
    with pytest.raises(AssertionError, match="carry"):
        check_no_headers({0: [identified(1)]})

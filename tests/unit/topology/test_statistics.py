"""Running statistics: sound where sums of squares are not, and the same merged or one by one."""

from __future__ import annotations

import statistics
from math import inf, nan, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstash import Statistics, statistics_json
from kstash.serdes import json

numbers = st.one_of(
    st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False)
)


def of(values: list[float]) -> Statistics:
    """The statistics of values that come one by one."""
    made = Statistics()
    for value in values:
        made = made.add(value)
    return made


@given(st.lists(numbers, min_size=1, max_size=20))
def test_they_are_those_of_the_standard_library(values: list[float]) -> None:
    """Which computes with fractions."""
    made, scale = of(values), max(map(abs, values)) + 1
    assert made.count == len(values)
    assert made.mean == pytest.approx(statistics.fmean(values), abs=1e-12 * scale)
    assert (made.min, made.max) == (min(values), max(values))
    expected = statistics.variance(values) if len(values) > 1 else 0.0
    assert made.variance == pytest.approx(expected, abs=1e-12 * scale**2)
    assert made.deviation == sqrt(made.variance)


def test_numbers_far_from_zero_lose_nothing() -> None:
    """Squares of such numbers differ by less than a float can tell."""
    values = [1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16]
    assert of(values).variance == 30.0
    naive = (sum(v * v for v in values) - sum(values) ** 2 / 4) / 3
    assert abs(naive - 30.0) > 1


@given(st.lists(numbers, max_size=12), st.lists(numbers, max_size=12))
def test_merged_they_are_those_of_all(one: list[float], other: list[float]) -> None:
    """Also with those of no number, which change nothing."""
    merged, whole = of(one).merge(of(other)), of(one + other)
    scale = max(map(abs, [1, *one, *other]))
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.mean == pytest.approx(whole.mean, abs=1e-12 * scale)
    assert merged.squares == pytest.approx(whole.squares, abs=1e-11 * scale**2)
    assert of(one).merge(Statistics()) == of(one) == Statistics().merge(of(one))


@given(st.lists(numbers, max_size=9))
def test_they_come_back_from_json(values: list[float]) -> None:
    """To the last bit, and as the same bytes again."""
    made = of(values)
    data = statistics_json.serialize(made)
    assert statistics_json.deserialize(data) == made
    assert statistics_json.serialize(statistics_json.deserialize(data)) == data
    assert json.deserialize(data)["variance"] == made.variance


@pytest.mark.parametrize("wrong", [nan, inf, -inf, 10**400])
def test_what_is_not_finite_is_refused(wrong: Any) -> None:
    """It would be in the mean for ever."""
    for before in (Statistics(), of([1, 2])):
        with pytest.raises((ValueError, OverflowError)):
            before.add(wrong)


@pytest.mark.parametrize("wrong", [None, "5", [1], 1j])
def test_what_is_no_number_is_refused(wrong: Any) -> None:
    """A text of digits too."""
    with pytest.raises(TypeError, match="statistics take int and float"):
        Statistics().add(wrong)


def test_numbers_too_far_apart_are_refused() -> None:
    """Rather than to become infinite."""
    with pytest.raises(ValueError, match="no float holds"):
        of([1e200, -1e200])
    with pytest.raises(ValueError, match="no float holds"):
        of([1e200]).merge(of([-1e200]))


def test_what_the_serde_refuses() -> None:
    """Other types; and what is not finite, one by one or as a column."""
    with pytest.raises(TypeError, match="takes Statistics, not dict"):
        statistics_json.serialize({})  # type: ignore[arg-type]
    check = statistics_json.check_column
    assert check is not None
    check([of([1, 2])])
    with pytest.raises(ValueError, match="NaN"):
        check([of([1]), Statistics(1, nan)])

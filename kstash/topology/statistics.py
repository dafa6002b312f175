"""Running statistics: how many numbers there were, their mean and variance, the least and greatest.

By Welford's method: the mean and the sum of squared distances from it are made anew of each number.
So numbers far from 0 lose nothing, as they do where squares are added up and taken from each other.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import isfinite, sqrt
from typing import Any

from kstash.serdes import Serde, json


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of numbers that came one after the other; without any all of it is 0.

    Attributes:
        count: how many there were.
        mean: of them.
        squares: the sum of their squared distances from the mean.
        min: the least of them.
        max: the greatest of them.
    """

    count: int = 0
    mean: float = 0.0
    _: KW_ONLY
    squares: float = 0.0
    min: float = 0.0
    max: float = 0.0

    @property
    def variance(self) -> float:
        """Of a sample: `squares / (count - 1)`; 0 of fewer than two numbers."""
        return self.squares / (self.count - 1) if self.count > 1 else 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation: the root of the variance."""
        return sqrt(self.variance)

    def add(self, number: float) -> Statistics:
        """The statistics with one more number.

        Raises:
            TypeError: it is no integer and no float.
            ValueError: it is no finite number, or too far from the others for a float.
        """
        if not isinstance(number, int | float):
            raise TypeError(f"statistics take int and float, not {type(number).__name__}")
        value = float(number)
        count = self.count + 1
        step = value - self.mean
        mean = self.mean + step / count
        squares = self.squares + step * (value - mean)
        if not isfinite(squares):
            raise ValueError(f"no float holds the squared distance of {number} from {self.mean}")
        if count == 1:
            return Statistics(1, mean, squares=squares, min=value, max=value)
        return Statistics(
            count, mean, squares=squares, min=min(self.min, value), max=max(self.max, value)
        )

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of the numbers of both.

        Raises:
            ValueError: they are too far from each other for a float.
        """
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        step, share = other.mean - self.mean, other.count / count
        squares = self.squares + other.squares + step * step * (self.count * share)
        if not isfinite(squares):
            raise ValueError(f"no float holds the squared distance of {other.mean} and {self.mean}")
        return Statistics(
            count,
            self.mean + step * share,
            squares=squares,
            min=min(self.min, other.min),
            max=max(self.max, other.max),
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it with the variance, as it is written."""
        return {
            "count": self.count,
            "mean": self.mean,
            "variance": self.variance,
            "min": self.min,
            "max": self.max,
            "squares": self.squares,
        }


def statistics_of(written: dict[str, Any]) -> Statistics:
    """What was written; the variance follows from the rest."""
    return Statistics(
        written["count"],
        written["mean"],
        squares=written["squares"],
        min=written["min"],
        max=written["max"],
    )


def _encode(value: Statistics) -> bytes:
    if not isinstance(value, Statistics):
        raise TypeError(f"statistics_json takes Statistics, not {type(value).__name__}")
    return json.serialize(value.as_dict())


statistics_json: Serde[Statistics] = Serde(
    "statistics_json",
    _encode,
    lambda data: statistics_of(json.deserialize(data)),
    exact_types=frozenset({Statistics}),
    is_steady=True,
    check_column=lambda column: list(map(_check, column)),
)
"""Statistics as a JSON object of `count`, `mean`, `variance`, `min`, `max` and `squares`."""


def _check(value: Statistics) -> None:
    """Refuse at once what `_encode` would, without making JSON of what `add` and `merge` made."""
    if not all(map(isfinite, (value.mean, value.squares, value.min, value.max))):
        _encode(value)

"""What goes through each topic, a second, over the last few."""

from __future__ import annotations

import pytest

from kstash.runtime.worker.rates import WINDOW_SAMPLES
from kstash.testing import TestDriver
from tests.unit.runtime.worker.test_lags import counted, status


def rates(driver: TestDriver) -> list[float]:
    """Of the topics in the order of the flow."""
    return [topic.records_per_second for topic in status(driver).topics]


def test_rates_are_of_what_is_read_and_of_what_leaves() -> None:
    """Two records each second come in, cross the wide edge and go out; then none."""
    with TestDriver(counted("rates")) as driver:
        for _ in range(3 * WINDOW_SAMPLES):
            driver.send("in", "a")
            driver.send("in", "b")
            driver.advance(1)
        assert rates(driver) == pytest.approx([2, 2, 2], abs=0.5)
        driver.advance(2 * WINDOW_SAMPLES)
        assert rates(driver) == [0, 0, 0]


def test_a_new_incarnation_counts_from_zero() -> None:
    """What the one before had counted is not taken off."""
    with TestDriver(counted("rates")) as driver:
        for _ in range(50):
            driver.send("in", "a")
        driver.advance(2)
        driver.rig.worker._groups.restart(0, RuntimeError("a test"))
        driver.advance(20)
        driver.send("in", "a")
        driver.advance(1)
        assert min(rates(driver)) >= 0
        assert rates(driver)[0] == pytest.approx(1 / WINDOW_SAMPLES, abs=0.1)

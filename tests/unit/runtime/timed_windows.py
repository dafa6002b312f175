"""What tests of windows that go by the clock send, read and run."""

from __future__ import annotations

from datetime import timedelta

from kstash.testing import TestDriver


def seconds(count: float) -> timedelta:
    """So many."""
    return timedelta(seconds=count)


def at(driver: TestDriver, *times: float, key: str = "k", value: str = "v") -> None:
    """Records of these seconds."""
    for time in times:
        driver.send("in", value, key=key, timestamp_ms=round(time * 1000))


def told(driver: TestDriver) -> list[tuple[str, int, int]]:
    """(Key, start in seconds, count) of each result that was not read yet."""
    return [(out.key.key, out.key.start_ms // 1000, out.value) for out in driver.read("out")]


def run_bounded(driver: TestDriver) -> None:
    """Stop, and run up to the ends of the inputs, a minute long."""
    driver.close()
    driver.rig.start(until="end")
    driver.clock.advance(60.0)
    driver.rig.run_until_done()
    driver.close()

"""The keyword count, driven without Kafka."""

from __future__ import annotations

import pytest

from kstash.apps.keyword_count import build
from kstash.errors import OperatorError, SerdeError
from kstash.testing import TestDriver


def _query(keyword: str, user_id: int = 7) -> dict[str, object]:
    return {"user_id": user_id, "keyword": keyword}


def _outputs(driver: TestDriver) -> list[tuple[str, int]]:
    return [(record.key, record.value) for record in driver.read("keyword-counts")]


def test_the_keyword_is_counted_over_both_streams() -> None:
    """Each query of the keyword, in either stream, gives one output with the new count."""
    with TestDriver(build()) as driver:
        driver.send("queries-1", _query("UCB"))
        driver.send("queries-2", _query("UCB"))
        driver.send("queries-2", _query("weather"))
        driver.send("queries-1", _query("UCB"))
        assert _outputs(driver) == [("UCB", 1), ("UCB", 2), ("UCB", 3)]


@pytest.mark.parametrize("other", ["ucb", "Ucb", "UCB ", "UC", ""])
def test_the_case_counts_as_given(other: str) -> None:
    """What is not exactly the keyword is not counted."""
    with TestDriver(build()) as driver:
        driver.send("queries-1", _query(other))
        assert _outputs(driver) == []


def test_another_keyword_can_be_counted() -> None:
    """The keyword is a parameter."""
    with TestDriver(build(keyword="weather")) as driver:
        driver.send("queries-1", _query("UCB"))
        driver.send("queries-2", _query("weather"))
        assert _outputs(driver) == [("weather", 1)]


def test_crashes_do_not_show() -> None:
    """A crash after each query, with lineage not yet stable: still exactly 1, 2, 3 … n."""
    with TestDriver(build(), partitions=2, lineage_delay_s=1.0) as driver:
        for index in range(12):
            topic = f"queries-{index % 2 + 1}"
            driver.send(topic, _query("UCB" if index % 3 else "other"), partition=index // 2 % 2)
            driver.crash()
            driver.recover()
        assert [count for _, count in _outputs(driver)] == list(range(1, 9))
        assert driver.state("queries") == {"UCB": 8}


def test_a_query_without_keyword_stops_the_program() -> None:
    """A malformed query is not skipped silently: the error names the topic and the offset."""
    with TestDriver(build()) as driver:
        driver.send("queries-1", _query("UCB"))
        with pytest.raises((OperatorError, SerdeError)) as caught:
            driver.send("queries-1", {"user_id": 7})
        assert (caught.value.topic, caught.value.offset) == ("queries-1", 1)

"""The log count, driven without Kafka."""

from __future__ import annotations

import pytest

from kstash.apps.log_count import build
from kstash.testing import TestDriver

XSS = "GET /?q=%3C%73%63%72%69%70%74%3Ealert(1) HTTP/1.1"
SQLI = "POST /students name=bobby_tables HTTP/1.1"
HARMLESS = "GET /index.html HTTP/1.1"


def _counts(driver: TestDriver) -> list[int]:
    records = driver.read("attack-counts")
    assert {record.key for record in records} <= {"attacks"}
    return [record.value for record in records]


def test_both_kinds_of_attack_are_counted_together() -> None:
    """Cross-site scripting and SQL injection go into one count; other lines do not."""
    with TestDriver(build()) as driver:
        for line in (HARMLESS, XSS, HARMLESS, SQLI, SQLI):
            driver.send("server-log", line)
        assert _counts(driver) == [1, 2, 3]


def test_a_line_that_is_both_counts_twice() -> None:
    """The count is over the union of the two filters."""
    with TestDriver(build()) as driver:
        driver.send("server-log", f"{XSS} {SQLI}")
        assert _counts(driver) == [1, 2]


@pytest.mark.parametrize("line", ["<script>", "%3c%73%63%72%69%70%74%3e", "Bobby_Tables", ""])
def test_only_the_exact_patterns_match(line: str) -> None:
    """Decoded or in another case, the patterns are other patterns."""
    with TestDriver(build()) as driver:
        driver.send("server-log", line)
        assert _counts(driver) == []


def test_all_partitions_meet_in_one_count() -> None:
    """Lines of all partitions are counted by one task, also over crashes."""
    with TestDriver(build(), partitions=3, lineage_delay_s=1.0) as driver:
        for index in range(9):
            driver.send("server-log", SQLI, partition=index % 3)
            driver.crash()
            driver.recover()
        assert _counts(driver) == list(range(1, 10))
        assert driver.state("attacks") == {"attacks": 9}

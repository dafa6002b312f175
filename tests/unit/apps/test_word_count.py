"""The word count, driven without Kafka."""

from __future__ import annotations

from collections import Counter

from kstash.apps.word_count import build
from kstash.testing import TestDriver

TEXT = ("to be or not to be", "", "  that is   the question ", "to BE", "naïve café naïve")


def _numbers(driver: TestDriver) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for record in driver.read("word-counts"):
        numbers.setdefault(record.key, []).append(record.value)
    return numbers


def _expected() -> dict[str, list[int]]:
    counts = Counter(word for line in TEXT for word in line.split())
    return {word: list(range(1, count + 1)) for word, count in counts.items()}


def test_each_word_is_counted_up_from_one() -> None:
    """One output for each word read: 1, 2, 3 … n; case matters, white space does not."""
    with TestDriver(build(), partitions=2) as driver:
        for index, line in enumerate(TEXT):
            driver.send("sentences", line, partition=index % 2)
        assert _numbers(driver) == _expected()


def test_bytes_are_text_and_decimals() -> None:
    """Other programs read the word as UTF-8 and the count as ASCII decimals."""
    with TestDriver(build()) as driver:
        driver.send("sentences", "café " * 12)
        log = driver.kafka.log(("word-counts", 0))
        records, _ = log.read(0, log.end_offset, is_committed=False)
        assert (records[-1].key(), records[-1].value()) == ("café".encode(), b"12")


def test_a_crash_costs_nothing_and_repeats_nothing() -> None:
    """Crashes between sentences, with lineage not yet stable, leave the outputs as they were."""
    with TestDriver(build(), partitions=2, lineage_delay_s=1.0) as driver:
        for index, line in enumerate(TEXT):
            driver.send("sentences", line, partition=index % 2)
            driver.crash()
            driver.recover()
        assert _numbers(driver) == _expected()
        assert driver.state("words")["to"] == 3


def test_topics_and_id_are_parameters() -> None:
    """The caller names the topics and the application."""
    app = build("other", input_topic="lines", output_topic="totals")
    assert app.application_id == "other"
    with TestDriver(app) as driver:
        driver.send("lines", "a a")
        assert [(record.key, record.value) for record in driver.read("totals")] == [
            ("a", 1),
            ("a", 2),
        ]

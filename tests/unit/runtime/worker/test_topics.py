"""A topic that is deleted and made anew under a running worker is told within seconds (H53)."""

from __future__ import annotations

import pytest

import kstash
from kstash import App
from kstash.errors import TopicMadeAnewError
from kstash.runtime.worker.topics import LOOK_INTERVAL_S
from kstash.testing import TestDriver

INTERNAL = "shop-words-repartition"


def words() -> App:
    """Counts words; sinks of both deliveries."""
    app = App("shop")
    lines = app.stream("lines", value=kstash.text)
    counts = lines.key_by(str, key=kstash.text).count("words")
    counts.to("counts", value=kstash.int_text)
    counts.to("plain", value=kstash.int_text, delivery="transactional")
    return app


def make_anew(driver: TestDriver, topic: str) -> None:
    """Delete a topic, and make another one of its name that holds as many offsets and more."""
    end = driver.kafka.log((topic, 0)).end_offset
    records = driver.kafka.read(topic, is_committed=False)
    driver.kafka.delete_topic(topic)
    driver.kafka.create_topic(topic, 1)
    while driver.kafka.log((topic, 0)).end_offset < 3 * end + 3:
        for record in records:
            driver.kafka.append(topic, record.value(), key=record.key(), headers=record.headers())


@pytest.mark.parametrize(
    ("topic", "is_written"), [("lines", False), (INTERNAL, False), ("counts", True)]
)
def test_h53_a_topic_made_anew_ends_the_worker(topic: str, is_written: bool) -> None:
    """Offsets that exist there too are of other records: the error names it and what to do."""
    with TestDriver(words()) as driver:
        for _ in range(3):
            driver.send("lines", "a")
        make_anew(driver, topic)
        with pytest.raises(TopicMadeAnewError, match=f"'{topic}'") as caught:
            driver.advance(LOOK_INTERVAL_S + 1)
        assert caught.value.topics == (topic,)
        assert caught.value.is_written == is_written
        assert ("another application_id" in str(caught.value)) != is_written
        if is_written:
            driver.recover()
            assert driver.state("words") == {"a": 3}
        else:
            with pytest.raises(TopicMadeAnewError, match=f"'{topic}'"):
                driver.recover()


def test_a_transactional_sink_may_be_made_anew() -> None:
    """Nobody needs what it held."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        driver.advance(1)
        driver.kafka.delete_topic("plain")
        driver.kafka.create_topic("plain", 1)
        driver.advance(LOOK_INTERVAL_S + 1)
        driver.send("lines", "a")
        driver.advance(1)
        assert [record.value() for record in driver.kafka.read("plain")] == [b"2"]


def test_topics_that_stay_are_no_matter() -> None:
    """Also while the cluster does not answer, and where it tells no ids."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        driver.advance(2 * LOOK_INTERVAL_S)
        driver.kafka.is_away = True
        driver.advance(LOOK_INTERVAL_S)
        driver.kafka.is_away = False
        driver.kafka._topic_ids["lines"] = ""
        driver.advance(LOOK_INTERVAL_S + 1)
        driver.send("lines", "a")
        assert driver.state("words") == {"a": 2}


@pytest.mark.parametrize("fails", [False, True])
def test_no_look_is_begun_while_another_is_out(fails: bool) -> None:
    """Looks that take long would wait in front of each other, and of other jobs of their lane."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        look = driver.rig.worker._topics._describe
        driver.background.held_lanes.add("ask")
        driver.advance(5 * LOOK_INTERVAL_S)
        assert sum(job.work == look for job in driver.background.jobs) == 1
        driver.kafka.is_away = fails
        driver.background.held_lanes.clear()
        driver.advance(1)
        driver.kafka.is_away = False
        make_anew(driver, "lines")
        with pytest.raises(TopicMadeAnewError, match="'lines'"):
            driver.advance(LOOK_INTERVAL_S + 1)

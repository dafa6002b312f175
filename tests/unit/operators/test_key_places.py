"""State over several topics: a key whose records lie in two partitions is refused (H56)."""

from __future__ import annotations

from typing import Any

import pytest

import kstash
from kstash import App
from kstash.core.partitioner import Partitioner
from kstash.errors import MisplacedKeyError
from kstash.operators.homes import Homes
from kstash.testing import TestDriver

TOPICS = ("left", "right")
KEYS = ["a", "b", "c", "d"]
WHERE = Partitioner(2)


def elsewhere(key: str) -> int:
    """The partition in which Kafka's default partitioner does not put a key."""
    return 1 - WHERE[key.encode()]


def merged(**settings: Any) -> App:
    """Counts straight over two topics."""
    app = App("app", **settings)
    stream = app.stream(*TOPICS, key=kstash.text, value=kstash.text)
    stream.filter(lambda value: value != "-").count("n").to("out")
    return app


@pytest.mark.parametrize("topic", TOPICS)
def test_h56_a_key_in_another_partition_is_refused(topic: str) -> None:
    """H56: it would have two states. The error says where it is, where it belongs, and the fix."""
    with TestDriver(merged(), partitions=2) as driver:
        for name in TOPICS:
            for key in KEYS:
                driver.send(name, "v", key)
        driver.send(topic, "-", "a", partition=elsewhere("a"))  # no state is asked of it
        with pytest.raises(MisplacedKeyError, match=r"\.repartition\(NAME\).*murmur2") as caught:
            driver.send(topic, "v", "b", partition=elsewhere("b"))
        error = caught.value
        assert (error.topic, error.partition) == (topic, elsewhere("b"))
        assert error.offset == driver.kafka.log((topic, elsewhere("b"))).end_offset - 1
        assert (error.key, error.needed) == (b"b", WHERE[b"b"])
        with pytest.raises(MisplacedKeyError):
            driver.recover()


def test_what_was_counted_before_the_check_replays() -> None:
    """A replay makes again what was made, by whatever version, so that a drain is possible."""
    with TestDriver(merged(), partitions=2) as driver:
        for group in driver.rig.worker.groups.values():
            for task in group.tasks.values():
                task.program._running._homes = Homes({})
        driver.send("left", "v", "a", partition=0)
        driver.send("right", "v", "a", partition=1)
        driver.crash()
        driver.recover()
        assert [record.value for record in driver.read("out")] == [1, 1]


def test_one_topic_may_be_spread_in_any_way() -> None:
    """State over one topic is one for each key, wherever its producer puts them."""
    app = App("app")
    app.stream("left", key=kstash.text, value=kstash.text).count("n").to("out")
    with TestDriver(app, partitions=2) as driver:
        for key in KEYS:
            driver.send("left", "v", key, partition=elsewhere(key))
        assert driver.state("n") == dict.fromkeys(KEYS, 1)


def test_topics_that_share_no_state_may_be_spread_in_any_way() -> None:
    """A merge without state, and state of one topic before it."""
    app = App("app")
    left, right = (app.stream(t, key=kstash.text, value=kstash.text) for t in TOPICS)
    left.count("n").map_values(str).merge(right).to("out", value=kstash.text)
    with TestDriver(app, partitions=2) as driver:
        for topic in TOPICS:
            for key in KEYS:
                driver.send(topic, "v", key, partition=elsewhere(key))
        assert driver.state("n") == dict.fromkeys(KEYS, 1)


def test_records_after_a_repartition_are_where_they_belong() -> None:
    """The fix: state after an internal topic, beside a topic that is spread as it is."""
    app = App("app")
    left, right = (app.stream(t, key=kstash.text, value=kstash.text) for t in TOPICS)
    left.repartition("left").merge(right).count("n").to("out")
    with TestDriver(app, partitions=2) as driver:
        for key in KEYS:
            driver.send("left", "v", key, partition=elsewhere(key))
            driver.send("right", "v", key)
        assert driver.state("n") == dict.fromkeys(KEYS, 2)
        with pytest.raises(MisplacedKeyError):
            driver.send("right", "v", "a", partition=elsewhere("a"))


def test_one_partition_is_always_right() -> None:
    """With one partition there is no other place."""
    with TestDriver(merged()) as driver:
        for topic in TOPICS:
            driver.send(topic, "v", "a")
        assert driver.state("n") == {"a": 2}


def test_keys_in_two_forms_are_one_key() -> None:
    """A producer partitions the bytes that it writes; the state goes by the canonical form."""
    app = App("app")
    app.stream(*TOPICS, key=kstash.json, value=kstash.text).count("n").to("out")
    where = Partitioner(8)
    blank = next(
        f'{{"a": {n}}}'.encode()
        for n in range(100)
        if where[f'{{"a": {n}}}'.encode()] != where[f'{{"a":{n}}}'.encode()]
    )
    with TestDriver(app, partitions=8) as driver:
        driver.kafka.append("left", b"v", key=blank, partition=where[blank])
        with pytest.raises(MisplacedKeyError):
            driver.advance(1)

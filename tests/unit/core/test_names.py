"""Names of two applications never meet."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash import App, ConfigError
from kstash.core import names
from kstash.core.wire import Fence, application_tag, encode_marker
from kstash.errors import TopicSharedError, TopologyError
from kstash.testing import TestDriver

NAMES = st.text("ab-_.", min_size=1, max_size=6)
IDS = NAMES.filter(lambda name: names.refusal(name) is None)


def topics(application_id: str, edge: str) -> list[str]:
    """All topics of an application with one edge."""
    return [
        names.lineage_topic(application_id),
        names.reset_journal(application_id),
        names.checkpoints_topic(application_id),
        names.repartition_topic(application_id, edge),
    ]


@given(one=IDS, edge=NAMES, other=IDS, other_edge=NAMES)
def test_two_applications_share_no_topic(one: str, edge: str, other: str, other_edge: str) -> None:
    """Whatever hyphens ids and edges have; and each topic begins with the id and a hyphen."""
    if one != other:
        assert not set(topics(one, edge)) & set(topics(other, other_edge))
    internal = names.repartition_topic(one, edge)
    assert names.is_internal_of(one, internal)
    assert names.is_internal_of(other, internal) == (one == other)
    assert one in names.may_be_internal_of(internal)
    assert all(topic.startswith(f"{one}-") for topic in topics(one, edge))


@given(one=IDS, group=st.integers(0, 20), other=IDS, other_group=st.integers(0, 20))
def test_two_applications_share_no_transactional_id(
    one: str, group: int, other: str, other_group: int
) -> None:
    """Nor do two task groups, or the two producers of one."""
    ids = {names.transactional_id(one, group, slot) for slot in (0, 1)}
    assert len(ids) == 2
    if (one, group) != (other, other_group):
        assert not ids & {names.transactional_id(other, other_group, slot) for slot in (0, 1)}


@pytest.mark.parametrize("application_id", ["x-positions", "worker-3", "x-positions-positions"])
def test_an_id_that_is_a_name_of_another_application_is_refused(application_id: str) -> None:
    """The group with another one's committed positions, a folder of another one's workers."""
    with pytest.raises(ConfigError, match=f"'{application_id}' is not allowed: "):
        App(application_id)


def counter(application_id: str, store: str, **settings: Any) -> App:
    """Count words."""
    app = App(application_id, **settings)
    keyed = app.stream("lines", value=kstash.text).key_by(lambda word: word, key=kstash.text)
    keyed.count(store).to("counts")
    return app


def test_names_that_would_join_to_one_stay_apart() -> None:
    """`shop` with `orders-words` and `shop-orders` with `words` had one topic between them."""
    assert counter("shop", "orders-words").topology().internal_topics == (
        "shop-orders_words-repartition",
    )
    assert counter("shop-orders", "words").topology().internal_topics == (
        "shop-orders-words-repartition",
    )


def test_edges_that_differ_in_hyphens_alone_are_refused() -> None:
    """They would share a topic within one application."""
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.repartition("by-word").repartition("by_word").to("out")
    with pytest.raises(TopologyError, match="second wide edge named 'by_word'"):
        app.topology()
    # Named after their stores they are numbered instead.
    app = App("app")
    texts = app.stream("in", value=kstash.text)
    for store in ("a-b", "a_b"):
        texts.key_by(len, key=kstash.int_text).count(store)
    assert app.topology().internal_topics == ("app-a_b-repartition", "app-a_b_2-repartition")


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_records_of_another_application_name_it(guarantee: str) -> None:
    """Frames of an older version's `shop` in the topic of `shop-orders`: none is counted."""
    topic = "shop-orders-words-repartition"
    with TestDriver(counter("shop", "orders_words", guarantee=guarantee)) as other:
        other.send("lines", "a")
        frames = other.kafka.read("shop-orders_words-repartition", 0)
    assert frames
    with TestDriver(counter("shop-orders", "words", guarantee=guarantee)) as driver:
        driver.send("lines", "b")
        for frame in frames:
            driver.kafka.append(topic, frame.value(), headers=list(frame.headers() or ()))
        with pytest.raises(TopicSharedError, match="leave the topic alone") as caught:
            driver.send("lines", "b")
        assert caught.value.other == "shop"
        assert (caught.value.topic, caught.value.partition) == (topic, 0)


def test_a_first_start_beside_another_application_is_refused() -> None:
    """Before it claims or fences anything, and without advice to delete the topic."""
    driver = TestDriver(counter("shop-orders", "other"))
    driver.drain()
    topic = "shop-orders-words-repartition"
    driver.kafka.create_topic(topic, 1)
    fence = encode_marker(Fence(application_tag("shop"), ()))
    driver.kafka.append(topic, None, headers=[("__kstash.m", fence)])
    end = driver.kafka.log((topic, 0)).end_offset
    with pytest.raises(TopicSharedError, match="application 'shop'") as caught:
        driver.recover(counter("shop-orders", "words", drop_stores="other"))
    assert "delete" not in str(caught.value)
    driver.crash()
    assert driver.kafka.log((topic, 0)).end_offset == end


@given(instance=st.text("ab-0123456789", min_size=1, max_size=12))
def test_the_instance_of_a_static_member(instance: str) -> None:
    """The broker puts a hyphen and a UUID after it; hyphens of its own stay."""
    assert names.instance_of(f"{instance}-{uuid.UUID(int=len(instance))}") == instance

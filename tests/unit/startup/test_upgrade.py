"""Upgrades: what a changed program may take over, over an Apache Kafka in memory.

Source: protocol, section 9 (H15, H16); docs/operating/upgrading.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import kstash
from kstash import App, Delivery
from kstash.core.ids import Incarnation
from kstash.core.manifest import Manifest
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Start
from kstash.errors import (
    ProgramChangedError,
    TopicMadeAnewError,
    TopicMismatchError,
    WireCorruptError,
)
from kstash.testing import TestDriver
from kstash.topology.model import program_of


def words(edge: str = "by-word", **settings: Any) -> App:
    """A word count in two stages."""
    app = App("shop", **settings)
    keyed = (
        app.stream("lines", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text, value=kstash.text, name=edge)
    )
    keyed.count("words").to("counts", value=kstash.int_text)
    return app


def more_words(has_clicks: bool = True, **settings: Any) -> App:
    """The same with a stage declared first, a filter, and another store after the same edge."""
    app = App("shop", **settings)
    if has_clicks:
        clicks = app.stream("clicks", key=kstash.text, value=kstash.text)
        clicks.count("clicks").to("click-counts", value=kstash.int_text)
    keyed = (
        app.stream("lines", value=kstash.text)
        .filter(bool)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text, value=kstash.text, name="by-word")
    )
    keyed.aggregate("longest", str, max, value=kstash.text).to("maxima", value=kstash.text)
    keyed.count("words").to("counts", value=kstash.int_text)
    return app


def spelled(**settings: Any) -> App:
    """Another store in the place of the count."""
    app = App("shop", **settings)
    keyed = (
        app.stream("lines", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text, value=kstash.text, name="by-word")
    )
    keyed.aggregate("words", str, max, value=kstash.text).to("counts", value=kstash.text)
    return app


def joined(**settings: Any) -> App:
    """Two plain stages in one: the inputs of both."""
    app = App("shop", **settings)
    app.stream("lines", "clicks", value=kstash.text).to("counts", value=kstash.text)
    return app


def apart(**settings: Any) -> App:
    """The same inputs in a stage each."""
    app = App("shop", **settings)
    app.stream("lines", value=kstash.text).to("counts", value=kstash.text)
    app.stream("clicks", value=kstash.text).to("maxima", value=kstash.text)
    return app


def values(driver: TestDriver, topic: str) -> list[Any]:
    """Values of new outputs, sorted."""
    return sorted(record.value for record in driver.read(topic))


def numbers(driver: TestDriver) -> dict[str, int]:
    """Stage numbers by name, as the running worker has them."""
    return {stage.name: stage.index for stage in driver.rig.topology.stages}


def fill(driver: TestDriver) -> None:
    """Two partitions of words."""
    driver.send("lines", "a b a")
    driver.send("lines", "a", partition=1)


# -- what a drain makes possible -----------------------------------------------------------------


def test_a_drained_application_goes_on_as_another_program() -> None:
    """Stages are renumbered, have more operators, stores and outputs: counts and outputs go on."""
    with TestDriver(words(), partitions=2) as driver:
        fill(driver)
        assert values(driver, "counts") == [1, 1, 2, 3]
        driver.drain()
        driver.recover(more_words())
        driver.send("lines", "a c", partition=1)
        driver.send("clicks", "x", "k")
        assert values(driver, "counts") == [1, 4]
        assert values(driver, "click-counts") == [1]
        assert driver.state("words") == {"a": 4, "b": 1, "c": 1}
        assert driver.state("longest") == {"a": "a", "c": "c"}
        assert numbers(driver) == {"from-lines": 0, "words": 1, "clicks": 2}


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_the_new_program_recovers_like_any(is_checkpointed: bool) -> None:
    """Crashes after an upgrade: from the old program's checkpoints, and from its own."""
    with TestDriver(words(), partitions=2) as driver:
        fill(driver)
        driver.drain()
        driver.recover(more_words())
        driver.send("lines", "a c")
        if is_checkpointed:
            driver.advance(30)
        driver.crash()
        driver.recover()
        driver.send("lines", "a")
        driver.crash()
        driver.recover()
        assert driver.state("words") == {"a": 5, "b": 1, "c": 1}
        assert driver.state("longest") == {"a": "a", "c": "c"}
        assert values(driver, "counts") == [1, 1, 1, 2, 3, 4, 5]


def test_what_is_on_its_way_is_finished_by_a_drain() -> None:
    """An edge may be renamed: nothing is left in the old internal topic."""
    with TestDriver(words(), partitions=2) as driver:
        # Records wait in the internal topic: nothing is processed while the cluster takes none.
        driver.rig.cluster.links["data"].holds_requests = True
        fill(driver)
        driver.crash()
        driver.drain()
        driver.recover(words(edge="other"))
        driver.send("lines", "a")
        assert values(driver, "counts") == [1, 1, 2, 3, 4]
        assert numbers(driver) == {"from-lines": 0, "words": 1}


def test_a_drain_reads_nothing_new() -> None:
    """What comes to the inputs before or while it drains is left to the next start."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        driver.close()
        driver.kafka.append("lines", b"a a")
        driver.drain()
        assert values(driver, "counts") == [1]
        driver.recover(more_words())
        assert values(driver, "counts") == [2, 3]


def test_stages_that_go_take_their_numbers_along() -> None:
    """A stage that comes back is a new one: readers know its old number with other sequences."""
    with TestDriver(more_words()) as driver:
        fill_one(driver)
        before = numbers(driver)
        driver.drain()
        driver.recover(more_words(has_clicks=False, drop_stores="clicks"))
        driver.kafka.append("clicks", b"nobody reads it", key=b"k")
        driver.drain()
        driver.recover(more_words())
        driver.send("clicks", "x", "k")
        # It begins anew, also with its input.
        assert values(driver, "click-counts") == [1, 1, 2, 3]
        assert numbers(driver)["clicks"] not in before.values()
        assert numbers(driver)["longest"] == before["longest"]


def fill_one(driver: TestDriver) -> None:
    """A word and a click."""
    driver.send("lines", "a")
    driver.send("clicks", "x", "k")


# -- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["crash", "close"])
def test_h15_without_a_drain_the_difference_is_shown(end: str) -> None:
    """H15: after a crash, and after an orderly stop, which leaves records between the stages."""
    with TestDriver(words(), partitions=2) as driver:
        fill(driver)
        getattr(driver, end)()
        with pytest.raises(ProgramChangedError, match="kstash drain") as caught:
            driver.recover(more_words())
        driver.crash()
        assert caught.value.changes == (
            "+ stage clicks: count(clicks)",
            "+ operator filter(bool) of stage from-lines",
            "+ store longest of stage words: aggregate text -> text",
            "+ operator aggregate(longest) of stage words",
            "+ output maxima of stage words",
        )
        assert caught.value.refused == ()
        driver.recover(words())
        assert driver.state("words") == {"a": 3, "b": 1}


def test_a_removed_store_must_be_given_up_by_name() -> None:
    """A store that is gone is refused, drained or not, unless `drop_stores` names it."""
    with TestDriver(more_words()) as driver:
        fill_one(driver)
        driver.drain()
        with pytest.raises(ProgramChangedError, match="--drop-store") as caught:
            driver.recover(words(drop_stores="clicks"))
        assert caught.value.refused == ("- store longest of stage longest",)
        driver.crash()
        driver.recover(words(drop_stores="clicks, longest"))
        driver.send("lines", "a")
        assert driver.state("words") == {"a": 2}


def test_a_changed_store_begins_empty_once() -> None:
    """What it held is given up at the upgrade; the setting may stay, also over crashes."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a b")
        driver.drain()
        with pytest.raises(ProgramChangedError) as caught:
            driver.recover(spelled())
        assert caught.value.refused == (
            "~ store words of stage words: was count text -> int_text, is aggregate text -> text",
        )
        driver.crash()
        driver.recover(spelled(drop_stores="words"))
        driver.send("lines", "a")
        driver.crash()
        driver.recover()
        assert driver.state("words") == {"a": "a"}
        driver.advance(30)
        driver.send("lines", "b")
        driver.crash()
        driver.recover()
        assert driver.state("words") == {"a": "a", "b": "b"}


@pytest.mark.parametrize(("before", "now"), [(joined, apart), (apart, joined)])
def test_inputs_do_not_move_between_stages(before: Any, now: Any) -> None:
    """Positions and sequences belong to a stage, so that it cannot be cut or merged."""
    with TestDriver(before()) as driver:
        driver.send("lines", "a")
        driver.drain()
        with pytest.raises(ProgramChangedError, match="kstash reset") as caught:
            driver.recover(now())
        assert "~ input clicks moves to stage" in caught.value.refused[0]
        driver.crash()


def test_all_groups_must_be_drained() -> None:
    """One group that was not would leave the application between two programs."""
    with TestDriver(words(), partitions=2) as driver:
        fill(driver)
        driver.drain()
        # A worker of the old program got as far as its START on one of them.
        records = [
            decode_record(r.key(), r.value())
            for r in driver.kafka.read("shop-lineage", 1)
            if r.value() is not None
        ]
        last = [record for record in records if isinstance(record, Start)][-1]
        later = replace(last, incarnation=Incarnation(last.incarnation.generation, 999))
        driver.kafka.append("shop-lineage", encode_value(later), key=encode_key(later), partition=1)
        with pytest.raises(ProgramChangedError):
            driver.recover(more_words())
        driver.crash()


def test_records_of_an_earlier_version_in_an_internal_topic_are_refused() -> None:
    """An edge that comes back would read what was processed long ago."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        driver.drain()
        driver.recover(words(edge="other"))
        driver.drain()
        with pytest.raises(TopicMismatchError, match=r"another name.* leave that topic alone"):
            driver.recover(words())
        driver.crash()
        driver.recover(words(edge="third"))
        driver.send("lines", "a")
        assert values(driver, "counts") == [1, 2]


def test_an_output_that_comes_back_is_refused() -> None:
    """Readers know the task's old sequences in that topic, and would drop the new ones."""
    with TestDriver(more_words()) as driver:
        driver.send("lines", "a")
        driver.drain()
        driver.recover(words(drop_stores="clicks,longest"))
        driver.drain()
        with pytest.raises(ProgramChangedError) as caught:
            driver.recover(more_words())
        assert caught.value.refused == (
            "~ output maxima comes back: its readers would drop what is new",
        )
        driver.crash()


def delivered(delivery: Delivery) -> App:
    """Counts with a delivery of one's choice."""
    app = App("shop")
    counts = app.stream("lines", key=kstash.text, value=kstash.text).count("lines")
    counts.to("counts", value=kstash.int_text, delivery=delivery)
    return app


def test_a_delivery_may_change_once() -> None:
    """Readers with the rule know where the sequences were, and would see a gap after them."""
    with TestDriver(delivered("transactional")) as driver:
        seen = []
        for delivery in ("immediate", "transactional"):
            driver.send("lines", "x", "a")
            driver.advance(1)
            driver.drain()
            seen += values(driver, "counts")
            driver.recover(delivered(delivery))
        driver.crash()
        driver.recover()
        driver.send("lines", "x", "a")
        driver.drain()
        assert seen + values(driver, "counts") == [1, 2, 3]
        records, _ = driver.kafka.log(("counts", 0)).read(0, 100, is_committed=True)
        assert [bool(record.headers()) for record in records] == [False, True, False]
        with pytest.raises(ProgramChangedError) as caught:
            driver.recover(delivered("immediate"))
        assert caught.value.refused == (
            "~ output counts comes back: its readers would drop what is new",
        )
        driver.crash()


# -- topics made anew ----------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["lines", "shop-by_word-repartition"])
def test_a_topic_made_anew_is_refused(topic: str) -> None:
    """Offsets in it mean nothing any more, whether it has fewer records now or more."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        driver.crash()
        driver.kafka.delete_topic(topic)
        with pytest.raises(TopicMadeAnewError, match=f"'{topic}'") as caught:
            driver.recover()
        assert caught.value.topics == (topic,)


def test_a_sink_made_anew_gets_what_comes_next() -> None:
    """Its records are gone for good; the application goes on with the next one."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        driver.advance(30)
        driver.crash()
        driver.kafka.delete_topic("counts")
        driver.recover()
        driver.send("lines", "a")
        assert values(driver, "counts") == [2]


def test_a_lineage_topic_made_anew_beside_old_internal_topics_is_refused() -> None:
    """H26: frames of the old generation would pass as the beginning of the new history."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        driver.crash()
        driver.kafka.delete_topic("shop-lineage")
        with pytest.raises(TopicMadeAnewError, match="'shop-lineage'"):
            driver.recover()
        driver.crash()


# -- the description -----------------------------------------------------------------------------


def test_a_description_survives_its_encoding() -> None:
    """START holds it as text: equal programs give equal text."""
    program = program_of(more_words().topology(), "exactly_once", {"lines": 2}, {"lines": "id"})
    assert Manifest.decode(program.encode()) == program
    assert Manifest.decode(program.encode()).encode() == program.encode()


# -- a damaged record on an internal topic -------------------------------------------------------


def test_a_damaged_frame_stops_its_reader_until_it_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the record; skipped, it is passed over for good, and its writer recovers."""
    with TestDriver(words()) as driver:
        driver.send("lines", "a")
        log = driver.kafka.log(("shop-by_word-repartition", 0))
        offset = log.end_offset
        append = log.append

        def damaged(key: Any, value: Any, *rest: Any) -> Any:
            return append(key, value and b"\xff" + value[1:], *rest)

        with monkeypatch.context() as patch:
            patch.setattr(log, "append", damaged)
            with pytest.raises(WireCorruptError, match=f"offset {offset}"):
                driver.send("lines", "b")
        with pytest.raises(WireCorruptError):
            driver.recover()
        driver.rig.config = words(skip_records=f"shop-by_word-repartition/0/{offset}/all").config
        driver.recover()
        driver.rig.config = words().config
        driver.send("lines", "a")
        driver.crash()
        driver.recover()
        assert driver.state("words") == {"a": 2}

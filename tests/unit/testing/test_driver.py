"""`TestDriver` runs the real worker: outputs, state, crashes and the manual clock."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstash
from kstash.errors import ConfigError, OperatorError, SerdeError
from kstash.testing import MemoryKafka, TestDriver

SENTENCES = ("to be or not to be", "that is the question", "to be")
CHECKPOINT_S = 10
MAKES_NO_BYTES: Any = str


def word_count(**settings: Any) -> kstash.App:
    """Two stages, one input partition per task: no order to log."""
    app = kstash.App("words", **settings)
    (
        app.stream("sentences", value=kstash.text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=kstash.text)
        .count("counts")
        .to("word-counts", value=kstash.int_text)
    )
    return app


def chained(value: str, link: str) -> str:
    """The next link of a rolling hash: depends on all before it and on their order."""
    return hashlib.blake2b(f"{value} {link}".encode(), digest_size=4).hexdigest()


def rolling_hash(**settings: Any) -> kstash.App:
    """One stage over two topics: state and outputs depend on the order of the inputs."""
    app = kstash.App("hashes", **settings)
    (
        app.stream("left", "right", key=kstash.text, value=kstash.text)
        .aggregate("chains", str, chained, value=kstash.text)
        .to("links", value=kstash.text)
    )
    return app


def pairs(driver: TestDriver, topic: str) -> list[tuple[Any, Any]]:
    """Keys and values of new output records."""
    return [(record.key, record.value) for record in driver.read(topic)]


def restart(driver: TestDriver) -> None:
    """Crash and recover."""
    driver.crash()
    driver.recover()


def logs(kafka: MemoryKafka) -> list[tuple[Any, ...]]:
    """Everything in all topics."""
    return [
        (record.topic(), record.partition(), record.offset(), record.key(), record.value())
        for topic in kafka.topics()
        for record in kafka.read(topic, is_committed=False)
    ]


def test_outputs_come_in_order_and_once() -> None:
    """Each input word gives one output; a second read gives only what is new."""
    with TestDriver(word_count()) as driver:
        driver.send("sentences", "a b a")
        assert pairs(driver, "word-counts") == [("a", 1), ("b", 1), ("a", 2)]
        assert pairs(driver, "word-counts") == []
        driver.send("sentences", "b")
        assert pairs(driver, "word-counts") == [("b", 2)]
        assert driver.state("counts") == {"a": 2, "b": 2}


def test_output_records_carry_timestamp_and_no_protocol_header() -> None:
    """An output has its input's timestamp, and headers of kstash are hidden."""
    with TestDriver(word_count(), start_ms=5_000) as driver:
        driver.send("sentences", "a")
        driver.send("sentences", "b", timestamp_ms=7)
        first, second = driver.read("word-counts")
        assert (first.timestamp_ms, second.timestamp_ms) == (5_000, 7)
        assert (first.headers, first.partition) == ([], 0)


def test_keys_choose_partitions() -> None:
    """Without a given partition the key decides, as Kafka's clients do; state covers them all."""
    with TestDriver(rolling_hash(), partitions=3) as driver:
        for key in "abcdef":
            driver.send("left", "x", key)
        assert len({record.partition for record in driver.read("links")}) > 1
        assert set(driver.state("chains")) == set("abcdef")


@pytest.mark.parametrize("guarantee", ["exactly_once", "write_first"])
@pytest.mark.parametrize("lineage_delay_s", [0.0, 0.3])
def test_crashes_leave_no_trace(guarantee: str, lineage_delay_s: float) -> None:
    """Outputs and state are those of a run without crashes, lineage stable or not."""
    app = word_count(guarantee=guarantee)
    with TestDriver(app, partitions=2, lineage_delay_s=lineage_delay_s) as driver:
        for sentence in SENTENCES:
            driver.send("sentences", sentence)
            restart(driver)
        driver.advance(1)
        words = " ".join(SENTENCES).split()
        counts = {word: words.count(word) for word in words}
        assert driver.state("counts") == counts
        assert sorted(pairs(driver, "word-counts")) == sorted(
            (word, number) for word, count in counts.items() for number in range(1, count + 1)
        )


GUARANTEES = ("exactly_once", "write_first", "at_least_once", "none")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_every_guarantee_gives_the_same_outputs_when_nothing_fails(guarantee: str) -> None:
    """Invariant I12: the guarantees differ in what a fault does, and in nothing else."""
    with TestDriver(rolling_hash(guarantee=guarantee), lineage_delay_s=0.02) as driver:
        chain = ""
        expected = []
        for number in range(40):
            driver.send(("left", "right")[number % 2], str(number), "k")
            chain = chained(chain, str(number))
            expected.append(("k", chain))
        driver.advance(1)
        assert pairs(driver, "links") == expected
        assert driver.state("chains") == {"k": chain}


def test_at_least_once_loses_nothing() -> None:
    """After a crash outputs may repeat, but every input is in the state once at least."""
    with TestDriver(word_count(guarantee="at_least_once")) as driver:
        for number in range(20):
            driver.send("sentences", f"w{number % 3}")
            if number % 5 == 4:
                driver.advance(11)
                driver.send("sentences", "again")
                restart(driver)
        outputs = pairs(driver, "word-counts")
        assert {word for word, _ in outputs} == {"w0", "w1", "w2", "again"}
        state = driver.state("counts")
        assert all(state[f"w{n}"] >= 20 // 3 for n in range(3))
        assert state["again"] >= 4


def test_replay_takes_the_inputs_in_the_order_of_their_first_run() -> None:
    """Records of two topics, sent in turn and not yet stable, are replayed in turn."""
    with TestDriver(rolling_hash(), lineage_delay_s=4) as driver:
        chain = ""
        for number in range(9):
            driver.send(("left", "right")[number % 2], str(number), "k")
            chain = chained(chain, str(number))
            if number % 3 == 2:
                restart(driver)
            assert driver.state("chains") == {"k": chain}
        assert len(driver.read("links")) == 9


def test_recovery_starts_from_the_last_checkpoint() -> None:
    """What lies before a checkpoint is not replayed."""
    with TestDriver(rolling_hash()) as driver:
        for number in range(50):
            driver.send("left", str(number), "k")
        driver.advance(CHECKPOINT_S + 1)
        before = driver.state("chains")
        driver.send("right", "last", "k")
        restart(driver)
        assert driver.state("chains") == {"k": chained(before["k"], "last")}
        driver.advance(2)  # counts are published once a second
        assert driver.metrics.counts["replayed_records"] == 1


def test_plain_reader_sees_outputs_after_a_commit() -> None:
    """A read_committed reader gets them once the commit interval has passed, crash or not."""
    with TestDriver(word_count()) as driver:
        driver.send("sentences", "a a")
        restart(driver)
        driver.advance(0.5)
        assert [record.value() for record in driver.kafka.read("word-counts")] == [b"1", b"2"]


def test_records_sent_after_a_crash_wait() -> None:
    """Kafka keeps them; the next worker takes them."""
    with TestDriver(word_count()) as driver:
        driver.crash()
        driver.send("sentences", "a")
        assert pairs(driver, "word-counts") == []
        driver.recover()
        assert pairs(driver, "word-counts") == [("a", 1)]


def test_orderly_stop_and_crash_at_rest() -> None:
    """`close` may come in any state, and again."""
    driver = TestDriver(word_count())
    driver.send("sentences", "a")
    driver.close()
    driver.close()
    crashed = TestDriver(word_count())
    crashed.crash()
    crashed.close()


def test_calls_that_need_a_worker() -> None:
    """Without one, and a start beside one, they are refused with what to call; `read` goes on."""
    with TestDriver(word_count()) as driver:
        driver.send("sentences", "a")
        with pytest.raises(ConfigError, match=r"the worker runs: call crash\(\)"):
            driver.recover()
        driver.crash()
        for call in (driver.crash, lambda: driver.state("counts")):
            with pytest.raises(ConfigError, match=r"no worker: .* recover\(\) starts"):
                call()
        driver.recover()
        assert (driver.state("counts"), pairs(driver, "word-counts")) == ({"a": 1}, [("a", 1)])
    with pytest.raises(ConfigError, match="was closed"):
        driver.state("counts")


def test_state_of_keys_that_no_dict_takes() -> None:
    """An error says how to read them; so do those that are equal to Python only."""
    app = kstash.App("odd-keys")
    stream = app.stream("in", key=kstash.json, value=kstash.text)
    stream.count("n").to("counts")
    stream.window(kstash.tumbling(timedelta(minutes=1))).count("by-minute").to("minutes")
    with TestDriver(app) as driver:
        driver.send("in", "v", key=[1, 2], timestamp_ms=0)
        driver.send("in", "v", key={"a": 1}, timestamp_ms=0)
        for store in ("n", "by-minute"):
            with pytest.raises(ConfigError, match=rf"such as .*: entries\('{store}'\) gives"):
                driver.state(store)
        assert driver.entries("n") == [([1, 2], 1), ({"a": 1}, 1)]
        assert [value for _, value in driver.entries("by-minute")] == [1, 1]


def test_state_of_a_time_store_is_stream_time_by_task() -> None:
    """Of tasks that have one; in one partition as in several."""
    app = kstash.App("times")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    stream.window(kstash.tumbling(timedelta(minutes=1)), emit="final").count("n").to("out")
    with TestDriver(app, partitions=3) as driver:
        assert driver.state("n.time") == {}
        driver.send("in", "v", key="k", timestamp_ms=70_000, partition=0)
        driver.send("in", "v", key="k", timestamp_ms=90_000, partition=2)
        assert driver.state("n.time") == {"n_0": 70_000, "n_2": 90_000}


def test_state_of_distinct() -> None:
    """For each key the set of its values as the bytes that they are found by."""
    app = kstash.App("distinct")
    app.stream("visits", key=kstash.text, value=kstash.text).distinct("seen").to("new")
    with TestDriver(app) as driver:
        for page in ("/", "/about", "/"):
            driver.send("visits", page, key="ann")
        assert driver.state("seen") == {"ann": {b"/", b"/about"}}


@pytest.mark.parametrize(
    ("serde", "record", "message"),
    [
        (kstash.text, {"value": "a", "key": 5}, "'text' of 'send(key=5)' cannot serialize a key"),
        (kstash.text, {"value": 5}, "cannot serialize a value: TypeError: text takes str, not int"),
        (kstash.json, {"value": b"{}"}, r"json makes base64 text of bytes: send_raw() sends"),
        (
            kstash.Serde("s", MAKES_NO_BYTES, str),
            {"value": "a"},
            "serializer returned str, not bytes",
        ),
    ],
)
def test_a_record_that_no_serde_takes(
    serde: kstash.Serde[Any], record: dict[str, Any], message: str
) -> None:
    """The error has topic, serde and what was given; nothing is sent, and the worker goes on."""
    app = kstash.App("serdes")
    app.stream("in", key=serde, value=serde).to("out")
    with TestDriver(app) as driver:
        with pytest.raises(SerdeError, match=re.escape(message)) as caught:
            driver.send("in", **record)
        assert (caught.value.topic, caught.value.serde) == ("in", serde.name)
        assert caught.value.offset is None
        driver.advance(1)
        assert driver.read("out") == []


def test_error_in_user_code_names_its_place() -> None:
    """It comes out of `send`; the record stops the worker again after a recovery."""
    app = kstash.App("fails")
    app.stream("numbers", value=kstash.int_text).map(lambda n: 1 // n).to(
        "results", value=kstash.int_text
    )
    with TestDriver(app) as driver:
        driver.send("numbers", 1)
        attempts: list[Callable[[], None]] = [lambda: driver.send("numbers", 0), driver.recover]
        for attempt in attempts:
            with pytest.raises(OperatorError, match="division") as caught:
                attempt()
            assert (caught.value.topic, caught.value.offset) == ("numbers", 1)
        assert pairs(driver, "results") == [(None, 1)]


def test_unknown_names_are_refused() -> None:
    """The message lists the names that exist."""
    with TestDriver(word_count()) as driver:
        attempts: list[tuple[Callable[[], object], str]] = [
            (lambda: driver.send("lines", "a"), "sentences"),
            (lambda: driver.read("sentences"), "word-counts"),
            (lambda: driver.state("words"), "counts"),
        ]
        for attempt, known in attempts:
            with pytest.raises(ConfigError, match=known):
                attempt()


def test_same_calls_give_the_same_logs() -> None:
    """Two runs of one schedule write the same bytes into every topic but fresh nonces."""

    def run() -> list[tuple[Any, ...]]:
        with TestDriver(rolling_hash(), lineage_delay_s=0.1) as driver:
            for number in range(6):
                driver.send(("left", "right")[number % 2], str(number), "k")
            restart(driver)
            driver.advance(0.4)
            return [entry for entry in logs(driver.kafka) if not entry[0].endswith("-lineage")]

    assert run() == run()


KEYS = ("k0", "k1", "k2")
Action = tuple[str, int]
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["left", "right"]), st.integers(0, 2)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("advance"), st.sampled_from([10, 200, 1_000, 11_000])),
    ),
    max_size=25,
)


@given(actions=ACTIONS, delay_ms=st.sampled_from([0, 150, 4_000]), partitions=st.integers(1, 2))
def test_any_schedule_gives_the_history_that_was_seen(
    actions: list[Action], delay_ms: int, partitions: int
) -> None:
    """Whatever crashes and passes of time lie between: outputs are one history, as is the state.

    Inputs whose outputs nobody has seen (they were queued behind a commit) may come in another
    order of the two topics after a crash; what was seen is never taken back.
    """
    waiting: dict[str, dict[str, list[str]]] = {key: {"left": [], "right": []} for key in KEYS}
    last = dict.fromkeys(KEYS, "")
    with TestDriver(
        rolling_hash(), partitions=partitions, lineage_delay_s=delay_ms / 1000
    ) as driver:
        for number, (action, argument) in enumerate([*actions, ("advance", 9_000)]):
            if action == "crash":
                restart(driver)
            elif action == "advance":
                driver.advance(argument / 1000)
            else:
                driver.send(action, str(number), KEYS[argument])
                waiting[KEYS[argument]][action].append(str(number))
            for key, link in pairs(driver, "links"):
                topics = [
                    t for t, v in waiting[key].items() if v and chained(last[key], v[0]) == link
                ]
                assert len(topics) == 1, f"{link} continues no order of {waiting[key]}"
                waiting[key][topics[0]].pop(0)
                last[key] = link
        assert all(not values for topics in waiting.values() for values in topics.values())
        assert driver.state("chains") == {key: link for key, link in last.items() if link}


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (
            lambda d: d.advance(-1),
            "number, or a timedelta, 0 or more, not -1",
        ),
        (lambda d: d.advance(float("nan")), "not nan"),
        (lambda d: d.advance(timedelta(-1)), "advance takes seconds as a number, or a timedelta"),
        (lambda d: d.advance_clock("1"), "advance_clock takes seconds as a number, or a timedelta"),
        (lambda d: d.advance_clock(timedelta(-1)), "0 or more, not datetime.timedelta"),
        (lambda d: d.advance_time(-1), "advance_time takes seconds as a number, or a timedelta"),
        (lambda d: d.advance("1"), "not '1'"),
        (lambda d: d.send("sentences", "a", timestamp_ms=1.5), "a whole number, not 1.5"),
        (lambda d: d.send("sentences", "a", timestamp_ms="5"), "a whole number, not '5'"),
        (lambda d: d.send("sentences", "a", headers={"a": "b"}), "headers= as a list of pairs"),
        (lambda d: d.send("sentences", "a", headers=[("a", "b")]), "headers= as a list of pairs"),
        (lambda d: d.send_raw("sentences", b"a", headers=["ab"]), "headers= as a list of pairs"),
    ],
)
def test_what_no_record_and_no_clock_has(use: Callable[[TestDriver], None], error: str) -> None:
    """A typed error that says what is taken; nothing happened."""
    with TestDriver(word_count()) as driver:
        with pytest.raises(ConfigError, match=error):
            use(driver)
        assert driver.read("word-counts") == []
        driver.send("sentences", "a", timestamp_ms=5, headers=[("a", None), ("b", b"")])
        driver.advance(0)
        assert len(driver.read("word-counts")) == 1


@pytest.mark.parametrize("interval", [90, 90.0, timedelta(minutes=1, seconds=30)])
def test_the_clock_moves_by_seconds_or_by_a_timedelta(interval: float | timedelta) -> None:
    """All three ways to move time take both."""
    with TestDriver(word_count()) as driver:
        before_ms = driver.clock.time_ms()
        driver.advance(interval)
        driver.advance_clock(interval)
        assert driver.clock.time_ms() - before_ms == 180_000
        driver.advance_time(interval)
        driver.send("sentences", "a")
        (count,) = driver.read("word-counts")
        assert count.timestamp_ms == driver.clock.time_ms() + 90_000

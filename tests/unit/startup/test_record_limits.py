"""Records larger than a frame, and larger than a topic takes: what passes, and what errors name."""

from __future__ import annotations

import pytest

import kstash
from kstash.errors import NullKeyError, RecordTooLargeError
from kstash.operators.batch import Batch
from kstash.operators.sizes import RECORD_OVERHEAD_BYTES, Limit, bytes_of
from kstash.ports.kafka import Headers, NewTopic
from kstash.startup.topics import check_topics
from kstash.testing import ManualClock, MemoryCluster, MemoryKafka, TestDriver

KB = 1024


def program(skip_records: str | None = None, frame_bytes_max: int = KB) -> kstash.App:
    """Words counted after an internal topic."""
    app = kstash.App("limits", frame_bytes_max=frame_bytes_max, skip_records=skip_records)
    (
        app.stream("in", value=kstash.text)
        .flat_map(str.split)
        .key_by(str, key=kstash.text, name="by-word")
        .count("words")
        .to("out", key=kstash.text, value=kstash.int_text)
    )
    return app


def copier(message_bytes_max: int) -> kstash.App:
    """Copies values, through a client that takes so much."""
    app = kstash.App("limits", kafka={"message.max.bytes": message_bytes_max})
    app.stream("in", value=kstash.text).to("out", value=kstash.text)
    return app


def frames(driver: TestDriver) -> list[int]:
    """Bytes of the frames in the internal topic."""
    values = [record.value() for record in driver.kafka.read("limits-by_word-repartition")]
    return [len(value) for value in values if value is not None]


def test_a_record_larger_than_a_frame_is_one_of_its_own() -> None:
    """Its neighbours keep their frames and their order; after a crash nothing is missing."""
    words = ["a", "b", "c" * 4 * KB, "d", "e" * 600 * KB, "f" * 2 * KB, "g"]
    with TestDriver(program()) as driver:
        driver.send("in", " ".join(words))
        sizes = frames(driver)
        assert [size > KB for size in sizes] == [False, True, False, True, True, False]
        driver.crash()
        driver.recover()
        driver.send("in", " ".join(words))
        keys = [record.key for record in driver.read("out")]
        assert keys == words * 2


def recover_with(driver: TestDriver, values: list[bytes]) -> None:
    """Let records wait for a new life of the worker, which takes several at once."""
    driver.crash()
    for value in values:
        driver.send_raw("in", value)
    driver.recover()


def test_what_an_internal_topic_does_not_take_names_its_input() -> None:
    """Topic, partition and offset of the input, size and command; passed over, it goes on."""
    large = 8 * 1024 * KB
    values = [b"a", b"b b", b"", b"c", b"d", b"x " + b"y" * large + b" z", b"e"]
    with TestDriver(program()) as driver:
        with pytest.raises(RecordTooLargeError) as caught:
            recover_with(driver, values)
        error = caught.value
        assert (error.topic, error.partition, error.offset) == ("in", 0, 5)
        needed = large + RECORD_OVERHEAD_BYTES + 4096 + 256
        command = (
            f"--entity-name limits-by_word-repartition --add-config max.message.bytes={needed}"
        )
        assert command in str(error)
        assert error.skip == "in/0/5"
        assert len(driver.read("out")) == 0
        driver.recover(program(skip_records=error.skip))
        assert [record.key for record in driver.read("out")] == ["a", "b", "b", "c", "d", "e"]


def test_a_null_key_names_its_input() -> None:
    """On a compacted topic; which record of a batch made it is traced through the stage."""
    app = kstash.App("nulls")
    (
        app.stream("in", key=kstash.text, value=kstash.text)
        .filter(len)
        .map_values(str.upper)
        .key_by(lambda word: None if word == "NOBODY" else word, key=kstash.text)
        .to("out", key=kstash.text, value=kstash.text, delivery="transactional")
    )
    with TestDriver(app) as driver:
        driver.kafka._topics["out"][1]["cleanup.policy"] = "compact"
        values = [b"a", b"b", b"", b"c", b"", b"nobody", b"d"]
        with pytest.raises(NullKeyError, match=r"as 'out' is") as caught:
            recover_with(driver, values)
    error = caught.value
    assert (error.topic, error.partition, error.offset) == ("in", 0, 5)
    assert error.skip == "in/0/5"


@pytest.mark.parametrize("has_headers", [False, True])
def test_the_first_one_too_large_is_meant(has_headers: bool) -> None:
    """By key, value and headers together; what fits exactly passes, however many there are."""
    headers: list[Headers | None] | None = [[("é", b"1234")], None, None] if has_headers else None
    value = b"v" * (100 - RECORD_OVERHEAD_BYTES - 1)
    first = value[: -(8 + 2 + 4)] if has_headers else value
    limit = Limit("t", 100, 20)
    batch = Batch([b"k"] * 3, [first, value, None], [0] * 3, headers)
    limit.check_sizes(batch, bytes_of(batch))
    for index in range(3):
        values: list[bytes | None] = [first, value, value]
        values[index] = (values[index] or b"") + b"+"
        batch = Batch([b"k"] * 3, values, [0] * 3, headers)
        with pytest.raises(RecordTooLargeError, match=r"101 bytes.*max\.message\.bytes=121") as e:
            limit.check_sizes(batch, bytes_of(batch))
        assert e.value.record_index == index
        Limit("t").check_sizes(batch, bytes_of(batch))


def test_a_client_that_takes_less_than_the_topic() -> None:
    """Its own setting is what has to be raised."""
    limit = Limit("t", 80, 20, client_bytes_max=100)
    batch = Batch([None], [bytes(100)], [0])
    with pytest.raises(RecordTooLargeError, match=r"client takes 100: set kafka=\{'message\.max"):
        limit.check_sizes(batch, bytes_of(batch))


def test_the_clients_own_limit_is_known_before() -> None:
    """What the client would refuse is refused in the stage, for sinks and internal topics."""
    with TestDriver(copier(50_000)) as driver:
        driver.send("in", "x" * 40_000)
        with pytest.raises(RecordTooLargeError, match="the client takes 50000: set kafka=") as e:
            driver.send("in", "x" * 50_000)
    assert (e.value.topic, e.value.offset) == ("in", 1)


def test_what_is_out_is_not_asked_about_again() -> None:
    """A limit that was lowered since does not stop the replay of what fitted, and is out."""
    with TestDriver(copier(50_000)) as driver:
        driver.send("in", "x" * 40_000)
        driver.crash()
        driver.recover(copier(10_000))
        driver.send("in", "y")
        assert [len(record.value) for record in driver.read("out")] == [40_000, 1]


def test_only_a_compacted_topic_wants_keys() -> None:
    """Any other takes null keys."""
    batch = Batch([None], [None], [0])
    Limit("t").check_keys(batch)
    with pytest.raises(NullKeyError):
        Limit("t", needs_keys=True).check_keys(batch)


@pytest.mark.parametrize(("frame_bytes_max", "needed"), [(KB, 8 * KB * KB), (9 * KB * KB, 9445376)])
def test_new_topics_of_our_own_take_eight_mebibytes(frame_bytes_max: int, needed: int) -> None:
    """Or as much as the frames that are asked for; the user's topics get nothing of it."""
    kafka = MemoryKafka(ManualClock(0))
    admin = MemoryCluster(kafka, "limits").admin()
    app = program(frame_bytes_max=frame_bytes_max)
    admin.create([NewTopic(name, 1, 1, {}) for name in ("in", "out")])
    check_topics(admin, app.topology(), app.config)
    sizes = {name: int(t.config["max.message.bytes"]) for name, t in kafka.topics().items()}
    assert sizes == {
        "in": 1_048_588,
        "out": 1_048_588,
        "limits-by_word-repartition": needed,
        "limits-lineage": 8 * KB * KB,
        "limits-checkpoints": 8 * KB * KB,
    }

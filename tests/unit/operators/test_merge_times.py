"""By what times the records of sources are merged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import kstash
from kstash.operators.batch import Batch
from kstash.operators.merge_times import merge_times

DAY = timedelta(days=1)


def times(values: list[Any], timestamps: list[int], **source: Any) -> list[int | None]:
    """Of records of a source that is merged with another one."""
    app = kstash.App("times")
    left = app.stream("l", key=kstash.text, value=kstash.json, **source)
    right = app.stream("r", key=kstash.text, value=kstash.json)
    right.merge(left).window(kstash.tumbling(DAY)).count("n").to("out")
    (stage,) = app.topology().stages
    index = [source.topic for source in stage.inputs].index("l")
    encoded = [None if value is None else kstash.json.serialize(value) for value in values]
    return merge_times(stage)[index](Batch([None] * len(values), encoded, timestamps))


def test_a_record_has_the_time_of_its_kafka_record() -> None:
    """None where that has none."""
    assert times([1, 2, 3], [5, -1, 1]) == [5, None, 1]


def test_a_function_gives_the_time() -> None:
    """None where it fails: the record meets its policy in its turn."""
    function = lambda value: value["at"]  # noqa: E731
    values = [{"at": 7}, {}, {"at": -1}, None, {"at": "x"}, {"at": 0}, {"at": 9}]
    found = times(values, [100] * 7, timestamp=function)
    assert found == [7, None, None, None, None, 1, 9]


def test_a_value_that_cannot_be_read_has_none() -> None:
    """As one whose function ends the process: nothing of it shows before its turn."""

    def leave(value: Any) -> int:
        raise SystemExit(value)

    assert times([1], [5], timestamp=leave) == [None]
    app = kstash.App("times")
    sources = [app.stream(t, value=kstash.json, timestamp=lambda v: int(v)) for t in "lr"]
    sources[0].merge(sources[1]).key_by(str, key=kstash.text).to("out", value=kstash.json)
    (stage,) = app.topology().stages
    assert merge_times(stage)[0](Batch([None] * 2, [b"{", b"3"], [5, 6])) == [None, 3]


def test_what_is_too_far_ahead_does_not_hold_the_others_up() -> None:
    """It will be dropped: it is merged as if it had the time of the record before it."""
    ahead = timedelta(milliseconds=10)
    found = times([111, 110, 10], [100] * 3, timestamp=lambda value: value, max_ahead=ahead)
    assert found == [None, 110, 10]

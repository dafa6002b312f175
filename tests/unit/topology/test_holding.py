"""What is held back of event time, which streams may be merged, and the words of watermark mode."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash.errors import TopologyError
from kstash.topology.time_nodes import EventTime

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
DAYS_MS = 2 * 86_400_000


def app_of(mode: Any = "watermark") -> kstash.App:
    """A program in that mode."""
    return kstash.App("app", event_time=mode)


def source(app: kstash.App) -> kstash.KeyedStream[str, int]:
    """Its source."""
    return app.stream("in", key=kstash.text, value=kstash.int_text)


@pytest.mark.parametrize(
    ("windows", "emit", "held_ms"),
    [
        (kstash.tumbling(MINUTE), "final", 61_000),
        (kstash.tumbling(MINUTE), "update", 0),
        (kstash.hopping(MINUTE, SECOND), "final", 61_000),
        (kstash.session(MINUTE), "final", 61_001),
        (kstash.sliding(MINUTE), "final", 61_001),
        (kstash.daily("Europe/Berlin"), "final", DAYS_MS + 1000),
    ],
    ids=str,
)
def test_windows_hold_back_until_they_close(windows: Any, emit: Any, held_ms: int) -> None:
    """Size and grace where one result is still to come, and nothing where all are out."""
    app = app_of()
    source(app).window(windows, grace=SECOND, emit=emit).count("w").to("out")
    (stage,) = app.topology().stages
    assert stage.is_watermark
    assert max(stage.held_ms.values()) == held_ms
    assert stage.held_ms[stage.entries[0].index] == 0


def test_what_is_late_was_not_held() -> None:
    """The stream of late records is as far as the records are."""
    app = app_of()
    counts = source(app).window(kstash.tumbling(MINUTE), emit="final").count("w")
    counts.to("out")
    counts.late().map_values(lambda late: late.value).to("late", value=kstash.int_text)
    (stage,) = app.topology().stages
    ends = dict(zip([o.topic for o in stage.outputs], stage.exits, strict=True))
    assert stage.held_ms[ends["late"].index] == 0
    assert stage.held_ms[ends["out"].index] == 60_000


def test_streams_that_are_held_unequally_cannot_be_merged() -> None:
    """Else records of the one that is ahead would make those of the other late."""

    def declare(app: kstash.App, *, apart: bool) -> None:
        numbers = source(app)
        counts = numbers.window(kstash.tumbling(MINUTE), emit="final").count("w")
        sums = counts.key_by(lambda _: "all", key=kstash.text, value=kstash.int_text)
        if apart:
            sums, numbers = sums.repartition("sums"), numbers.repartition("numbers")
        sums.merge(numbers).to("out", key=kstash.text, value=kstash.int_text)

    app = app_of()
    declare(app, apart=False)
    with pytest.raises(TopologyError, match=r"held back by 60 s.*repartition\(\)"):
        app.topology()
    for mode, apart in (("records", False), ("watermark", True)):
        app = app_of(mode)
        declare(app, apart=apart)
        assert app.topology().stages


def test_without_the_mode_programs_are_as_ever() -> None:
    """No node more, nothing held, nothing logged."""
    app = app_of("records")
    source(app).window(kstash.tumbling(MINUTE), emit="final").count("w").to("out")
    (stage,) = app.topology().stages
    assert not stage.is_watermark
    assert not stage.must_log
    assert not any(isinstance(node, EventTime) for node in stage.nodes)


def test_a_task_logs_in_the_mode() -> None:
    """Ticks and idle inputs are no records."""
    app = app_of()
    source(app).to("out")
    (stage,) = app.topology().stages
    assert stage.must_log
    assert stage.inputs[0].says_idle


def test_a_source_that_holds_never_says_that_it_is_idle() -> None:
    """By declaration; the default goes by the clock."""
    app = app_of()
    app.stream("in", idle="hold").to("out")
    (stage,) = app.topology().stages
    assert not stage.inputs[0].says_idle


@pytest.mark.parametrize("word", ["largest", None, 1])
def test_other_words_are_refused(word: Any) -> None:
    """With those that there are."""
    with pytest.raises(TopologyError, match="event_time is 'records' or 'watermark'"):
        app_of(word)
    with pytest.raises(TopologyError, match="idle is 'clock' or 'hold'"):
        app_of().stream("in", idle=word)

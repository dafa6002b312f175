"""Which stages take their inputs in the order of their times."""

from __future__ import annotations

from datetime import timedelta

import pytest

import kstash
from kstash import App, KeyedStream
from kstash.topology.model import is_merging

DAY = timedelta(days=1)


class Through(kstash.Processor[str, object, object]):
    """Sends on what it gets."""

    def on_record(self, record: kstash.Record, context: kstash.Context[str, object]) -> None:
        """One by one."""
        context.send(record.value)


def merges(app: App) -> list[bool]:
    """Of each stage."""
    return [stage.merges for stage in app.topology().stages]


def union(app: App) -> KeyedStream[str, object]:
    """Of two topics."""
    return app.stream("a", "b", key=kstash.text, value=kstash.json)


WINDOWS = [
    kstash.tumbling(DAY),
    kstash.hopping(DAY, DAY / 2),
    kstash.session(DAY),
    kstash.sliding(DAY),
]


@pytest.mark.parametrize("windows", WINDOWS)
def test_windows_over_several_topics_merge(windows: kstash.Windows) -> None:
    """They go by time, so the order of the topics decides what they make."""
    app = App("app")
    union(app).window(windows).count("n").to("out")
    assert merges(app) == [True]
    assert is_merging(app.topology())


def test_processors_over_several_topics_merge() -> None:
    """Their timers and what lives for a time go by it."""
    app = App("app")
    union(app).process("n", Through, value=kstash.json).to("out")
    assert merges(app) == [True]


def test_what_does_not_go_by_time_takes_what_comes() -> None:
    """A count over several topics, and windows over one."""
    app = App("app")
    union(app).count("n").to("out")
    single = app.stream("c", key=kstash.text, value=kstash.json)
    single.window(kstash.tumbling(DAY)).count("w").to("o")
    assert merges(app) == [False, False]
    assert not is_merging(app.topology())


def test_windows_of_one_of_the_topics_of_a_stage_do_not_merge() -> None:
    """Nothing of the other one reaches them."""
    app = App("app")
    one, other = (app.stream(t, key=kstash.text, value=kstash.json) for t in "ab")
    counted = one.process("n", Through, value=kstash.json)
    counted.merge(other).to("out")
    assert merges(app) == [False]


def test_where_time_is_the_smallest_of_all_nothing_waits() -> None:
    """Then nothing of a topic that is behind is late, in whatever order they come."""
    app = App("app", event_time="watermark")
    union(app).window(kstash.tumbling(DAY)).count("n").to("out")
    assert merges(app) == [False]


def test_topics_spread_anew_are_one_input() -> None:
    """Behind key_by there is one topic, in whatever order its writers wrote."""
    app = App("app")
    spread = union(app).key_by(str, key=kstash.text)
    spread.window(kstash.tumbling(DAY)).count("n").to("out")
    assert merges(app) == [False, False]


@pytest.mark.parametrize("value", [-2, 1 << 62])
def test_how_long_a_topic_is_waited_for_has_bounds(value: int) -> None:
    """-1 is the least: nothing is waited for."""
    with pytest.raises(kstash.ConfigError, match="task_idle_ms"):
        App("app", task_idle_ms=value)
    assert App("app", task_idle_ms=-1).config.task_idle_ms == -1

"""Results of windows under the keys of their records, and what windows have no word for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, assert_type

import pytest

import kstash
from kstash import App, Context, KeyedStream, Late, Processor, Record, Windowed, WindowResults
from kstash.errors import TopologyError, UnknownWordError
from kstash.testing import TestDriver

SECOND = timedelta(seconds=1)
WINDOWS = [kstash.tumbling(SECOND), kstash.session(SECOND), kstash.sliding(SECOND)]


class Rises(Processor[str, int, int]):
    """By how much each value is above the one before it, of the same key."""

    last = kstash.Value("last", kstash.int_text)

    def on_record(self, record: Record, context: Context[str, int]) -> None:
        """Send the difference."""
        context.send(record.value - self.last.get(0))
        self.last.set(record.value)


def lines(app: App) -> KeyedStream[str, int]:
    """The input."""
    return app.stream("in", key=kstash.text, value=kstash.int_text)


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("partitions", [1, 3])
def test_state_after_it_is_of_the_key_over_all_windows(
    windows: kstash.Windows, partitions: int
) -> None:
    """Through no topic, and with the same results after crashes."""
    app = App("inner")
    sums = lines(app).window(windows, emit="final").sum("sums", value=kstash.int_text)
    inner = sums.inner_key()
    assert inner._key_serde is kstash.text
    inner.process("rises", Rises, value=kstash.int_text).to("out")
    inner.window(kstash.tumbling(timedelta(hours=1))).count("hours").to("hours")
    (stage,) = app.topology().stages
    assert not any(output.internal for output in stage.outputs)
    made = []
    for crashes in (False, True):
        with TestDriver(app, partitions=partitions, lineage_delay_s=float(crashes)) as driver:
            for number in range(24):
                key = "abc"[number % 3]
                at_ms = 1_000_000 + number * 1_000
                driver.send("in", number * number, key=key, timestamp_ms=at_ms)
                if crashes and number % 4 == 1:
                    driver.crash()
                    driver.recover()
            driver.advance(5)
            made.append([driver.read("out"), driver.read("hours")])
            states = driver.state("rises.last")
            assert set(states) <= {"a", "b", "c"}
    assert made[0] == made[1]
    out, hours = made[0]
    rises: dict[str, list[int]] = {}
    for record in out:
        rises.setdefault(record.key, []).append(record.value)
    assert out
    for key, values in rises.items():
        assert sum(values) == states[key]
        assert len(values) == 1 or values[1] != values[0]
    assert {record.key for record in hours} == {Windowed(key, 0, 3_600_000) for key in rises}
    assert max(record.value for record in hours) == max(map(len, rises.values()))


def test_the_window_stays_in_the_value_by_records() -> None:
    """Its start and end are there for who wants them."""
    app = App("inner")
    counts = lines(app).window(kstash.tumbling(SECOND)).count("n").records().inner_key()
    assert_type(counts, KeyedStream[str, Record])
    counts.map_values(lambda r: [*r.key, r.value]).to("out", value=kstash.json)
    with TestDriver(app) as driver:
        driver.send("in", 1, key="k", timestamp_ms=1500)
        (record,) = driver.read("out")
    assert (record.key, record.value) == ("k", ["k", 1000, 2000, 1])


def test_keys_that_have_none_within() -> None:
    """And those of a topic, of which nobody knows where they belong."""
    app = App("inner")
    plain: Any = lines(app)
    with pytest.raises(TopologyError, match="these are 'text'"):
        plain.inner_key()
    written = app.stream("w", key=kstash.windowed(kstash.text, SECOND), value=kstash.int_text)
    with pytest.raises(TopologyError, match=r"key_by\(lambda record: record\.key\.key"):
        written.inner_key()
    again = written.repartition("again").inner_key()
    assert_type(again, KeyedStream[str, int])
    with pytest.raises(TopologyError, match="record"):
        written.repartition("more").merge(written).inner_key()
    with pytest.raises(TopologyError, match="these are 'text'"):
        again.inner_key()  # type: ignore[misc]


def test_results_are_typed_and_stay_of_windows_as_long_as_they_are_results() -> None:
    """What the type checker says, and what is, agree."""
    counts = lines(App("inner")).window(kstash.tumbling(SECOND)).count("n")
    assert_type(counts, WindowResults[str, int, int])
    assert_type(counts.late(), KeyedStream[str, Late[int]])
    assert_type(counts.filter(bool).late(), KeyedStream[str, Late[int]])
    assert_type(counts.inner_key(), KeyedStream[str, int])
    assert_type(counts.map_values(str), KeyedStream[Windowed[str], str])
    for kept in (counts.filter(bool), counts.filter_not(bool), counts.peek(str)):
        assert type(kept) is WindowResults
    others: list[Any] = [
        counts.map_values(str),
        counts.flat_map_values(lambda n: [n]),
        counts.records(),
        counts.map_records(lambda record: record),
        counts.count("again"),
        counts.dedup("d", id=str, within=SECOND),
        counts.dedup("d2", id=str, within=SECOND).side("repeated"),
        counts.top("t", 1, by=str),
    ]
    for other in others:
        assert type(other) is KeyedStream
        with pytest.raises(UnknownWordError, match="of what a fold after window"):
            getattr(other, "late")  # noqa: B009 - mypy sees that it is not there


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("to", "no results before a fold"),
        ("late", "no results before a fold"),
        ("side", "no results before a fold"),
        ("inner_key", "no results before a fold"),
        ("process", r"collect\(name\).*inner_key\(\)"),
        ("top", r"collect\(name\)"),
        ("distinct", r"collect\(name\)"),
        ("with_state", r"collect\(name\)"),
        ("final", "emit='final'"),
        ("suppress", "emit='final'"),
        ("map_values", r"before window\("),
        ("filter", r"before window\("),
        ("dedup", r"before window\("),
        ("window", "windowed already"),
        ("apply", "use map_values"),
    ],
)
def test_words_that_windows_have_not(word: str, hint: str) -> None:
    """As streams say of other libraries' words."""
    windows: Any = lines(App("inner")).window(kstash.tumbling(SECOND))
    with pytest.raises(UnknownWordError, match=hint) as raised:
        getattr(windows, word)
    assert "test_inner_keys.py" in str(raised.value.location)


def test_each_word_of_a_keyed_stream_is_there_or_says_what_to_do() -> None:
    """A new verb is not forgotten."""
    windows: Any = lines(App("inner")).window(kstash.tumbling(SECOND))
    verbs = {name for name in dir(KeyedStream) if not name.startswith("_")}
    missing = {name for name in verbs if not hasattr(type(windows), name)}
    for name in missing:
        with pytest.raises(UnknownWordError):
            getattr(windows, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(windows, "nonsense")  # noqa: B009 - mypy would not mind it, ruff does
    uses: list[Callable[[], object]] = [lambda: windows["a"], lambda: list(windows)]
    for use in uses:
        with pytest.raises(TopologyError):
            use()


@pytest.mark.parametrize(("emit", "counts"), [("update", 5), ("final", 1)])
def test_a_count_after_it_is_of_what_is_sent(emit: Literal["update", "final"], counts: int) -> None:
    """Of sessions that grow each update and the nulls that take them back; `final` sends each once.

    Here are three records of one session at last, and one much later that ends it.
    """
    app = App("app")
    sessions = lines(app).window(kstash.session(timedelta(seconds=10)), emit=emit).count("sessions")
    days = sessions.inner_key().window(kstash.tumbling(timedelta(hours=1))).count("by-hour")
    days.to("out")
    with TestDriver(app) as driver:
        for at_s in (1, 2, 12, 7200):
            driver.send("in", 1, key="k", timestamp_ms=at_s * 1000)
        first = [r.value for r in driver.read("out") if r.key.start_ms == 0]
        assert first[-1] == counts

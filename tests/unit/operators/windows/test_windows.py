"""Tumbling and hopping windows: each rule by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest

import kstash
from kstash.core.partitioner import murmur2
from kstash.errors import ProgramChangedError, TopologyError
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision
from kstash.operators.turns import takes_one_by_one
from kstash.operators.windows import aligned
from kstash.testing import TestDriver
from kstash.testing.state import MemoryBackend
from kstash.topology import aligned_nodes
from kstash.topology.model import Stage
from kstash.topology.window_nodes import Emit
from tests.differential.comparing import said
from tests.differential.reference import Chain, Record, Result

Stream = kstash.KeyedStream[str, int]
Row = tuple[Any, ...]


def ms(count: int) -> timedelta:
    """So many milliseconds."""
    return timedelta(milliseconds=count)


TEN = kstash.tumbling(ms(10))


def numbers(app: kstash.App) -> Stream:
    """The input of all programs here."""
    return app.stream("in", key=kstash.text, value=kstash.int_text)


def merging(windows: kstash.Windows) -> object:
    """A fold that says what becomes of two states."""
    stream = numbers(kstash.App("app")).window(windows)
    return stream.aggregate("n", int, max, value=kstash.int_text, merge=max)


def sent(driver: TestDriver, topic: str = "out") -> list[Row]:
    """(Key, start, value, timestamp) of what has left."""
    return [(*out.key[:2], out.value, out.timestamp_ms) for out in driver.read(topic)]


def feed(driver: TestDriver, *rows: tuple[str | None, int | None, int]) -> None:
    """Send (key, value, timestamp)."""
    for key, value, timestamp in rows:
        driver.send("in", value, key=key, timestamp_ms=timestamp)


def drops(driver: TestDriver) -> dict[str, int]:
    """What was dropped, by reason."""
    (group,) = driver.rig.worker.groups.values()
    found: dict[str, int] = {}
    for task in group.tasks.values():
        for (_, reason), count in task.program.dropped.items():
            found[reason] = found.get(reason, 0) + count
    return found


def test_late_records_are_in_a_stream_of_their_own() -> None:
    """With their value and all windows that they missed; also of `count`, which reads none."""
    app = kstash.App("app")
    counts = numbers(app).window(kstash.hopping(ms(10), ms(4))).count("n")
    counts.to("out")
    shown = counts.late().map_values(lambda late: [late.value, *late.windows])
    shown.to("late", value=kstash.json)
    counts.late().map_values(lambda late: len(late.windows)).to("again", value=kstash.int_text)
    with TestDriver(app) as driver:
        feed(driver, ("a", 1, 50), ("a", 2, 5), ("a", 3, 44))
        (late,) = driver.read("late")
        assert (late.key, late.value, late.timestamp_ms) == ("a", [2, [0, 10], [4, 14]], 5)
        assert [record.value for record in driver.read("again")] == [2]
        assert [row[1] for row in sent(driver)] == [44, 48, 44]
        assert drops(driver) == {"late": 2 + 2}  # [36, 46] and [40, 50] had closed for 44


def test_a_record_before_the_first_window_is_in_none() -> None:
    """No window begins before 1970; such a record moves no time."""
    app = kstash.App("app")
    counts = numbers(app).window(kstash.tumbling(ms(10), offset=ms(5))).count("n")
    counts.to("out")
    counts.late().map_values(lambda late: list(late.windows)).to("late", value=kstash.json)
    with TestDriver(app) as driver:
        feed(driver, ("a", 1, 4), ("a", 1, 5))
        assert sent(driver) == [("a", 5, 1, 5)]
        assert [record.value for record in driver.read("late")] == [[]]
        assert drops(driver) == {"no_window": 1}


@pytest.mark.parametrize("fold", ["count", "sum", "min", "max", "mean", "collect"])
def test_nulls_are_dropped_and_move_no_time(fold: str) -> None:
    """Null keys always, null values but for `count`."""
    app = kstash.App("app")
    getattr(numbers(app).window(TEN), fold)("n").to("out", value=kstash.json)
    with TestDriver(app) as driver:
        feed(driver, ("a", 1, 5), (None, 1, 500), ("a", None, 6), ("a", 3, 7))
        values = {"count": 3, "sum": 4, "min": 1, "max": 3, "mean": 2.0, "collect": [1, 3]}
        assert sent(driver)[-1] == ("a", 0, values[fold], 7)
        nulls = {} if fold == "count" else {"null_value": 1}
        assert drops(driver) == {"null_key": 1, **nulls}


@pytest.mark.parametrize("fold", ["min", "max", "mean", "collect"])
def test_folds_without_windows(fold: str) -> None:
    """The same folds of each key, also after a restart."""
    app = kstash.App("app")
    getattr(numbers(app), fold)("n").to("out", value=kstash.json)
    with TestDriver(app) as driver:
        feed(driver, ("a", 2, 1), ("b", 9, 1), ("a", 1, 1))
        driver.crash()
        driver.recover()
        feed(driver, ("a", 6, 1))
        values = {
            "min": [2, 9, 1, 1],
            "max": [2, 9, 2, 6],
            "mean": [2.0, 9.0, 1.5, 3.0],
            "collect": [[2], [9], [2, 1], [2, 1, 6]],
        }
        assert [out.value for out in driver.read("out")] == values[fold]


def test_a_mean_beyond_all_floats_is_infinite() -> None:
    """Integers have no bound."""
    app = kstash.App("app")
    numbers(app).mean("n").to("out")
    with TestDriver(app) as driver:
        feed(driver, ("a", -(10**400), 1))
        assert [out.value for out in driver.read("out")] == [float("-inf")]


def test_an_emptied_window_begins_anew() -> None:
    """`DELETE` sends a tombstone and forgets the timestamps too; a final result there is none."""
    app = kstash.App("app")

    def until_zero(state: int, value: int) -> int | kstash.Deletion:
        return state + value if value else kstash.DELETE

    stream = numbers(app)
    stream.window(TEN).reduce("n", until_zero).to("out")
    stream.window(TEN, emit="final").reduce("f", until_zero).to("finals")
    with TestDriver(app) as driver:
        feed(driver, ("a", 1, 7), ("a", 0, 3))
        assert driver.state("n") == {}
        feed(driver, ("a", 5, 2))
        assert sent(driver) == [("a", 0, 1, 7), ("a", 0, None, 7), ("a", 0, 5, 2)]
        feed(driver, ("b", 1, 15), ("b", 0, 16), ("c", 1, 30))
        assert sent(driver, "finals") == [("a", 0, 5, 2)]


def test_closed_windows_leave_no_state() -> None:
    """In both modes; what people see of a store has no timestamps."""
    app = kstash.App("app")
    numbers(app).window(TEN, grace=ms(5)).count("n").to("out")
    numbers(app).window(TEN, emit="final").count("f").to("finals")
    with TestDriver(app) as driver:
        feed(driver, ("a", 1, 9), ("a", 1, 14))
        assert driver.state("n") == {
            kstash.Windowed("a", 0, 10): 1,
            kstash.Windowed("a", 10, 20): 1,
        }
        assert driver.state("f") == {kstash.Windowed("a", 10, 20): 1}
        feed(driver, ("b", 1, 40))
        assert driver.state("n") == driver.state("f") == {kstash.Windowed("b", 40, 50): 1}


def test_many_windows_close_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in order, before whatever comes after the record that closed them."""
    monkeypatch.setattr(aligned, "PART_RECORDS", 3)
    app = kstash.App("app")
    counts = numbers(app).window(TEN, emit="final").count("n")
    counts.to("out")
    counts.late().map_values(lambda late: late.value).to("late", value=kstash.int_text)
    keys = [f"k{number:02d}" for number in range(10)]
    with TestDriver(app) as driver:
        feed(driver, *[(key, 1, 5) for key in keys], ("z", 1, 1000), ("a", 7, 3))
        assert sent(driver) == [(key, 0, 1, 5) for key in keys]
        assert [out.value for out in driver.read("late")] == [7]


def test_a_record_in_many_windows_sends_in_parts() -> None:
    """Records before others: no step folds two, or has more results than a part."""
    stage = stage_of(lambda stream: stream.window(kstash.hopping(ms(600), ms(1))).count("n"))
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    program = StageProgram(stage, state)
    program.process(0, batch_of(("a", 1, 599), ("b", 1, 599)))
    parts, kept, serde = [], [], kstash.windowed(kstash.text, ms(600))
    while True:
        ((_, batch, _),) = program.take_outputs()
        kept.append(len(state.store("n").items()))
        parts.append([serde.deserialize(key) for key in batch.keys if key is not None])
        if not program.has_work:
            break
        program.go_on()
    assert list(map(len, parts)) == [500, 100, 500, 100]
    assert kept == [600, 600, 1200, 1200]
    assert [window for part in parts for window in part] == [
        kstash.Windowed(key, start, start + 600) for key in "ab" for start in range(600)
    ]


@pytest.mark.parametrize("emit", ["update", "final"])
@pytest.mark.parametrize("delivery", ["immediate", "transactional"])
def test_a_crash_between_the_parts_of_a_record(
    emit: Any, delivery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any write: what leaves is what leaves without a bound and a crash."""

    def told(writes: int | None) -> tuple[list[Any], bool]:
        app = kstash.App("app", checkpoint_interval_ms=1_000)
        windowed = numbers(app).window(kstash.hopping(ms(10), ms(2)), emit=emit)
        windowed.count("n").to("out", delivery=delivery)
        with TestDriver(app) as driver:
            driver.crash_after(writes)
            for row in (("a", 1, 20), ("b", 1, 21), ("a", 1, 25), ("z", 1, 100)):
                driver.send("in", row[1], key=row[0], timestamp_ms=row[2])
            is_over = driver.is_running
            driver.crash_after(None)
            if not is_over:
                driver.recover()
            driver.advance(3)
            return sent(driver), is_over

    expected, _ = told(None)
    for module in (aligned, aligned_nodes):
        monkeypatch.setattr(module, "PART_RECORDS", 2)
    for writes in range(300):
        found, is_over = told(writes)
        assert found == expected, writes
        if is_over:
            assert writes > 10
            return
    raise AssertionError("it writes ever on")


def stage_of(build: Callable[[Stream], kstash.Stream[Any, Any]]) -> Stage:
    """The stage of a program."""
    app = kstash.App("app")
    build(numbers(app)).to("out", value=kstash.json)
    (stage,) = app.topology().stages
    return stage


def batch_of(*rows: tuple[str, int, int]) -> Batch:
    """Records (key, value, timestamp)."""
    keys, values, stamps = zip(*rows, strict=True)
    return Batch([key.encode() for key in keys], [b"%d" % v for v in values], list(stamps))


def test_closed_windows_are_forgotten_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is sent of them; what records send has left before."""
    monkeypatch.setattr(aligned, "FORGOTTEN_AT_ONCE", 3)
    stage = stage_of(lambda stream: stream.window(TEN).count("n"))
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    program = StageProgram(stage, state)
    program.process(0, batch_of(*[(f"k{number}", 1, 5) for number in range(10)]))
    program.process(0, batch_of(("z", 1, 1000), ("z", 1, 1001)))
    left = []
    while program.has_work:
        left.append(len(state.store("n").items()))
        program.go_on()
    assert left == [1 + 7, 1 + 4, 1 + 1]
    assert len(state.store("n").items()) == 1
    assert program.pending == 12


@pytest.mark.parametrize(
    ("windows", "emit", "is_one_by_one"),
    [
        (TEN, "update", False),
        (TEN, "final", True),
        (kstash.hopping(ms(500), ms(1)), "update", False),
        (kstash.hopping(ms(501), ms(1)), "update", True),
    ],
    ids=str,
)
def test_where_branches_meet_again(
    windows: kstash.Windows, emit: Emit, is_one_by_one: bool
) -> None:
    """Records come one by one where results come in parts, and not where they do not."""

    def met(stream: Stream) -> kstash.Stream[Any, Any]:
        counts = stream.window(windows, emit=emit).count("n")
        return counts.map_values(str).merge(counts.map_values(repr))

    def around(stream: Stream) -> kstash.Stream[Any, Any]:
        first = stream.window(windows, emit=emit).count("n")
        return first.merge(stream.window(windows).count("m"))

    for build, expected in ((met, False), (around, is_one_by_one)):
        stage = stage_of(build)
        assert takes_one_by_one(stage, stage.entries[:1]) is expected


def test_a_record_that_fails_in_one_window_is_in_none() -> None:
    """Those before and after it in the batch are in theirs, and nothing is folded one by one."""
    calls: list[tuple[int, int]] = []

    def added(old: int, new: int) -> int:
        calls.append((old, new))
        if old + new == 11:
            raise ValueError("eleven")
        return old + new

    windows = kstash.hopping(ms(10), ms(5))
    stage = stage_of(lambda stream: stream.window(windows).reduce("n", added))
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    program = StageProgram(stage, state, decide=lambda _: Decision.SKIP)
    # At 8 the first window takes it, and the second one does not.
    program.process(0, batch_of(("a", 10, 3), ("a", 5, 7), ("a", 6, 8), ("a", 1, 9), ("a", 2, 6)))
    ((_, made, _),) = program.take_outputs()
    assert made.values == [b"10", b"15", b"5", b"16", b"6", b"18", b"8"]
    assert list(program.skipped.values()) == [1]
    assert made.timestamps == [3, 7, 7, 9, 9, 9, 9]
    # The two windows of what stood before it were folded again, and nothing else.
    assert calls == [(10, 5), (15, 6), (5, 6), (10, 5), (15, 1), (5, 1), (16, 2), (6, 2)]


def test_an_emptied_window_forgets_its_timestamps_within_a_batch() -> None:
    """As it does between two."""

    def until_zero(state: int, value: int) -> int | kstash.Deletion:
        return state + value if value else kstash.DELETE

    stage = stage_of(lambda stream: stream.window(TEN).reduce("n", until_zero))
    program = StageProgram(stage, MemoryBackend().task("n", 0).open(stage.stores, base=None))
    program.process(0, batch_of(("a", 1, 7), ("a", 0, 3), ("a", 5, 2), ("a", 1, 1)))
    ((_, made, _),) = program.take_outputs()
    assert made.timestamps == [7, 7, 2, 2]


def test_a_record_that_fails_closes_nothing() -> None:
    """It has moved no time: what came before it is in a window that is open."""

    def unlucky(state: int, value: int) -> int:
        if value == 13:
            raise ValueError(value)
        return state + value

    def folded(stream: Stream) -> kstash.Stream[Any, Any]:
        windowed = stream.window(TEN, emit="final")
        return windowed.aggregate("n", int, unlucky, value=kstash.int_text)

    stage = stage_of(folded)
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    program = StageProgram(stage, state, decide=lambda _: Decision.SKIP)
    program.process(0, batch_of(("a", 1, 5), ("a", 13, 1000), ("a", 2, 6)))
    assert program.take_outputs() == []
    assert [entry for _, entry in state.store("n").items()] == [(3, 6)]


@pytest.mark.parametrize("emit", ["update", "final"])
@pytest.mark.parametrize(("time", "is_late"), [(89, False), (90, True)])
def test_a_record_may_be_late_by_its_own_time(emit: Emit, time: int, is_late: bool) -> None:
    """A result has the time that its operator had come to; nothing else told the second one."""
    app = kstash.App("app")
    first = numbers(app).window(TEN, grace=ms(50)).count("first")
    kept = first.records().filter(lambda record: record.key.key != "a").map_values(lambda _: 1)
    counts = kept.window(TEN, emit=emit).count("second")
    counts.to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        feed(driver, ("a", 1, time), ("b", 1, 85))
        assert drops(driver) == ({"late": 1} if is_late else {})
        assert len(driver.read("out")) == (emit == "update" and not is_late)


@pytest.mark.parametrize("windows", [TEN, kstash.hopping(ms(10), ms(5))])
def test_results_on_update_hold_time_back_as_their_records_do(windows: kstash.Windows) -> None:
    """What the source holds back is held back in the second window too."""
    app = kstash.App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.int_text, out_of_order=ms(20))
    first = stream.window(windows).count("first")
    first.window(TEN, emit="final").count("second").to("out", value=kstash.int_text)
    with TestDriver(app) as driver:
        feed(driver, ("a", 1, 100), ("a", 1, 85))
        assert drops(driver) == {}
        assert driver.read("out") == []


def test_results_of_a_batch_in_several_windows_carry_what_their_records_do() -> None:
    """Also where not all are in as many."""
    windows = kstash.hopping(ms(10), ms(5))
    stage = stage_of(lambda stream: stream.window(windows, grace=ms(50)).count("n"))
    program = StageProgram(stage, MemoryBackend().task("n", 0).open(stage.stores, base=None))
    batch = batch_of(("a", 1, 3), ("a", 2, 57), ("b", 3, 54))
    batch.headers = [[("h", b"0")], None, [("h", b"2")]]
    program.process(0, batch)
    ((_, made, _),) = program.take_outputs()
    assert made.values == [b"1", b"1", b"1", b"1", b"1"]
    assert made.headers == [[("h", b"0")], None, None, *2 * [[("h", b"2")]]]
    assert made.timestamps == [3, 57, 57, 54, 54]


@pytest.mark.parametrize("emit", ["update", "final"])
def test_a_second_window_of_a_stage(emit: Emit) -> None:
    """What holds results back holds time back: nothing of final results is late in the next."""
    app = kstash.App("app")
    first = numbers(app).window(TEN, grace=ms(20), emit=emit).sum("first", value=kstash.int_text)
    fives = first.window(kstash.tumbling(ms(5)), emit="final")
    fives.sum("second", value=kstash.int_text).to("out")
    case: dict[str, Any] = {
        "ops": [
            {"window": "tumbling", "size": 10, "grace": 20, "fold": "sum", "emit": emit},
            {"window": "tumbling", "size": 5, "grace": 0, "fold": "sum", "emit": "final"}
            | {"between": "stage"},
        ],
        "in": [
            *(["a", 1, 9], ["b", 2, 3], ["b", 5, 12], ["a", 4, 11]),
            *(["a", 8, 31], ["a", 1, 400], ["a", 1, 900]),
        ],
    }

    class ByWindow(Chain):
        """The second key is that of the first one's windows."""

        def passed(self, spec: dict[str, Any], result: Result) -> Record:
            record = super().passed(spec, result)
            return record._replace(key=f"{result.key}\0{result.start:05d}")

    made = []
    with TestDriver(app) as driver:
        for row in case["in"]:
            feed(driver, tuple(row))
            made.append(
                [
                    [f"{out.key.key.key}\0{out.key.key.start_ms:05d}", *out.key[1:], out.value]
                    for out in driver.read("out")
                ]
            )
        expected, dropped = said(ByWindow(case["ops"]), case)
        assert made == [[row[:4] for row in step] for step in expected]
        assert sum(drops(driver).values()) == sum(dropped) == (emit == "update")


def test_results_lie_with_their_key() -> None:
    """The inner key decides the partition, at a sink and at a repartition; Java's bytes."""
    app = kstash.App("app")
    minutes = kstash.tumbling(timedelta(minutes=1))
    counts = numbers(app).window(minutes).count("n")
    counts.to("out")
    counts.repartition("again").to("moved")
    keys = [f"key-{number}" for number in range(20)]
    with TestDriver(app, partitions=5) as driver:
        feed(driver, *[(key, 1, 120_000) for key in keys])
        outputs = driver.read("out") + driver.read("moved")
        assert len(outputs) == 40
        for out in outputs:
            assert out.partition == (murmur2(out.key.key.encode()) & 0x7FFFFFFF) % 5
        for key in keys:
            assert driver.state("n")[kstash.Windowed(key, 120_000, 180_000)] == 1


def test_a_windowed_input_goes_where_java_puts_it() -> None:
    """A driver spreads records as a Java producer of such keys does; state finds them there."""
    app = kstash.App("app")
    serde = kstash.windowed(kstash.text, timedelta(minutes=1))
    app.stream("in", key=serde, value=kstash.int_text).sum("total").to("out")
    with TestDriver(app, partitions=7) as driver:
        for start in range(0, 600_000, 60_000):
            driver.send("in", 1, key=kstash.Windowed("a", start, start + 60_000))
        assert {out.partition for out in driver.read("out")} == {(murmur2(b"a") & 0x7FFFFFFF) % 7}


def test_the_windows_are_part_of_what_a_store_holds() -> None:
    """Another size needs another name; another grace only a drain."""

    def program(size: int, grace: int) -> kstash.App:
        app = kstash.App("app")
        numbers(app).window(kstash.tumbling(ms(size)), grace=ms(grace)).count("n").to("out")
        return app

    stage = program(10, 0).topology().stages[0]
    contents = [store.contents for store in stage.keyed_stores]
    assert contents[0] == "count (ordered) by tumbling(10 ms) update start, text -> " + (
        "timestamp, int_text"
    )
    with TestDriver(program(10, 0)) as driver:
        feed(driver, ("a", 1, 5))
        driver.drain()
        driver.recover(program(10, 20))
        feed(driver, ("a", 1, 25), ("a", 1, 6))
        assert sent(driver)[-1] == ("a", 0, 2, 6)
        driver.crash()
        with pytest.raises(ProgramChangedError, match="grace=20 ms"):
            driver.recover(program(10, 0))
        driver.recover(program(10, 20))
        driver.drain()
        with pytest.raises(ProgramChangedError, match="store n"):
            driver.recover(program(20, 20))


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: kstash.tumbling(ms(0)), "size is 0:00:00: it takes whole milliseconds, 1 or more"),
        (
            lambda: kstash.tumbling(timedelta(microseconds=1500)),
            "0:00:00.001500: it takes whole milliseconds",
        ),
        (lambda: kstash.tumbling(ms(10), offset=ms(10)), "take the rest of it"),
        (lambda: kstash.tumbling(ms(10), offset=ms(-10)), "milliseconds, -9 or more"),
        (lambda: kstash.hopping(ms(10), ms(11)), "records between two windows"),
        (lambda: kstash.session(timedelta(minutes=-5)), "gap is -0:05:00: it takes whole"),
        (lambda: numbers(kstash.App("app")).window(TEN, grace=ms(-1)), "grace is -0:00:00.001"),
        *(
            (partial(merging, windows), "merge= is for sessions")
            for windows in (TEN, kstash.hopping(ms(10), ms(5)), kstash.sliding(ms(10)))
        ),
        (
            lambda: numbers(kstash.App("app")).window(TEN, emit=cast("Any", "all")),
            "emit of tumbling(10 ms) is 'update' or 'final'",
        ),
    ],
)
def test_measures_that_there_are_not(declare: Any, message: str) -> None:
    """Each is refused as it is declared."""
    with pytest.raises(TopologyError) as caught:
        declare()
    assert message in str(caught.value)


def test_an_offset_may_be_negative() -> None:
    """Days of a place ahead of UTC begin before midnight."""
    assert str(kstash.tumbling(ms(10), offset=ms(-2))) == "tumbling(10 ms, offset=8 ms)"
    assert str(kstash.hopping(timedelta(hours=1), ms(1500))) == "hopping(3600 s, 1500 ms)"

"""Session windows: what merges, what closes, what is sent and in which order, how it is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App, Windowed, WindowedStream
from kstash.errors import TopologyError
from kstash.operators.batch import Batch
from kstash.operators.program import StageProgram
from kstash.operators.step import Decision
from kstash.testing.state import MemoryBackend
from kstash.topology.traits import PART_RECORDS

Fold = Callable[[WindowedStream[Any, Any]], Any]
Row = tuple[str, int, int, Any, int]


def ms(number: int) -> timedelta:
    """So many milliseconds."""
    return timedelta(milliseconds=number)


def count(windows: WindowedStream[Any, Any]) -> Any:
    """The fold of most of these tests."""
    return windows.count("n")


class Sessions:
    """A task with sessions of a gap of 10 ms."""

    def __init__(
        self, fold: Fold = count, *, grace: int = 0, emit: Any = "update", **more: Any
    ) -> None:
        app = App("app")
        clicks = app.stream("in", key=kstash.text, value=kstash.json)
        results = fold(clicks.window(kstash.session(ms(10)), grace=ms(grace), emit=emit))
        results.to("out", value=kstash.json)
        results.late().to("late", value=kstash.json)
        (self.stage,) = app.topology().stages
        self.state = MemoryBackend().task("n", 0).open(self.stage.stores, base=None)
        self.program = StageProgram(self.stage, self.state, **more)
        self.parts: list[int] = []

    def feed(self, *records: tuple[str, int, Any], port: str = "out") -> list[Row]:
        """(Key, start, end, value, timestamp) of what records (key, timestamp, value) make."""
        keys, stamps, values = map(list, zip(*records, strict=True))
        data = [kstash.json.serialize(value) for value in values]
        self.program.process(0, Batch([key.encode() for key in keys], data, stamps))
        made = self.taken(port)
        while self.program.has_work:
            self.program.go_on()
            made += self.taken(port)
        return made

    def taken(self, port: str) -> list[Row]:
        """What one part made."""
        rows: list[Row] = []
        for index, batch, _ in self.program.take_outputs():
            output = self.stage.outputs[index]
            if output.topic == port:
                for key, value, stamp in zip(
                    batch.keys, batch.values, batch.timestamps, strict=True
                ):
                    assert key is not None
                    window = output.key.deserialize(key)
                    if not isinstance(window, Windowed):
                        window = Windowed(window, 0, 0)
                    read = None if value is None else kstash.json.deserialize(value)
                    rows.append((*window, read, stamp))
        self.parts.append(len(rows))
        return rows

    def at(self, *stamps: int, key: str = "a") -> list[Row]:
        """The same of records of one key, each of value 1."""
        return self.feed(*((key, stamp, 1) for stamp in stamps))

    def kept(self) -> dict[str, list[Any]]:
        """All that is in the stores."""
        return {spec.name: self.state.store(spec.name).items() for spec in self.stage.stores}


def test_a_distance_of_the_gap_merges() -> None:
    """And one more millisecond does not; who fills the place between two makes one of them."""
    sessions = Sessions(grace=100)
    assert sessions.at(10, 20, 31) == [
        ("a", 10, 10, 1, 10),
        ("a", 10, 10, None, 10),
        ("a", 10, 20, 2, 20),
        ("a", 31, 31, 1, 31),
    ]
    assert sessions.at(25) == [
        ("a", 10, 20, None, 20),
        ("a", 31, 31, None, 31),
        ("a", 10, 31, 4, 31),
    ]


def test_a_session_that_does_not_change_sends_no_null() -> None:
    """Its new value stands under the key of the old one."""
    sessions = Sessions(grace=100)
    sessions.at(10, 20)
    assert sessions.at(15, 10, 20) == [("a", 10, 20, n, 20) for n in (3, 4, 5)]


def test_an_earlier_record_makes_a_session_longer() -> None:
    """To its front too; and a much earlier one stands by itself."""
    sessions = Sessions(grace=100)
    sessions.at(50)
    assert sessions.at(45) == [("a", 50, 50, None, 50), ("a", 45, 50, 2, 50)]
    assert sessions.at(30) == [("a", 30, 30, 1, 30)]
    assert sessions.at(36) == [
        ("a", 30, 30, None, 30),
        ("a", 45, 50, None, 50),
        ("a", 30, 50, 4, 50),
    ]


@pytest.mark.parametrize(("time", "merges"), [(35, True), (36, False)])
def test_a_closed_session_takes_no_part_in_merges(time: int, merges: bool) -> None:
    """It is closed when time > end + gap + grace."""
    sessions = Sessions(grace=5)
    sessions.at(20)
    sessions.at(time, key="b")
    made = sessions.at(30)
    assert made[-1] == (("a", 20, 30, 2, 30) if merges else ("a", 30, 30, 1, 30))
    assert (made[0][3] is None) is merges


@pytest.mark.parametrize(("time", "is_late"), [(35, False), (36, True)])
def test_a_record_is_late_for_a_closed_session_of_its_own(time: int, is_late: bool) -> None:
    """It is dropped, counted and sent aside with the session that it would have made."""
    sessions = Sessions(grace=5)
    sessions.at(time, key="b")
    late = sessions.feed(("a", 20, "x"), port="late")
    assert late == ([("a", 0, 0, ["x", [[20, 20]]], 20)] if is_late else [])
    (drops,) = {*sessions.program.dropped.values()} or {0}
    assert drops == is_late


def test_an_old_record_of_an_open_session_is_not_late() -> None:
    """However old it is: the session that it extends is open."""
    sessions = Sessions(grace=5)
    sessions.at(30, 40, 55)
    assert sessions.at(20)[-1] == ("a", 20, 40, 3, 40)
    assert not sessions.program.dropped


def test_a_late_record_moves_no_time() -> None:
    """Nor does one without a key or with a null value that is not counted."""
    sessions = Sessions(lambda w: w.sum("n"), emit="final")
    sessions.at(50)
    assert sessions.feed(("a", 2, 1), ("a", 90, None)) == []
    assert sessions.at(60) == []
    assert sessions.at(71) == [("a", 50, 60, 2, 60)]


def test_sessions_close_in_order() -> None:
    """By end, start and key, all at once by whatever jump; each has one result."""
    sessions = Sessions(grace=200, emit="final")
    records = [("b", 30), ("a", 25), ("a", 30), ("c", 20), ("c", 30), ("a", 55), ("b", 10)]
    assert sessions.feed(*((key, at, 1) for key, at in records)) == []
    assert sessions.at(10**9, key="z") == [
        ("b", 10, 10, 1, 10),
        ("c", 20, 30, 2, 30),
        ("a", 25, 30, 2, 30),
        ("b", 30, 30, 1, 30),
        ("a", 55, 55, 1, 55),
    ]
    assert sessions.at(2 * 10**9, key="z") == [("z", 10**9, 10**9, 1, 10**9)]


def test_what_a_record_closes_is_sent_before_it() -> None:
    """A session in whose gap the record lies is closed first when it is so by its time."""
    sessions = Sessions(emit="final")
    assert sessions.at(10, 20) == []
    assert sessions.at(31) == [("a", 10, 20, 2, 20)]


@pytest.mark.parametrize(
    ("fold", "value"),
    [
        (count, 3),
        (lambda w: w.sum("n"), 9),
        (lambda w: w.reduce("n", lambda old, new: old * 10 + new), 342),
        (lambda w: w.min("n"), 2),
        (lambda w: w.max("n"), 4),
        (lambda w: w.mean("n"), 3.0),
        (lambda w: w.collect("n"), [3, 4, 2]),
        (
            lambda w: w.aggregate(
                "n",
                list,
                lambda state, new: [*state, new],
                merge=lambda one, other: [*one, "and", *other],
                value=kstash.json,
            ),
            [3, "and", 4, 2],
        ),
    ],
    ids=["count", "sum", "reduce", "min", "max", "mean", "collect", "aggregate"],
)
def test_each_fold_merges(fold: Fold, value: Any) -> None:
    """The states from the earliest session on, and then the record."""
    sessions = Sessions(fold, grace=100)
    sessions.feed(("a", 30, 4), ("a", 12, 3))
    assert sessions.feed(("a", 21, 2))[-1][3] == value


def test_an_aggregate_of_sessions_wants_a_merge() -> None:
    """It is asked for where the program is declared."""
    with pytest.raises(TopologyError, match="merge="):
        Sessions(lambda w: w.aggregate("n", list, lambda s, v: [*s, v], value=kstash.json))
    wrong: Any = len
    with pytest.raises(TopologyError, match="merge"):
        Sessions(
            lambda w: w.aggregate("n", list, lambda s, v: [*s, v], merge=wrong, value=kstash.json)
        )


def test_a_merge_that_returns_none_fails_at_its_record() -> None:
    """As any function of a fold does."""
    sessions = Sessions(
        lambda w: w.aggregate(
            "n", list, lambda s, v: [*s, v], merge=lambda _, __: None, value=kstash.json
        ),
        grace=100,
    )
    sessions.at(10, 30)
    with pytest.raises(kstash.errors.OperatorError, match="returned None") as raised:
        sessions.at(40, 20)
    assert raised.value.record_index == 1


def test_delete_ends_a_session() -> None:
    """What was sent of it is taken back; the next record begins one of its own."""
    sessions = Sessions(
        lambda w: w.reduce("n", lambda old, new: kstash.DELETE if new == 0 else old + new),
        grace=100,
    )
    sessions.feed(("a", 10, 1), ("a", 15, 2))
    assert sessions.feed(("a", 12, 0)) == [("a", 10, 15, None, 15)]
    assert sessions.kept()["n"] == []
    assert sessions.kept()["n.queue"] == []
    assert sessions.feed(("a", 13, 5)) == [("a", 13, 13, 5, 13)]


def refuse_nines(state: list[Any], value: Any) -> list[Any]:
    """Change the state in place, and only then raise."""
    state.append(value)
    if value == 9:
        raise LookupError(value)
    return state


@pytest.mark.parametrize("emit", ["update", "final"])
def test_a_record_that_fails_has_done_nothing(emit: str) -> None:
    """It moves no time, closes nothing, merges nothing and leaves nothing in a state."""

    def made(*records: tuple[str, int, Any]) -> tuple[list[Row], dict[str, list[Any]]]:
        sessions = Sessions(
            lambda w: w.aggregate(
                "n", list, refuse_nines, merge=lambda one, other: one + other, value=kstash.json
            ),
            grace=5,
            emit=emit,
            decide=lambda _: Decision.SKIP,
        )
        return sessions.feed(*records), sessions.kept()

    good = [("a", 10, 1), ("a", 22, 2), ("b", 24, 3), ("a", 18, 4), ("a", 100, 5)]
    bad = [("a", 16, 9), ("c", 1000, 9), ("b", 24, 9)]
    assert made(*good[:3], *bad, *good[3:]) == made(*good)


def test_what_was_sent_shares_nothing_with_the_state() -> None:
    """A function that changes its state in place changes no result that is out."""
    sessions = Sessions(
        lambda w: w.aggregate(
            "n", list, refuse_nines, merge=lambda one, other: one + other, value=kstash.json
        )
    )
    made = sessions.feed(("a", 10, 1), ("a", 10, 2), ("a", 10, 3))
    assert [row[3] for row in made] == [[1], [1, 2], [1, 2, 3]]


def test_very_many_sessions_close_in_parts() -> None:
    """Each of a bounded size, and all before the record that closes them."""
    sessions = Sessions(emit="final")
    number = 2 * PART_RECORDS + 7
    keys = [f"{index:05}" for index in range(number)]
    sessions.feed(*((key, 5, 1) for key in keys))
    sessions.parts = []
    made = sessions.feed(("z", 5, 1), ("z", 16, 1), ("z", 27, 1))
    assert made == [*((key, 5, 5, 1, 5) for key in keys), ("z", 5, 5, 1, 5), ("z", 16, 16, 1, 16)]
    assert len(sessions.parts) == 3
    assert max(sessions.parts) <= PART_RECORDS + 3


def test_a_session_that_grows_stays_where_it_is_in_the_queue() -> None:
    """It is put at its end when its turn would come, and found there by its end and start."""
    sessions = Sessions(grace=5, emit="final")
    sessions.at(10)
    before = sessions.kept()["n.queue"]
    sessions.at(15, 20, 25)
    assert sessions.kept()["n.queue"] == before
    sessions.at(26)
    (moved,) = sessions.kept()["n.queue"]
    assert moved[0] == (25).to_bytes(8, "big") + (10).to_bytes(8, "big") + b"a"
    assert sessions.at(41, key="b") == []
    assert sessions.at(42, key="b") == [("a", 10, 26, 5, 26)]


def test_nothing_is_left_of_what_is_closed() -> None:
    """In both modes: memory and disk hold what is open."""
    for emit in ("update", "final"):
        sessions = Sessions(emit=emit)
        sessions.feed(*((f"{index}", index, 1) for index in range(50)))
        sessions.at(1000)
        kept = sessions.kept()
        assert [key for key, _ in kept["n"]] == [b"a"]
        assert len(kept["n.queue"]) == 1
        assert kept["n.time"] == [(b"", 1000), (b"grace", 0), (b"last", 1000)]


def test_keys_are_those_of_kafka_streams() -> None:
    """Its SessionWindowedSerde: the key, the end and the start; the key decides the partition."""
    serde = kstash.windowed(kstash.text)
    data = serde.serialize(Windowed("ab", 1, 258))
    assert data == b"ab" + bytes(6) + b"\x01\x02" + bytes(7) + b"\x01"
    assert serde.deserialize(data) == Windowed("ab", 1, 258)
    assert serde.partitioned_by is not None
    assert serde.partitioned_by(data) == b"ab"
    nested = kstash.windowed(serde)
    assert nested.partitioned_by is not None
    assert nested.partitioned_by(nested.serialize(Windowed(Windowed("k", 1, 2), 3, 4))) == b"k"
    with pytest.raises(ValueError, match="no room"):
        serde.deserialize(b"short")
    wrong: Any = ("ab", 1, 2)
    with pytest.raises(TypeError, match="takes Windowed"):
        serde.serialize(wrong)


def test_a_gap_is_a_whole_number_of_milliseconds() -> None:
    """One at least; the program shows it."""
    for wrong in (ms(0), timedelta(microseconds=1500)):
        with pytest.raises(TopologyError, match="gap"):
            kstash.session(wrong)
    assert str(kstash.session(timedelta(minutes=30))) == "session(1800 s)"


def test_nothing_is_late_in_a_second_window() -> None:
    """Final results carry the time at which they close, less what was held back."""
    app = App("app")
    clicks = app.stream("in", key=kstash.text, value=kstash.json)
    first = clicks.window(kstash.session(ms(10)), grace=ms(5), emit="final").count("n")
    second = first.window(kstash.tumbling(ms(1)), emit="final").count("m")
    second.late().to("late", value=kstash.json)
    second.to("out", value=kstash.json)
    (stage,) = app.topology().stages
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    program = StageProgram(stage, state)
    keys = [b"a", b"b", b"a", b"c", b"z"]
    program.process(0, Batch(keys, [b"1"] * 5, [10, 12, 20, 40, 200]))
    (made,) = program.take_outputs()
    assert stage.outputs[made[0]].topic == "out"
    assert made[1].timestamps == [12, 20]


def test_a_record_may_itself_close_the_session_beside_it() -> None:
    """Its time may be later than its timestamp: then the session is closed, and it is late."""
    app = App("app")
    clicks = app.stream("in", key=kstash.text, value=kstash.json)
    sums = clicks.window(kstash.tumbling(ms(100)), grace=ms(200)).sum("n", value=kstash.json)
    # What is filtered has moved the time of the first operator, and not that of the second.
    second = sums.filter(bool).window(kstash.session(ms(10))).count("m")
    second.to("out", value=kstash.json)
    second.late().to("late", value=kstash.json)
    (stage,) = app.topology().stages
    state = MemoryBackend().task("n", 0).open(stage.stores, base=None)
    program = StageProgram(stage, state)
    program.process(0, Batch([b"a", b"b", b"a"], [b"1", b"0", b"1"], [20, 130, 25]))
    made = {stage.outputs[index].topic: batch for index, batch, _ in program.take_outputs()}
    assert made["out"].values == [b"1"]
    assert made["late"].values == [b"[2,[[25,25]]]"]
    assert state.store("m.time").items() == [(b"", 20), (b"grace", 0), (b"last", 20)]

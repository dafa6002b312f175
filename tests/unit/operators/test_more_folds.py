"""`statistics` and `aggregate_all`: of keys, of windows, and where windows become one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import kstash
from kstash import App, KeyedStream, Statistics, Windowed, folds
from kstash.errors import OperatorError, TopologyError
from kstash.testing import TestDriver
from kstash.topology.keyed_nodes import AggregateAll
from kstash.topology.model import store_of

MINUTE = timedelta(minutes=1)


def cents(order: dict[str, Any]) -> int:
    """Of an order."""
    return int(order["cents"])


ALL: dict[str, Any] = {
    "number": folds.count(),
    "total": folds.sum(cents),
    "least": folds.min(cents),
    "most": folds.max(cents),
    "mean": folds.mean(cents),
    "first": folds.first(lambda order: order.get("who")),
    "last": folds.last(lambda order: order.get("who")),
    "all": folds.collect(cents),
    "product": folds.reduce(lambda one, other: one * other, cents),
    "spread": folds.statistics(cents),
}


def expected(*amounts: int, who: list[str | None]) -> dict[str, Any]:
    """What `ALL` makes of orders."""
    product, known = 1, Statistics()
    for amount in amounts:
        product, known = product * amount, known.add(amount)
    return {
        "number": len(amounts),
        "total": sum(amounts),
        "least": min(amounts),
        "most": max(amounts),
        "mean": sum(amounts) / len(amounts),
        "first": who[0],
        "last": who[-1],
        "all": list(amounts),
        "product": product,
        "spread": pytest.approx(known.as_dict()),
    }


def orders(app: App) -> KeyedStream[str, Any]:
    """The source."""
    return app.stream("orders", key=kstash.text, value=kstash.json)


def test_several_folds_in_one_state() -> None:
    """One result for each record, with all of them; a crash after each changes nothing."""
    app = App("app")
    orders(app).aggregate_all("sales", **ALL).to("sales")
    made: list[Any] = []
    with TestDriver(app) as driver:
        for amount, who in ((30, "ann"), (10, None), (20, "bo")):
            driver.send("orders", {"cents": amount, "who": who}, key="shop")
            driver.crash()
            driver.recover()
            made += [record.value for record in driver.read("sales")]
        assert list(driver.state("sales")) == ["shop"]
    assert made == [
        expected(30, who=["ann"]),
        expected(30, 10, who=["ann", None]),
        expected(30, 10, 20, who=["ann", None, "bo"]),
    ]


@pytest.mark.parametrize(
    "windows", [kstash.tumbling(MINUTE), kstash.session(MINUTE), kstash.sliding(MINUTE)], ids=str
)
def test_of_windows(windows: kstash.Windows) -> None:
    """The records of one as they come, also where a crash is after each; nulls are dropped."""
    app = App("app")
    windowed = orders(app).window(windows, grace=MINUTE, emit="final")
    windowed.aggregate_all("sales", **ALL).to("sales")
    with TestDriver(app) as driver:
        for at, amount in ((1, 30), (59, None), (59, 10), (30, 20), (10_000, 1)):
            order = None if amount is None else {"cents": amount, "who": f"at {at}"}
            driver.send("orders", order, key="shop", timestamp_ms=at * 1000)
            driver.crash()
            driver.recover()
        results = {record.key: record.value for record in driver.read("sales")}
    key = {
        "tumbling": Windowed("shop", 0, 60_000),
        "session": Windowed("shop", 1000, 59_000),
        "sliding": Windowed("shop", 0, 60_000),
    }[str(windows).partition("(")[0]]
    assert results[key] == expected(30, 10, 20, who=["at 1", "at 59", "at 30"])


def test_sessions_become_one() -> None:
    """The states of both, the earlier one first, and then the record."""
    app = App("app")
    windowed = orders(app).window(kstash.session(MINUTE), grace=10 * MINUTE)
    windowed.aggregate_all("sales", **ALL).to("sales")
    app_2 = App("app")
    stream = app_2.stream("in", key=kstash.text, value=kstash.int_text)
    stream.window(kstash.session(MINUTE), grace=10 * MINUTE).statistics("spread").to("out")
    rows = ((200, 1), (100, 2), (150, 3))
    with TestDriver(app) as driver, TestDriver(app_2) as other:
        for at, amount in rows:
            who = f"at {at}"
            driver.send("orders", {"cents": amount, "who": who}, key="s", timestamp_ms=at * 1000)
            other.send("in", amount, key="s", timestamp_ms=at * 1000)
        last, spread = driver.read("sales")[-1], other.read("out")[-1]
    assert last.key == spread.key == Windowed("s", 100_000, 200_000)
    assert last.value == expected(2, 1, 3, who=["at 100", "at 200", "at 150"])
    assert (spread.value.count, spread.value.variance) == (3, 1.0)


def test_statistics_of_keys() -> None:
    """Each record sends them on; what is no number stops the program, with the place."""
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.json)
    stream.statistics("spread").to("out")
    with TestDriver(app) as driver:
        for number in (2, 4, 4.5):
            driver.send("in", number, key="k")
            driver.crash()
            driver.recover()
        made = [record.value for record in driver.read("out")]
        assert [(each.count, each.min, each.max) for each in made] == [
            (1, 2, 2),
            (2, 2, 4),
            (3, 2, 4.5),
        ]
        assert made[-1] == Statistics().add(2).add(4).add(4.5)
        assert driver.state("spread") == {"k": made[-1]}
        with pytest.raises(OperatorError, match="statistics take int and float, not str"):
            driver.send("in", "5", key="k")


def test_what_a_function_makes_none_of_is_an_error() -> None:
    """Such a value is no null; it says what to do."""
    app = App("app")
    app.stream("in", key=kstash.text, value=kstash.json).aggregate_all(
        "n", least=folds.min(lambda order: order.get("cents")), number=folds.count()
    ).to("out")
    with (
        TestDriver(app) as driver,
        pytest.raises(OperatorError, match="filter such records out, or give another of="),
    ):
        driver.send("in", {}, key="k")


def test_large_integers_stay_exact() -> None:
    """A sum and a mean of more than 64 bits."""
    app = App("app")
    app.stream("in", key=kstash.text, value=kstash.json).aggregate_all(
        "n", value=kstash.json, total=folds.sum(), mean=folds.mean()
    ).to("out")
    with TestDriver(app) as driver:
        for _ in range(3):
            driver.send("in", 2**62, key="k")
        assert driver.read("out")[-1].value == {"total": 3 * 2**62, "mean": float(2**62)}


def test_what_is_no_fold() -> None:
    """Refused with the name of the part; so are none, and functions that cannot be called."""
    stream = orders(App("app"))
    with pytest.raises(TopologyError, match=r"needs folds, such as total=folds\.sum"):
        stream.aggregate_all("n")
    with pytest.raises(TopologyError, match=r"aggregate_all\(total=\) takes a fold"):
        stream.aggregate_all("n", total=sum)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"folds.sum\(of=\) calls its function as f\(value\)"):
        folds.sum(lambda one, _: one)  # type: ignore[misc, arg-type]
    with pytest.raises(TopologyError, match=r"folds.reduce calls its function as"):
        folds.reduce(lambda one: one)  # type: ignore[misc, arg-type]


def test_other_folds_are_another_store() -> None:
    """Its states would not have them; with windows and without. The hash says them too."""

    def made(**parts: Any) -> tuple[str, str, str]:
        app = App("app")
        orders(app).aggregate_all("n", **parts)
        orders(app).window(kstash.tumbling(MINUTE)).aggregate_all("w", **parts)
        topology = app.topology()
        plain, windowed = (store_of(topology, name)[1].contents for name in "nw")
        return plain, windowed, topology.hash

    one, other = made(total=folds.sum()), made(total=folds.max())
    assert one[0] == "aggregate_all by total=sum text -> json"
    assert one[1].startswith("aggregate_all (ordered) by tumbling(60 s) update of total=sum ")
    assert all(before != after for before, after in zip(one, other, strict=True))


def test_a_part_may_be_called_as_an_argument() -> None:
    """`name` is one by its place alone."""
    app = App("app")
    orders(app).aggregate_all("n", name=folds.last(lambda order: order["who"]))
    (node,) = (node for node in app.topology().stages[0].nodes if isinstance(node, AggregateAll))
    assert [name for name, _ in node.parts] == ["name"]

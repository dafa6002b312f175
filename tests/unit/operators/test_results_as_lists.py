"""Functions that make several results return a list of them, and are told so where they do not."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import kstash
from kstash import App, KeyedStream, Record, Stream
from kstash.errors import OperatorError
from kstash.testing import TestDriver

Texts = KeyedStream[str, str]


class Name(str):
    """A kind of text."""

    __slots__ = ()


OPERATORS: dict[str, Callable[[Texts, Callable[[], Any]], Stream[Any, Any]]] = {
    "flat_map": lambda s, given: s.flat_map(lambda _: given()),
    "flat_map_values": lambda s, given: s.flat_map_values(lambda _: given()),
    "flat_map_records": lambda s, given: s.flat_map_records(lambda _: given()),
    "with_state": lambda s, given: s.with_state(
        "p", int, lambda state, _: (state, given()), state=kstash.int_text, value=kstash.json
    ),
}


def made(operator: str, given: Callable[[], Any]) -> list[Any]:
    """What is sent for one record."""
    app = App("app")
    stream = app.stream("in", key=kstash.text, value=kstash.text)
    OPERATORS[operator](stream, given).to("out", value=kstash.json)
    with TestDriver(app) as driver:
        driver.send("in", "x", key="k")
        return [record.value for record in driver.read("out")]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    "results",
    ["abc", "", b"abc", {"a": 1}, {}, Name("abc"), Counter("abc"), defaultdict(int), None, 5, 0.5],
    ids=repr,
)
def test_what_is_no_list_of_results_is_refused(operator: str, results: Any) -> None:
    """Each character, byte or key of it would be sent as a result, and none of an empty one."""
    with pytest.raises(OperatorError, match=r"lambda at .* as results: return a list"):
        made(operator, lambda: results)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("kind", [list, tuple, iter, deque])
def test_other_iterables_are_results(operator: str, kind: Callable[[Any], Iterable[Any]]) -> None:
    """As long as they are no text, bytes or dict."""
    item: Any = Record("k", "ab", 5, None) if operator == "flat_map_records" else "ab"
    assert made(operator, lambda: kind([item])) == ["ab"]

"""A trace goes on through an application: headers are carried from input to output."""

from __future__ import annotations

import pytest

from kstash import App, int_text, text
from kstash.ports.kafka import Headers
from kstash.testing import TestDriver

TRACE: Headers = [
    ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", b"vendor=1"),
]
OTHER: Headers = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]


@pytest.mark.parametrize("has_crash", [False, True])
def test_a_trace_goes_on_through_stages_and_crashes(has_crash: bool) -> None:
    """Each output has the headers of the record that it is made of; without any it has none."""
    app = App("traced")
    (
        app.stream("in", value=text)
        .flat_map(str.split)
        .key_by(lambda word: word, key=text)
        .count("words")
        .map_values(lambda count: count * 10)
        .to("out", key=text, value=int_text)
    )
    with TestDriver(app) as driver:
        driver.send("in", "a b", headers=TRACE)
        driver.send("in", "b", headers=OTHER)
        driver.send("in", "c")
        if has_crash:
            driver.crash()
            driver.recover()
        found = {(record.key, record.value): record.headers for record in driver.read("out")}
    assert found == {("a", 10): TRACE, ("b", 10): TRACE, ("b", 20): OTHER, ("c", 10): []}

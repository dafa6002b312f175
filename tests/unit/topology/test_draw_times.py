"""Drawings of what operators of time keep."""

from __future__ import annotations

import json

import pytest

from tests.unit.timed_operator import hourly


def test_windows_timers_and_time_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what their stores hold; a state of a verb is drawn as ever."""
    topology = hourly(monkeypatch, timestamp=int).topology()
    assert topology.describe("text").splitlines()[1:] == [
        "stage 0 h",
        "  in     in (user topic; key text, value text)",
        "         event_time(in)",
        "         hourly(h)",
        "  store  h (windows)",
        "  store  h.due (timers)",
        "  store  h.time (stream time)",
        "  out    -> out (user topic, immediate; key text, value text)",
    ]
    assert '[/"store h (windows)"/]' in topology.describe("mermaid")
    assert '[label="h.due (timers)", shape=folder];' in topology.describe("dot")
    (stage,) = json.loads(topology.describe("json"))["stages"]
    assert stage["stores"] == ["h", "h.due", "h.time"]
    assert stage["holds"] == {"h": "windows", "h.due": "timers", "h.time": "stream time"}

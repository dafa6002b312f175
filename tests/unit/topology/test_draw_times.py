"""Drawings of what operators of time keep."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Literal

import pytest

import kstash
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


MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def drawn(app: kstash.App, label: str) -> tuple[str, dict[str, Any]]:
    """A node by its label: what people read in each drawing, and what tools do."""
    topology = app.topology()
    (stage,) = json.loads(topology.describe("json"))["stages"]
    (node,) = [node for node in stage["nodes"] if node["label"] == label]
    (line,) = [line for line in topology.describe("text").splitlines() if f" {label}" in line]
    said = line.strip()
    for format_ in ("mermaid", "dot"):
        assert f'"{said}"' in topology.describe(format_)
    return said.removeprefix(label).strip(), node


@pytest.mark.parametrize(
    ("windows", "arguments", "text", "measures"),
    [
        (
            kstash.tumbling(MINUTE, offset=SECOND),
            {"grace": 5 * SECOND},
            "[emit=update, grace=5 s]",
            {"kind": "tumbling", "size_ms": 60_000, "advance_ms": 60_000, "offset_ms": 1_000}
            | {"emit": "update", "grace_ms": 5_000},
        ),
        (
            kstash.hopping(MINUTE, SECOND),
            {"emit": "final", "idle_timeout": 2 * MINUTE},
            "[emit=final, grace=0 s] [clock: idle_timeout=120 s]",
            {"kind": "hopping", "size_ms": 60_000, "advance_ms": 1_000, "offset_ms": 0}
            | {"emit": "final", "grace_ms": 0, "idle_timeout_ms": 120_000},
        ),
        (
            kstash.daily("Europe/Berlin"),
            {"every": SECOND},
            "[emit=update, grace=0 s] [clock: every=1 s]",
            {"kind": "daily", "zone": "Europe/Berlin"}
            | {"emit": "update", "grace_ms": 0, "every_ms": 1_000},
        ),
        (
            kstash.session(MINUTE),
            {"grace": timedelta(milliseconds=5)},
            "[emit=update, grace=5 ms]",
            {"kind": "session", "gap_ms": 60_000, "emit": "update", "grace_ms": 5},
        ),
        (
            kstash.sliding(MINUTE),
            {"emit": "final"},
            "[emit=final, grace=0 s]",
            {"kind": "sliding", "size_ms": 60_000, "emit": "final", "grace_ms": 0},
        ),
        (
            kstash.hopping_count(10, 2),
            {},
            "[emit=final]",
            {"kind": "hopping_count", "size": 10, "step": 2, "emit": "final"},
        ),
    ],
    ids=str,
)
def test_windows_say_what_they_send_and_when_they_close(
    windows: Any, arguments: dict[str, Any], text: str, measures: dict[str, Any]
) -> None:
    """Beside the kind and its measures: emit, grace where records can be late, and the clock's."""
    app = kstash.App("a")
    records = app.stream("in", key=kstash.text, value=kstash.int_text)
    records.window(windows, **arguments).count("c").to("out")
    said, node = drawn(app, f"{windows}.count(c)")
    assert said == text
    assert node["windows"] == measures


class Timed(kstash.Processor[str, int, int]):
    """Has timers of both kinds, and a state that dies."""

    seen = kstash.Value("seen", kstash.int_text, ttl=timedelta(hours=1))
    kept = kstash.Value("kept", kstash.int_text)

    def on_record(self, record: Any, context: Any, /) -> None:
        """Do nothing."""

    def on_timer(self, timer: Any, context: Any, /) -> None:
        """Do nothing."""

    def on_wall_timer(self, timer: Any, context: Any, /) -> None:
        """Do nothing."""


def test_processors_say_their_timers_and_how_long_states_live() -> None:
    """One without either says nothing; those that are made of a length say that."""
    app = kstash.App("a")
    records = app.stream("in", key=kstash.text, value=kstash.int_text)
    timed = records.process("p", Timed, value=kstash.int_text)
    timed.throttle("t", at_most=3, within=MINUTE).count("c").to("out")
    said, node = drawn(app, "process(p)")
    assert said == "[timers, seen.ttl=3600 s] [clock: wall timers]"
    assert node["timers"] == ["event_time", "clock"]
    assert node["ttl_ms"] == {"seen": 3_600_000}
    said, node = drawn(app, "throttle(t)")
    assert said == "[at_most=3, within=60 s]"
    assert node["measures"] == {"at_most": 3, "within": "60 s"}
    said, node = drawn(app, "count(c)")
    assert said == ""
    assert set(node) == {"id", "label", "parents", "wide"}


@pytest.mark.parametrize("mode", ["records", "watermark"])
def test_sources_say_their_bounds_and_the_application_what_its_time_is(
    mode: Literal["records", "watermark"],
) -> None:
    """How far out of order, how far ahead, and whether time waits; the mode that is no default."""
    app = kstash.App("a", event_time=mode)
    app.stream(
        "in",
        key=kstash.text,
        value=kstash.int_text,
        out_of_order=5 * SECOND,
        max_ahead=MINUTE,
        timestamp=abs,
        idle="hold" if mode == "watermark" else "clock",
    ).window(kstash.tumbling(MINUTE)).count("c").to("out")
    hold = ", idle=hold" if mode == "watermark" else ""
    said, node = drawn(app, "event_time(in)")
    assert said == f"[out_of_order=5 s, max_ahead=60 s{hold}]"
    assert (node["out_of_order_ms"], node["max_ahead_ms"]) == (5_000, 60_000)
    assert node.get("idle") == ("hold" if hold else None)
    first = app.topology().describe("text").splitlines()[0]
    assert first.endswith(", event_time=watermark") == (mode == "watermark")
    described = json.loads(app.topology().describe("json"))
    assert described.get("event_time", "records") == mode

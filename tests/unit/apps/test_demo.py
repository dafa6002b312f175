"""The parts of the demo that need no broker."""

from __future__ import annotations

import io
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kstash.apps.demo.reader import judge
from kstash.apps.demo.screen import Screen, Snapshot, plain_line
from kstash.apps.demo.worker import Worker

EXPECTED = {"a": 3, "b": 1}

RUNNING = Snapshot(
    elapsed_s=12.3,
    state="live",
    sent=5_000,
    seen=4_900,
    rate=2_500.0,
    latency_ms=(55, 104),
    at_once_ms=(7, 12),
    lineage_bytes=1_234.0,
    header_bytes=12_345_678.0,
    top=[("the", 1_961), ("to", 1_894)],
)


def test_exactly_one_to_n_is_exactly_once() -> None:
    """Outputs 1, 2, 3 … n of every word, and no other, pass."""
    verdict = judge({"a": [1, 2, 3], "b": [1]}, EXPECTED)
    assert verdict.is_exactly_once
    assert str(verdict) == "exactly once: 4 words, 0 lost, 0 duplicated"


@pytest.mark.parametrize(
    ("outputs", "lost", "duplicated", "misplaced"),
    [
        ({"a": [1, 3], "b": [1]}, 1, 0, 0),
        ({"a": [1, 2, 3]}, 1, 0, 0),
        ({"a": [1, 2, 2, 3], "b": [1]}, 0, 1, 0),
        ({"a": [1, 2, 3, 4], "b": [1]}, 0, 1, 0),
        ({"a": [1, 2, 3], "b": [1], "c": [1]}, 0, 1, 0),
        ({"a": [1, 3, 2], "b": [1]}, 0, 0, 1),
        ({"a": [1, 1, 1], "b": [1]}, 2, 2, 0),
    ],
)
def test_every_violation_is_counted(
    outputs: dict[str, list[int]], lost: int, duplicated: int, misplaced: int
) -> None:
    """Lost, doubled, surplus and misplaced outputs are told apart, and none passes."""
    verdict = judge(outputs, EXPECTED)
    assert (verdict.lost, verdict.duplicated, verdict.misplaced) == (lost, duplicated, misplaced)
    assert not verdict.is_exactly_once
    assert str(verdict).startswith("NOT exactly once")


def test_the_live_table_fits_a_small_terminal() -> None:
    """80 columns and 24 lines show everything, with five events."""
    console = Console(width=80, height=24, force_terminal=True, record=True, file=io.StringIO())
    screen = Screen(console)
    for number in range(7):
        screen.event(f"event {number}")
    screen.show(RUNNING)
    console.print(screen.render())
    text = console.export_text()
    assert len(text.splitlines()) <= 22
    assert max(map(len, text.splitlines())) <= 80
    for shown in (
        "1,961",
        "live",
        "2,500",
        "55 / 104 ms",
        "7 / 12 ms",
        "1,234 B",
        "12.3 MB",
        "event 6",
    ):
        assert shown in text
    assert "event 1" not in text


def test_without_a_terminal_there_are_plain_lines() -> None:
    """A line every two seconds and one for each event, with no control characters."""
    nowhere = io.StringIO()
    with Screen(Console(file=nowhere, width=80)) as screen:
        for tenth in range(41):
            screen.show(Snapshot(elapsed_s=tenth / 10))
        screen.event("SIGKILL")
    lines = nowhere.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[-1] == "  4.0 s  SIGKILL"
    assert all(line.isprintable() for line in lines)


def test_a_plain_line_has_all_numbers() -> None:
    """The line says what the table shows."""
    assert plain_line(RUNNING) == (
        " 12.3 s  worker live; 4,900 of 5,000 words counted; 2,500 words/s; latency p50/p99 "
        "plain 55 / 104 ms, kstash reader 7 / 12 ms; "
        "lineage 1,234 B, headers 12.3 MB; top: the 1,961, to 1,894"
    )


def test_the_book_is_there() -> None:
    """The text ships with the package and is long enough to be played for a minute."""
    text = resources.files("kstash.apps.demo").joinpath("book.txt").read_text("utf-8")
    assert text.startswith("PRIDE AND PREJUDICE\n\nBy Jane Austen\n")
    assert len(text.split()) == 121_567


def test_it_leaves_a_picture(tmp_path: Path) -> None:
    """The table as it was last, in one file that needs nothing from elsewhere."""
    screen = Screen(Console(file=io.StringIO()))
    screen.show(RUNNING)
    screen.event("SIGKILL: worker process 7 is gone", "bold red")
    screen.save(tmp_path / "demo.svg")
    drawn = (tmp_path / "demo.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "SIGKILL" in drawn
    assert "4,900" in drawn
    assert "url(" not in drawn.replace("url(#", "")


def test_the_demos_worker_has_nobodys_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither variables nor a settings file: the cluster that they name is not the demo's."""
    started: list[dict[str, Any]] = []

    class Process:
        stdout = io.StringIO("")

        def __init__(self, _: object, **options: Any) -> None:
            started.append(options)

        def poll(self) -> None:
            """It runs."""

    monkeypatch.setenv("KSTASH_BOOTSTRAP_SERVERS", "production:9092")
    monkeypatch.setenv("KSTASH_CONFIG", "/etc/kstash.toml")
    monkeypatch.setattr("subprocess.Popen", Process)
    Worker([], folder=tmp_path, http_port=1).start()
    (options,) = started
    assert not any(name.startswith("KSTASH_") for name in options["env"])
    assert options["cwd"] == tmp_path

"""What topics hold is shown by the tools, and never obeyed by the terminal."""

from __future__ import annotations

import pytest

from kstash.cli import verify
from kstash.cli.decode import RecordDecoder, as_text, lineage_entry
from kstash.cli.lineage import as_line
from kstash.core.ids import Incarnation
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Claim, Start
from kstash.escape import printable
from kstash.testing.kafka.log import MemoryRecord
from kstash.verify.checks import Finding, Report

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e\u200b\ud800\x00"


def test_an_escape_is_shown() -> None:
    """Each letter that is not printable, and no other."""
    assert printable("grün & ✓\\") == "grün & ✓\\"
    assert printable(EVIL).isprintable()
    assert printable("a\n\t\x1b[2J\x9b") == "a\\n\\t\\x1b[2J\\x9b"


@pytest.mark.parametrize("topic", ["in", "app-words-repartition"])
def test_records_are_escaped(topic: str) -> None:
    """Key, value, names and values of headers, and what is said of damage."""
    text = EVIL.replace("\ud800", "")
    data = text.encode()
    headers: list[tuple[str, bytes | None]] = [(text, data), ("__kstash.m", data)]
    for shown_headers in (headers, headers[:1]):
        record = MemoryRecord(
            topic, 0, 5, key=data, value=data, headers=shown_headers, timestamp_ms=7
        )
        for shown in RecordDecoder().decode(record):
            for line in as_text(shown, with_headers=True).split("\n"):
                assert line.replace("\t", "").isprintable()


def test_lineage_is_escaped() -> None:
    """Names of workers and settings are texts of somebody's."""
    text = EVIL.replace("\ud800", "")
    for record in (Claim(b"n", text), Start(Incarnation(1, 2), None, {}, {text: text})):
        message = MemoryRecord(
            "t",
            0,
            5,
            key=encode_key(record),
            value=encode_value(record),
            headers=None,
            timestamp_ms=7,
        )
        assert as_line(lineage_entry(message)).replace("\t", "").isprintable()


def test_findings_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """And notes."""
    verify._show(Report(findings=[Finding("gap", "t", 0, 1, EVIL)], notes=[EVIL]))
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())

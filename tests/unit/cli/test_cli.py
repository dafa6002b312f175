"""The command line without a Kafka: loading programs, arguments, and decoding of records."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from kstash import App, ConfigError
from kstash.cli import main as cli
from kstash.cli.decode import RecordDecoder, as_text, lineage_entry, to_text
from kstash.cli.lineage import as_line
from kstash.cli.options import assignments
from kstash.cli.programs import load_app
from kstash.cli.records import argument_bytes, keyed
from kstash.core.determinants import (
    Completed,
    Consumed,
    Flush,
    Idle,
    InputPlace,
    MergedBatch,
    MergedInput,
    Tick,
)
from kstash.core.frames import encode_frame
from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage_codec import encode_lineage
from kstash.core.record_codec import encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import BoundedRun, Claim, Generation, LineageRecord, Segment
from kstash.core.wire import (
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    Fence,
    Identity,
    encode_marker,
)
from kstash.errors import OperatorError
from kstash.observe import configure_logs
from kstash.ports.kafka import Headers

TASK = TaskId(1, 0)
OLD, NEW = Incarnation(1700000000000, 5), Incarnation(1700000000000, 9)

PROGRAM = """
import kstash

counter = kstash.App("counter")
(
    counter.stream("sentences", value=kstash.text)
    .flat_map(str.split)
    .key_by(lambda word: word, key=kstash.text)
    .count("words")
    .to("counts", key=kstash.text, value=kstash.int_text)
)
"""


@dataclass
class Message:
    """A Kafka record as a consumer gives it."""

    value_bytes: bytes | None
    key_bytes: bytes | None = None
    header_list: Headers = field(default_factory=list)
    at: int = 0
    topic_name: str = "counts"

    def topic(self) -> str:
        """The topic."""
        return self.topic_name

    def partition(self) -> int:
        """Always 0."""
        return 0

    def offset(self) -> int:
        """The offset."""
        return self.at

    def key(self) -> bytes | None:
        """The key."""
        return self.key_bytes

    def value(self) -> bytes | None:
        """The value."""
        return self.value_bytes

    def headers(self) -> Headers | None:
        """The headers, None when there are none, as the client does it."""
        return self.header_list or None

    def timestamp(self) -> tuple[int, int]:
        """Create time 77."""
        return (1, 77)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with an App named `counter`, importable from the current folder."""
    name = f"program_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return name


def identity_header(first_seq: int, count: int, incarnation: Incarnation) -> Headers:
    """An identity header of `TASK` in application 3."""
    identity = Identity(3, TASK, incarnation, position=10, count=count, first_seq=first_seq)
    return [(IDENTITY_HEADER, identity.encode())]


def test_load_app_finds_the_named_app(program: str) -> None:
    """`module:name` gives that App."""
    assert load_app(f"{program}:counter").application_id == "counter"


def test_load_app_calls_a_function_that_builds_one() -> None:
    """`module:function` gives the App that the function returns."""
    assert load_app("kstash.apps.word_count:build").application_id == "word-count"


def test_load_app_names_what_a_module_has_instead(program: str) -> None:
    """A wrong name is answered with the names that exist."""
    with pytest.raises(ConfigError, match="has no App named 'app': it has counter"):
        load_app(program)


def test_load_app_tells_of_a_missing_module() -> None:
    """A module that is not there is an error that says how to name it."""
    with pytest.raises(ConfigError, match="no module 'no_such_module' here"):
        load_app("no_such_module:app")


def test_load_app_passes_on_what_the_program_fails_to_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that the program lacks is the program's error, not a wrong module name."""
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_app("needs_more:app")


def test_topology_is_drawn_in_each_format(program: str) -> None:
    """`kstash topology` prints text by default and machine-readable JSON on request."""
    runner = CliRunner()
    text = runner.invoke(cli.app, ["topology", f"{program}:counter"])
    assert text.exit_code == 0
    assert "counter-words-repartition" in text.stdout
    drawn = runner.invoke(cli.app, ["topology", f"{program}:counter", "--json"])
    assert json.loads(drawn.stdout)["application_id"] == "counter"
    for drawing, word in (("mermaid", "flowchart"), ("dot", "digraph")):
        result = runner.invoke(cli.app, ["topology", f"{program}:counter", "--format", drawing])
        assert word in result.stdout


def test_run_refuses_an_unknown_setting(program: str) -> None:
    """`--set` with a misspelt name fails before anything runs."""
    arguments = ["run", f"{program}:counter", "--set", "guarante=none"]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "did you mean 'guarantee'" in str(result.exception)


def test_errors_become_a_message_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of kstash is one line on standard error, not a traceback."""
    monkeypatch.setattr("sys.argv", ["kstash", "topology", "no_such_module"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: no module 'no_such_module'")
    assert "Traceback" not in printed


def test_an_error_of_the_users_function_shows_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user sees the line that failed, then which operator and record it was."""

    def fail() -> None:
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError as cause:
            raise OperatorError("ratio", 0, cause=cause).at("numbers", 2, 17) from cause

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().err
    assert 'raise ZeroDivisionError("by zero")' in printed
    assert "'ratio' failed" in printed
    assert "topic 'numbers', partition 2, offset 17" in printed


@pytest.mark.parametrize(("log_format", "count"), [("console", 1), ("json", 0)])
def test_what_the_log_has_is_not_shown_again(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log_format: Literal["console", "json"],
    count: int,
) -> None:
    """A person has the message as the last line, without its cause once more; JSON stays JSON."""
    error = OperatorError("map", 0, cause=ValueError("bad \x1b[31m record"))
    error.is_logged = True

    def fail() -> None:
        configure_logs(log_format, "info")
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    shown = capsys.readouterr().err
    assert shown.count("ValueError: bad \\x1b[31m record") == count
    assert all(line.isprintable() for line in shown.splitlines())


@pytest.mark.parametrize("is_over", [True, False])
def test_a_drain_that_was_stopped_is_no_drain(
    program: str, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    """Who reads that all was drained would start a changed program."""
    monkeypatch.setattr(App, "run", lambda *_, **__: is_over)
    result = CliRunner().invoke(cli.app, ["drain", f"{program}:counter"])
    assert result.exit_code == (0 if is_over else 1)
    assert ("drained:" in result.stdout) == is_over
    assert ("stopped before all was drained" in result.stderr) != is_over


@pytest.mark.parametrize("closes_windows", [True, False])
def test_a_run_that_closes_windows(
    program: str, monkeypatch: pytest.MonkeyPatch, closes_windows: bool
) -> None:
    """It is said with the end; without one it is refused."""
    called: list[Any] = []
    monkeypatch.setattr(App, "run", lambda _, **arguments: called.append(arguments))
    options = ["--closes-windows"] if closes_windows else []
    result = CliRunner().invoke(cli.app, ["run", f"{program}:counter", "--until", "end", *options])
    assert result.exit_code == 0
    assert (called[0]["until"], called[0]["closes_windows"]) == ("end", closes_windows)


def test_assignments_are_split_at_the_first_equals_sign() -> None:
    """A value may hold `=`; a name may not be missing."""
    assert assignments(["a=1", "b=x=y", "c="], "--set") == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(ConfigError, match="--set takes NAME=VALUE, not 'plain'"):
        assignments(["plain"], "--set")


def test_lines_become_keys_and_values() -> None:
    """Lines are cut at the first separator; a line without one is named by its number."""
    assert list(keyed([b"a", b"b"], None, None)) == [(None, b"a"), (None, b"b")]
    assert list(keyed([b"a"], "k", None)) == [(b"k", b"a")]
    assert list(keyed([b"k:v:w", b":"], None, ":")) == [(b"k", b"v:w"), (b"", b"")]
    with pytest.raises(typer.BadParameter, match="line 2 has no separator"):
        list(keyed([b"k:v", b"plain"], None, ":"))


def test_a_plain_record_is_shown_as_it_is() -> None:
    """User records have key, value and headers; bytes that are no text stay readable."""
    message = Message(b"\xffv", b"k", [("trace", b"t1")], at=4)
    (shown,) = RecordDecoder().decode(message)
    assert (shown["key"], shown["value"]) == ("k", "\\xffv")
    assert as_text(shown, with_headers=False) == "0:4\tk\t\\xffv"
    assert as_text(shown, with_headers=True).endswith("\ttrace: t1")
    assert to_text(None) is None


def test_a_frame_is_taken_apart() -> None:
    """Each logical record of a frame is a line of its own; the overlap with the last is marked."""
    decoder = RecordDecoder()
    frames = []
    for at, first_seq in ((0, 1), (1, 2)):
        value = encode_frame([b"a", None], [b"1", b"2"], [5, 6], None)
        headers = identity_header(first_seq, 2, OLD)
        frames.append(Message(value, None, headers, at, "app-words-repartition"))
    first, second = (list(decoder.decode(frame)) for frame in frames)
    assert [(r["index"], r["key"], r["value"], r["timestamp"]) for r in first] == [
        (0, "a", "1", 5),
        (1, None, "2", 6),
    ]
    assert [r["dropped"] for r in first] == [False, False]
    assert [r["dropped"] for r in second] == [True, False]
    assert as_text(second[0], with_headers=False) == "!0:1/0\ta\t1"
    assert as_text(first[1], with_headers=False) == "0:0/1\t(null)\t2"


def test_event_times_of_a_frame_are_shown() -> None:
    """Watermark mode: what each record says of time, and which ones say nothing else."""
    value = encode_frame([b"a", None], None, [5, 9], None, [4, 9], [1])
    headers = identity_header(1, 2, OLD)
    frame = Message(value, None, headers, 0, "app-words-repartition")
    record, control = RecordDecoder().decode(frame)
    assert (record["time"], control["time"], control["control"]) == (4, 9, True)
    assert "control" not in record


def test_records_of_a_fenced_incarnation_are_marked() -> None:
    """After a FENCE, what an older incarnation wrote is dropped by the reader rule."""
    decoder = RecordDecoder()
    fence = encode_marker(Fence(3, ((0, NEW),)))
    (marker,) = decoder.decode(Message(None, None, [(MARKER_HEADER, fence)]))
    assert marker["marker"] == "fence"
    assert "# fence" in as_text(marker, with_headers=False)
    (late,) = decoder.decode(Message(b"9", b"a", identity_header(1, 1, OLD), at=1))
    (valid,) = decoder.decode(Message(b"9", b"a", identity_header(1, 1, NEW), at=2))
    assert (late["dropped"], valid["dropped"]) == (True, False)


def test_lineage_in_a_header_is_decoded() -> None:
    """With headers shown, a record has its identity and the lineage that it carries."""
    chunk = encode_lineage(8, 10, [Consumed(8, 0, 2, 55)])
    headers = [*identity_header(1, 1, OLD), (LINEAGE_HEADER, chunk)]
    (shown,) = RecordDecoder().decode(Message(b"1", b"a", headers))
    assert shown["lineage"]["determinants"] == [
        {"position": 8, "input": 0, "count": 2, "end_offset": 55}
    ]
    text = as_text(shown, with_headers=True)
    assert "task=1_0" in text
    assert "# lineage [8, 10): 1 determinants" in text
    json.dumps(shown)


@pytest.mark.parametrize(
    ("record", "word"),
    [(Generation(b"n" * 16, 7), "config"), (BoundedRun(OLD, 9, ()), "run")],
)
def test_records_have_the_protocols_names(record: LineageRecord, word: str) -> None:
    """Whatever their classes are called: scripts read the output."""
    assert lineage_entry(Message(encode_value(record), encode_key(record)))["kind"] == word


def test_corrupt_headers_are_shown_not_raised() -> None:
    """A tool that reads a damaged topic shows the damage and goes on."""
    (shown,) = RecordDecoder().decode(Message(b"1", b"a", [(IDENTITY_HEADER, b"short")]))
    assert "identity header of 5 bytes" in shown["error"]
    assert "# corrupt:" in as_text(shown, with_headers=False)


def test_lineage_records_are_decoded() -> None:
    """Claims, segments and tombstones of a lineage topic are distinguished."""
    claim = Claim(b"n" * 16, "worker-1")
    entry = lineage_entry(Message(encode_value(claim), encode_key(claim), at=3))
    assert (entry["kind"], entry["worker"], entry["offset"]) == ("claim", "worker-1", 3)
    place = InputPlace(41, 2, 70)
    entries = (
        Consumed(8, 1, 2, 40),
        Tick(10, 99),
        MergedBatch(11, (MergedInput(0, 3, place), MergedInput(1, 1, place))),
        Consumed(15, 0, 7, 90),
        Flush(22, 3),
        Idle(23, 1, 99),
        Completed(24, b"\x01\xff", OLD),
    )
    segment = Segment(OLD, TASK, 2, 8, 25, entries)
    entry = lineage_entry(Message(encode_value(segment), encode_key(segment)))
    assert entry["entries"] == [
        "8: 2 of input 1 before 40",
        "10: tick at 99",
        "11: 4 merged, 3 of input 0 before 41, 1 of input 1 before 41",
        "15: 7 of input 0 before 90",
        "22: flush of operator 3",
        "23: input 1 idle at 99",
        f"24: call 01ff completed, by incarnation {OLD}",
    ]
    line = as_line(entry)
    assert line.startswith("0:0\tSEGMENT\t")
    assert "start=8 end=25" in line
    tombstone = lineage_entry(Message(None, encode_key(segment)))
    assert (tombstone["kind"], tombstone["incarnation"]) == ("tombstone", str(OLD))
    assert lineage_entry(Message(b"junk", b"key"))["kind"] == "corrupt"


def test_the_demo_runs_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of the package, as `python -m` would; how long it takes is handed on."""
    ran: list[tuple[str, str | None]] = []
    monkeypatch.setenv("DEMO_SECONDS", "1")
    monkeypatch.setattr(
        "runpy.run_module", lambda name, **_: ran.append((name, os.environ.get("DEMO_SECONDS")))
    )
    assert CliRunner().invoke(cli.app, ["demo", "--seconds", "25"]).exit_code == 0
    assert ran == [("kstash.apps.demo", "25")]
    assert importlib.util.find_spec(ran[0][0]) is not None


def test_a_broker_says_at_once_that_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a while, and the first time it fetches Kafka."""

    class Broker:
        def __init__(self, **_: object) -> None:
            pass

        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("kstash.broker.DevBroker", Broker)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    result = CliRunner().invoke(cli.app, ["broker"])
    assert result.stderr.startswith("starting Apache Kafka 4.")
    assert result.stdout == "stopped\n"


def test_arguments_are_the_bytes_that_were_given() -> None:
    """Also those that are no UTF-8: a record may have any."""
    assert argument_bytes("\udcff\u00e4") == b"\xff\xc3\xa4"
    assert list(keyed([b"v"], "\udcff", None)) == [(b"\xff", b"v")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "create", "t", "--partitions", str(10**20)],
        ["topics", "create", "t", "--replication-factor", str(10**20)],
        ["topics", "read", "t", "--partition", str(10**20)],
        ["topics", "read", "t", "--offset", str(10**20)],
    ],
)
def test_numbers_beyond_kafkas_are_wrong_usage(arguments: list[str]) -> None:
    """And no `OverflowError` of the client."""
    result = CliRunner().invoke(cli.app, arguments)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)


def test_a_name_that_is_no_utf_8(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage, with the argument; no traceback."""
    monkeypatch.setattr("sys.argv", ["kstash", "topics", "create", "\udcff"])

    def encoded() -> None:
        "\udcff".encode()

    monkeypatch.setattr(cli, "app", encoded)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: an argument is not UTF-8: '\\udcff'\n"

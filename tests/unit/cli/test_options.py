"""Options that all commands share, and `kstash config show`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from kstash.cli import main as cli
from kstash.cli.options import Connection, shown
from kstash.cli.programs import Drawing
from kstash.errors import ConfigError, KafkaUnavailableError
from kstash.ports.kafka import TopicInfo
from kstash.settings.sources import FILE_VARIABLE, VARIABLE_PREFIX

WITHOUT_KAFKA = {"broker", "demo", "init"}
"""Commands that have no cluster to ask."""

PROGRAM = """
import kstash

app = kstash.App("shop", linger_ms=7)
app.stream("in").to("out")
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(VARIABLE_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv(FILE_VARIABLE, "")  # so that it is put back
    monkeypatch.chdir(tmp_path)
    yield
    shown.has_tracebacks = False


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each command with its name."""
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name}{word} ")
        else:
            yield name + word, command


def options(command: Any) -> set[str]:
    """All its options."""
    return {option for parameter in command.params for option in parameter.opts}


COMMANDS = dict(commands(get_command(cli.app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_shared_options(name: str) -> None:
    """One that can be used on a secured cluster is all that can; each shows tracebacks."""
    shared = {"--debug", "--config", "--bootstrap-servers"}
    if name in WITHOUT_KAFKA:
        shared = {"--debug"}
    elif name in ("status", "time"):  # they ask a worker
        shared = {"--debug", "--config"}
    assert shared == options(COMMANDS[name]) & {"--debug", "--config", "--bootstrap-servers"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_takes_nothing(name: str) -> None:
    """Nor does its help say so; the line of --help is typer's own."""
    lines = CliRunner().invoke(cli.app, [*name.split(), "--help"]).stdout.splitlines()
    assert not [line for line in lines if "<bool>" in line and "--help" not in line]


def test_commands_stand_in_the_order_of_their_use() -> None:
    """What begins comes first, what deletes comes last."""
    shown = CliRunner().invoke(cli.app, ["--help"]).stdout
    found = re.findall(r"^. (\w+) {2,}", shown, re.MULTILINE)
    group: Any = get_command(cli.app)
    assert [name for name in found if name in group.commands] == [
        *("demo", "init", "broker", "run", "status", "time", "lag", "topology", "config"),
        *("send", "topics", "lineage", "drain", "verify", "reset"),
    ]


@pytest.mark.parametrize("name", ["reset"])
def test_what_deletes_can_be_tried(name: str) -> None:
    """By `--dry-run`."""
    assert "--dry-run" in options(COMMANDS[name])


@pytest.mark.parametrize(
    "name",
    [
        *("config show", "topics list", "topics check", "topics read", "lineage show", "topology"),
        *("lag", "status", "time", "verify"),
    ],
)
def test_what_prints_data_prints_json(name: str) -> None:
    """By `--json`, and by no other option."""
    assert "--json" in options(COMMANDS[name])
    assert ("--format" in options(COMMANDS[name])) == (name == "topology")
    assert "json" not in list(Drawing)


def program(folder: Path) -> str:
    """A module with an App, importable from here."""
    name = f"shop_{abs(hash(str(folder)))}"
    (folder / f"{name}.py").write_text(PROGRAM)
    return f"{name}:app"


def shown_settings(*arguments: str) -> dict[str, tuple[Any, str, str]]:
    """What `config show --json` says, by setting."""
    result = CliRunner().invoke(cli.app, ["config", "show", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return {
        row["setting"]: (row["value"], row["origin"], row["place"])
        for row in json.loads(result.stdout)
    }


def test_the_file_that_is_named_counts(tmp_path: Path) -> None:
    """For the program, which is imported, and for commands that know an id alone."""
    named = tmp_path / "secured.toml"
    named.write_text('http_port = 9\n[kafka]\nsasl.password = "hush"\nsecurity.protocol = "SSL"')
    here = program(tmp_path)
    found = shown_settings(here, "--config", "secured.toml", "--set", "kafka.client.rack=r")
    assert found["http_port"] == (9, "file", str(named))
    assert found["kafka.sasl.password"] == ("***", "file", str(named))
    assert found["kafka.client.rack"] == ("r", "command line", "")
    assert found["linger_ms"] == (7, "code", "")
    of_tools = shown_settings("--config", "secured.toml", "-b", "there:9092")
    assert of_tools["bootstrap_servers"] == ("there:9092", "command line", "")
    assert of_tools["kafka.security.protocol"] == ("SSL", "file", str(named))
    # Workers of a supervisor find it by the environment, wherever they are.
    assert os.environ[FILE_VARIABLE] == str(named)


def test_a_table_for_people(tmp_path: Path) -> None:
    """Setting, value, where it comes from; no secret."""
    (tmp_path / "kstash.toml").write_text('[kafka]\nsasl.password = "hush"')
    result = CliRunner().invoke(cli.app, ["config", "show"])
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["kafka.sasl.password", "***", "file:", "kstash.toml"] in lines
    assert ["leave_on_stop", "false", "default"] in lines
    assert "hush" not in result.output


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_settings_that_the_client_refuses_do_not_count(tmp_path: Path, form: list[str]) -> None:
    """They are refused by their name, with the nearest one, as at a start; no Kafka is asked."""
    (tmp_path / "kstash.toml").write_text('[kafka]\n"security.protocl" = "SSL"')
    result = CliRunner().invoke(cli.app, ["config", "show", *form])
    assert isinstance(result.exception, ConfigError)
    assert "security.protocl" in str(result.exception)
    assert "did you mean 'security.protocol'?" in str(result.exception)
    assert not result.stdout


@pytest.mark.parametrize("words", [["topics", "list"], ["send", "t", "--value", "x"]])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """The first answer is waited for as long as by every tool, then the command ends."""
    monkeypatch.setattr("kstash.kafka.complaints.CONTACT_S", 0.5)
    result = CliRunner().invoke(cli.app, [*words, "--bootstrap-servers", "127.0.0.1:1"])
    assert isinstance(result.exception, KafkaUnavailableError)
    assert "did not answer within 0.5 s" in str(result.exception)


def test_a_table_without_a_terminal_is_not_cut(tmp_path: Path) -> None:
    """A file or a pipe has no edge."""
    (tmp_path / "kstash.toml").write_text(f'state_dir = "{"/long" * 50}"')
    result = CliRunner().invoke(cli.app, ["config", "show"])
    assert "/long" * 50 in result.stdout


def test_an_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the id of the application that a command is given."""
    monkeypatch.setenv("KSTASH_BOOTSTRAP_SERVERS", "variable:1")
    monkeypatch.setenv("KSTASH_APPLICATION_ID", "variable")
    config = Connection("option:1").config("argument", state_dir=None)
    assert (config.bootstrap_servers, config.application_id) == ("option:1", "argument")
    assert config.state_dir == "kstash-state"
    assert Connection().config("argument").bootstrap_servers == "variable:1"


def test_the_traceback_of_an_error_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--debug` shows it, and the message all the same; without it there is one line."""
    for debug in ([], ["--debug"]):
        monkeypatch.setattr("sys.argv", ["kstash", "topology", "no_such_module", *debug])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        printed = capsys.readouterr().err
        assert ("Traceback" in printed) == bool(debug)
        assert printed.splitlines()[-1].startswith("error: no module 'no_such_module'")


def test_topics_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """One list of objects."""

    class Console:
        def __enter__(self) -> Console:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        @property
        def admin(self) -> Console:
            return self

        def topics(self) -> list[TopicInfo]:
            return [TopicInfo("t", 3, 2)]

    monkeypatch.setattr(Connection, "kafka", lambda _: Console())
    result = CliRunner().invoke(cli.app, ["topics", "list", "--json"])
    assert json.loads(result.stdout) == [{"topic": "t", "partitions": 3, "replicas": 2}]


def test_a_wrong_settings_file_is_named(tmp_path: Path) -> None:
    """Before anything is asked."""
    (tmp_path / "wrong.toml").write_text("bootstrap_server = 'x'")
    result = CliRunner().invoke(cli.app, ["topics", "list", "--config", "wrong.toml"])
    assert isinstance(result.exception, ConfigError)
    assert "wrong.toml: unknown setting 'bootstrap_server'" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "number", "found"), [("kstash conf", 1, "config"), ("kstash topics cre", 2, "create")]
)
def test_shells_complete_commands(words: str, number: int, found: str) -> None:
    """What `--install-completion` sets up asks the program itself."""
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(number)}
    done = subprocess.run(
        [Path(sys.executable).with_name("kstash")],
        env={**os.environ, "_KSTASH_COMPLETE": "complete_bash", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == [found]

"""The command line that the applications share."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

import kstash
from kstash.apps.keyword_count.__main__ import main as keyword_count
from kstash.apps.log_count.__main__ import main as log_count
from kstash.apps.options import Options, shared_options
from kstash.apps.word_count.__main__ import main as word_count
from kstash.errors import TopicMissingError
from kstash.settings.config import Config

ALL = {
    "--bootstrap-servers": "broker:9092",
    "--application-id": "mine",
    "--output": "out",
    "--state-dir": "/state",
    "--guarantee": "write_first",
    "--checkpoint-interval-ms": "1500",
    "--sink-commit-interval-ms": "50",
    "--instance-id": "one",
    "--http-port": "8080",
    "--until": "drain",
    "--drop-store": "old",
    "--workers": "3",
}


def _parse(*arguments: str, **variables: str) -> Any:
    """What a program gets, or its exit code with what was printed."""
    caught: list[tuple[Options, str]] = []

    @shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
        application_id="app", inputs=("in-1", "in-2"), output="totals"
    )
    def main(options: Options, own: Annotated[str, typer.Option()] = "default") -> None:
        caught.append((options, own))

    program = typer.Typer()
    program.command()(main)
    result = CliRunner().invoke(program, arguments, env=variables)
    return caught[0] if caught else (result.exit_code, result.output)


def test_defaults_leave_settings_to_the_environment() -> None:
    """What is not given is not passed on, so that KSTASH_* variables and defaults apply."""
    options, own = _parse()
    assert options == Options("app", ("in-1", "in-2"), "totals", None, None, {})
    assert own == "default"


def test_every_option_reaches_its_setting() -> None:
    """Each option of the issue is there, and is a setting of the same name."""
    given = [part for pair in ALL.items() for part in pair]
    options, own = _parse(*given, "--input", "a", "--input", "b", "--own", "x")
    assert (options.application_id, options.inputs, options.output) == ("mine", ("a", "b"), "out")
    assert (options.until, options.workers, own) == ("drain", 3, "x")
    config = Config.load(options.settings)
    assert config.application_id == "mine"
    assert config.bootstrap_servers == "broker:9092"
    assert (config.guarantee, config.state_dir) == ("write_first", "/state")
    assert (config.checkpoint_interval_ms, config.sink_commit_interval_ms) == (1500, 50)
    assert (config.instance_id, config.http_port) == ("one", 8080)
    assert config.drop_stores == ("old",)


def test_what_is_no_setting_has_a_variable_too() -> None:
    """Topics and end of the run can be given by the environment alone."""
    variables = {
        "KSTASH_INPUT": "a b",
        "KSTASH_OUTPUT": "out",
        "KSTASH_UNTIL": "end",
        "KSTASH_WORKERS": "2",
    }
    options, _ = _parse(**variables)
    assert options == Options("app", ("a", "b"), "out", "end", 2, {})


def test_an_option_goes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And that before what the program says: one order for all settings, the id among them."""
    seen: list[Config] = []
    monkeypatch.setattr(kstash.App, "run", lambda app, **_: seen.append(app.config))
    variables = {"KSTASH_APPLICATION_ID": "theirs", "KSTASH_HTTP_PORT": "1"}
    program = typer.Typer()
    program.command()(word_count)
    for arguments in ([], ["--application-id", "mine", "--http-port", "2"]):
        assert CliRunner().invoke(program, arguments, env=variables).exit_code == 0
    found = [(config.application_id, config.http_port) for config in seen]
    assert found == [("theirs", 1), ("mine", 2)]


@pytest.mark.parametrize("given", [1, 3])
def test_as_many_inputs_as_the_program_reads(given: int) -> None:
    """Another number of inputs is refused with both numbers."""
    code, output = _parse(*["--input", "topic"] * given)
    assert code == 2
    assert f"2 needed, {given} given" in output


@pytest.mark.parametrize("arguments", [("--guarantee", "maybe"), ("--until", "noon")])
def test_unknown_choices_are_refused(arguments: tuple[str, str]) -> None:
    """A guarantee or end that does not exist is refused before anything starts."""
    code, output = _parse(*arguments)
    assert code == 2
    assert arguments[1] in output


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_error_is_one_line(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do, without a traceback of ours. Where the log is JSON it has all of it."""

    def fail(*_: Any, **__: Any) -> None:
        raise TopicMissingError(["in"], "create it")

    @shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
        application_id="app", inputs=("in",), output="out"
    )
    def main(options: Options) -> None:
        options.run(kstash.App("app", log_format=log_format))

    monkeypatch.setattr(kstash.App, "run", fail)
    program = typer.Typer()
    program.command()(main)
    result = CliRunner().invoke(program, [])
    assert result.exit_code == 1
    line = "TopicMissingError: no such topic: 'in'; to fix it: create it\n"
    assert result.stderr == ("" if log_format == "json" else line)


@pytest.mark.parametrize("command", [word_count, keyword_count, log_count])
def test_each_program_explains_itself(command: Any) -> None:
    """`--help` names every shared option."""
    program = typer.Typer()
    program.command()(command)
    result = CliRunner().invoke(program, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for option in (*ALL, "--input"):
        assert option in result.output


def test_a_bad_setting_is_named() -> None:
    """A value out of range gives the setting's name and the range."""
    program = typer.Typer()
    program.command()(word_count)
    result = CliRunner().invoke(program, ["--checkpoint-interval-ms", "1"])
    assert result.exit_code == 1
    assert "checkpoint_interval_ms" in result.stderr

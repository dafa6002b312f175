"""Settings: where they come from, and what is refused with which words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kstash import App, Config, ConfigError
from kstash.settings.config import sources_of
from kstash.settings.fields import LISTS
from kstash.settings.sources import VARIABLE_PREFIX


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(VARIABLE_PREFIX):
            monkeypatch.delenv(name)


def test_the_order_of_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Command line, then `KSTASH_*` variable, then file, then the program, then the default."""
    monkeypatch.chdir(tmp_path)
    found = [Config.load(application_id="a").http_port]
    found.append(Config.load(application_id="a", http_port=1).http_port)
    (tmp_path / "kstash.toml").write_text("http_port = 2")
    found.append(Config.load(application_id="a", http_port=1).http_port)
    monkeypatch.setenv("KSTASH_HTTP_PORT", "3")
    config = Config.load(application_id="a", http_port=1)
    found.append(config.http_port)
    found.append(Config.load({"http_port": 4}, application_id="a", http_port=1).http_port)
    found.append(config.override(http_port=5).http_port)
    assert found == [0, 1, 2, 3, 4, 5]


def test_only_load_looks_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `Config` that is made directly has what it is given; a copy of it too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kstash.toml").write_text("http_port = 2")
    monkeypatch.setenv("KSTASH_LOG_LEVEL", "debug")
    config = Config(application_id="a").override(linger_ms=5)
    assert (config.http_port, config.log_level, config.linger_ms) == (0, "info", 5)


def test_one_file_then_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The one that is named, then `kstash.toml`, then `[tool.kstash]` of `pyproject.toml`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.kstash]\nhttp_port = 1\n[tool.other]\nx = 1")
    found = [Config.load(application_id="a").http_port]
    (tmp_path / "kstash.toml").write_text("http_port = 2")
    found.append(Config.load(application_id="a").http_port)
    named = tmp_path / "elsewhere.toml"
    named.write_text("http_port = 3")
    monkeypatch.setenv("KSTASH_CONFIG", str(named))
    found.append(Config.load(application_id="a").http_port)
    assert found == [1, 2, 3]


def test_what_a_file_may_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numbers, texts, truth, lists; client settings with dots, quoted or not, one by one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kstash.toml").write_text(
        'bootstrap_servers = ["a:1", "b:2"]\nhttp_port = "8080"\nleave_on_stop = true\n'
        'state_dir = "s"\n[kafka]\nsecurity.protocol = "SSL"\n"ssl.ca.location" = "ca.pem"\n'
        '"sasl.password" = "hush"\n'
    )
    config = Config.load(application_id="a", kafka={"client.rack": "r", "ssl.ca.location": "x"})
    assert config.bootstrap_servers == "a:1,b:2"
    assert (config.http_port, config.leave_on_stop, config.state_dir) == (8080, True, "s")
    assert config.kafka == {
        "security.protocol": "SSL",
        "ssl.ca.location": "ca.pem",
        "sasl.password": "hush",
        "client.rack": "r",
    }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("kstash.toml", "http_prt = 1", ("kstash.toml", "'http_prt'", "did you mean 'http_port'?")),
        ("kstash.toml", "[tool.kstash]\nhttp_port = 1", ("kstash.toml", "'tool'")),
        ("kstash.toml", "http_port = 70000", ("setting http_port", "not 70000 (kstash.toml)")),
        ("kstash.toml", "http_port = hush", ("kstash.toml is no TOML", "line 1")),
        ("kstash.toml", "a = " + "[" * 100_000, ("kstash.toml is no TOML",)),
        ("kstash.toml", "kafka = 'hush'", ("setting kafka: ", "(kstash.toml)")),
        ("kstash.toml", "[kafka]\nacks = 1", ("'acks' is decided by kstash",)),
        ("kstash.toml", "[kafka]\nsasl.password = ['hush']", ("kafka['sasl.password']",)),
        ("kstash.toml", b"\xff", ("kstash.toml", "no text in UTF-8")),
        ("pyproject.toml", "[tool.kstash]\nhttp_prt = 1", ("pyproject.toml [tool.kstash]", "http")),
        ("pyproject.toml", "[tool]\nkstash = 1", ("pyproject.toml", "[tool.kstash]")),
        (
            "pyproject.toml",
            "[tool.kstash.kafka]\nsasl.password = 'hush'",
            ("pyproject.toml", "KSTASH_KAFKA__SASL_PASSWORD", "kafka.sasl.password is a secret"),
        ),
    ],
)
def test_a_file_that_is_refused(
    name: str,
    content: str | bytes,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The error has the file, the key and what was meant; no secret."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        Config.load(application_id="a")
    assert all(word in str(caught.value) for word in words), caught.value
    assert "hush" not in str(caught.value)
    assert caught.value.__context__ is None or "hush" not in repr(caught.value.__context__)


def test_a_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who names one wants it; a folder or a pipe is none."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "pipe"):
        monkeypatch.setenv("KSTASH_CONFIG", str(path))
        with pytest.raises(ConfigError) as caught:
            Config.load(application_id="a")
        assert str(path) in str(caught.value)


def test_files_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `pyproject.toml` that says nothing of kstash may be as it likes."""
    monkeypatch.chdir(tmp_path)
    for content in (b"\xff[", b"[broken kstash"):
        (tmp_path / "pyproject.toml").write_bytes(content)
        assert Config.load(application_id="a").http_port == 0


def test_where_each_setting_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the variable or the file; settings of the client one by one; secrets are masked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kstash.toml").write_text("linger_ms = 5\n[kafka]\nclient.rack = 'r'")
    monkeypatch.setenv("KSTASH_HTTP_PORT", "8080")
    monkeypatch.setenv("KSTASH_KAFKA__SASL_PASSWORD", "hush")
    monkeypatch.setenv("KSTASH_KAFKA", '{"sasl.username": "me"}')
    url = "https://me:hush@host/token"
    config = Config.load(
        application_id="a", linger_ms=7, kafka={"sasl.oauthbearer.token.endpoint.url": url}
    ).override(log_level="debug")
    found = {item.setting: (item.value, item.origin, item.place) for item in sources_of(config)}
    assert found["application_id"] == ("a", "code", "")
    assert found["linger_ms"] == (5, "file", "kstash.toml")
    assert found["http_port"] == (8080, "environment", "KSTASH_HTTP_PORT")
    assert found["log_level"] == ("debug", "command line", "")
    assert found["state_dir"] == ("kstash-state", "default", "")
    assert found["kafka.client.rack"] == ("r", "file", "kstash.toml")
    password = "environment", "KSTASH_KAFKA__SASL_PASSWORD"
    assert found["kafka.sasl.password"] == ("***", *password)
    assert found["kafka.sasl.username"] == ("me", "environment", "KSTASH_KAFKA")
    masked = "https://***@host/token"
    assert found["kafka.sasl.oauthbearer.token.endpoint.url"] == (masked, "code", "")
    assert {*found} >= {*Config.model_fields} - {"kafka"}
    assert "hush" not in repr(sources_of(config))


def test_every_setting_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is one to one with the settings, the client settings as JSON."""
    monkeypatch.setenv("KSTASH_KAFKA", '{"security.protocol": "SSL"}')
    monkeypatch.setenv("KSTASH_GUARANTEE", "at_least_once")
    monkeypatch.setenv("KSTASH_LEAVE_ON_STOP", "true")
    config = Config.load(application_id="a")
    assert config.kafka == {"security.protocol": "SSL"}
    assert (config.guarantee, config.leave_on_stop) == ("at_least_once", True)


@pytest.mark.parametrize("name", LISTS)
def test_lists(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuples for programs; with commas where only a text can be given, and where one is shown."""
    items = ("in/0/1", "in/0/2") if name == "skip_records" else ("a:1", "b:2")
    if name == "http_hosts_allowed":
        items = ("a.b", "c.d")
    text = ", ".join(items)
    assert getattr(Config.load(application_id="a"), name) == ()
    for given in (items, [*items], text):
        config = Config.load(application_id="a", **{name: given})
        assert getattr(config, name) == items
        assert {s.value for s in sources_of(config) if s.setting == name} == {",".join(items)}
    monkeypatch.setenv(f"KSTASH_{name.upper()}", text)
    assert getattr(Config.load(application_id="a"), name) == items
    for wrong in ("", f"{text},", [*items, ""], [1], 5, {items[0]: 1}):
        with pytest.raises(ConfigError, match=f"setting {name}: "):
            Config.load({name: wrong}, application_id="a")


def test_every_setting_has_a_valid_default() -> None:
    """An id is all that must be given."""
    assert Config.load(application_id="a").application_id == "a"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"http_prt": 1}, "unknown setting 'http_prt', did you mean 'http_port'?"),
        (
            {"idle_timeout": 5},
            "use idle_timeout= of window(), which closes windows where no record comes; or the "
            "setting idle_timeout_ms, ",
        ),
        ({"http_port": 70_000}, "setting http_port: input should be less than or equal to 65535"),
        ({"guarantee": "twice"}, "setting guarantee: input should be 'exactly_once', "),
        ({"lineage_ack_delay_ms": 10_001}, "setting lineage_ack_delay_ms: "),
        ({"transaction_timeout_ms": 1000}, "setting transaction_timeout_ms: "),
        ({"heartbeat_interval_ms": 4000}, "more than a third of session_timeout_ms"),
        ({"sink_commit_interval_ms": 7501}, "more than half of transaction_timeout_ms"),
        ({"kafka": {"acks": "1"}}, "kafka: 'acks' is decided by kstash: remove it"),
        ({"application_id": "a b"}, "application_id 'a b' is not allowed"),
    ],
)
def test_a_bad_setting_is_refused_with_its_name(settings: dict[str, Any], message: str) -> None:
    """The error names the setting and what would be right."""
    with pytest.raises(ConfigError) as caught:
        Config.load(**{"application_id": "a", **settings})
    assert message in str(caught.value)


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that looks like a setting is refused; one that resembles none is not ours."""
    monkeypatch.setenv("KSTASH_SOMETHING_OF_OTHERS", "1")
    assert Config.load(application_id="a").http_port == 0
    for variable in ("KSTASH_HTTP_PORTS", "KSTASH_http_port"):
        monkeypatch.setenv(variable, "1")
        with pytest.raises(ConfigError, match=f"{variable}, did you mean KSTASH_HTTP_PORT"):
            Config.load(application_id="a")
        monkeypatch.delenv(variable)


def test_settings_are_frozen_and_overridden_by_a_copy() -> None:
    """A configuration never changes; `configure` puts another one in its place."""
    app = App("a", http_port=1)
    before = app.config
    with pytest.raises(ValidationError):
        before.http_port = 2
    app.configure(http_port=2, application_id="b")
    assert (before.http_port, app.config.http_port, app.application_id) == (1, 2, "b")
    with pytest.raises(ConfigError, match="did you mean 'http_port'"):
        app.configure(http_prt=3)


def test_passwords_are_not_shown() -> None:
    """Client settings stay out of the representation and out of errors."""
    assert "secret" not in repr(Config.load(application_id="a", kafka={"sasl.password": "secret"}))
    with pytest.raises(ConfigError) as caught:
        Config.load(application_id="a", kafka=["secret"])
    assert "secret" not in str(caught.value)

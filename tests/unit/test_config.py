"""Settings: where they come from, and what is refused with which words."""

from __future__ import annotations

import os
from typing import Any

import pytest
from pydantic import ValidationError

from kstash import App, Config, ConfigError
from kstash.config import PREFIX


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_a_keyword_goes_before_the_environment_and_this_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keyword, then `KSTASH_*` variable, then default."""
    assert Config.load(application_id="a").http_port == 0
    monkeypatch.setenv("KSTASH_HTTP_PORT", "8080")
    assert Config.load(application_id="a").http_port == 8080
    assert Config.load(application_id="a", http_port=9090).http_port == 9090


def test_every_setting_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is one to one with the settings, the client settings as JSON."""
    monkeypatch.setenv("KSTASH_KAFKA", '{"security.protocol": "SSL"}')
    monkeypatch.setenv("KSTASH_GUARANTEE", "at_least_once")
    monkeypatch.setenv("KSTASH_LEAVE_ON_STOP", "true")
    config = Config.load(application_id="a")
    assert config.kafka == {"security.protocol": "SSL"}
    assert (config.guarantee, config.leave_on_stop) == ("at_least_once", True)


def test_every_setting_is_documented_and_has_a_valid_default() -> None:
    """The class's text names each setting, and the defaults alone are valid."""
    assert Config.load(application_id="a").application_id == "a"
    assert Config.__doc__ is not None
    for name in Config.model_fields:
        assert f"\n        {name}: " in Config.__doc__, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"http_prt": 1}, "unknown setting 'http_prt', did you mean 'http_port'?"),
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
    monkeypatch.setenv("KSTASH_HTTP_PORTS", "1")
    with pytest.raises(ConfigError, match="did you mean KSTASH_HTTP_PORT"):
        Config.load(application_id="a")


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

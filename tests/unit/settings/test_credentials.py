"""Secrets: by the environment and from files; on no command line, in nothing that is shown."""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from typer.testing import CliRunner

from kstash import App, Config, ConfigError
from kstash.cli import main as cli
from kstash.process.supervisor import Supervisor
from kstash.settings.credentials import (
    FILE_BYTES_MAX,
    MASK,
    client_settings,
    is_secret,
    masked_settings,
    masked_url,
    variable_of,
)
from kstash.settings.sources import VARIABLE_PREFIX

SECRET = "hush-hush"
PASSWORD = "KSTASH_KAFKA__SASL_PASSWORD"

REDACTED_BY_THE_CLIENT = (
    *("sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password"),
    *("sasl.oauthbearer.config", "sasl.oauthbearer.client.secret"),
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
)
"""With `debug=conf`; beside these `sasl.username` and `ssl.ca.pem`."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(VARIABLE_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def client_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The settings that the Kafka client lists itself."""
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    client = ctypes.CDLL(str(next(folder.glob("librdkafka*"))))
    system = ctypes.CDLL(None)
    system.fopen.restype = ctypes.c_void_p
    system.fclose.argtypes = client.rd_kafka_conf_properties_show.argtypes = [ctypes.c_void_p]
    path = tmp_path_factory.mktemp("client") / "settings"
    file = system.fopen(os.fsencode(path), b"w")
    client.rd_kafka_conf_properties_show(file)
    system.fclose(file)
    rows = [line.split("|")[0].strip() for line in path.read_text().splitlines() if "|" in line]
    return [row for row in rows if re.fullmatch(r"[a-z][a-z._]+", row)]


# --- names --------------------------------------------------------------------------------------


def test_each_setting_of_the_client_has_a_variable(client_names: list[str]) -> None:
    """What a text can set comes back under its own name; functions and pointers are no texts."""
    pointers = {"ssl_key", "ssl_certificate", "ssl_ca", "ssl_engine_callback_data"}
    pointers |= {"default_topic_conf", "msg_order_cmp", "enabled_events", "opaque"}
    texts = [name for name in client_names if not name.endswith("_cb") and name not in pointers]
    assert len(texts) > 100
    for name in texts:
        assert client_settings({variable_of(name): "1"}) == {name: "1"}


def test_the_secrets_of_the_client(client_names: list[str]) -> None:
    """All that the client redacts, and each name that tells one; nothing that is none."""
    assert all(map(is_secret, REDACTED_BY_THE_CLIENT))
    telling = {name for name in client_names if re.search("pass|secret|key.pem", name)}
    assert set(filter(is_secret, client_names)) == telling | {"sasl.oauthbearer.config", "ssl_key"}
    assert not any(map(is_secret, ("sasl.username", "ssl.ca.location", "sasl.mechanism")))


# --- where they come from -----------------------------------------------------------------------


def test_a_single_client_setting_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what the program gives; an application without any is none the wiser."""
    monkeypatch.setenv(PASSWORD, SECRET)
    given = {"security.protocol": "SASL_SSL"}
    assert App("a", kafka=given).config.kafka == {**given, "sasl.password": SECRET}
    monkeypatch.delenv(PASSWORD)
    assert Config.load(application_id="a").kafka == {}


def test_what_is_said_more_exactly_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The single variable, then the one with several, then the program; each for itself."""
    monkeypatch.setenv("KSTASH_KAFKA", '{"sasl.username": "json", "client.rack": "json"}')
    monkeypatch.setenv("KSTASH_KAFKA__CLIENT_RACK", "single")
    given = dict.fromkeys(("sasl.username", "client.rack", "client.dns.lookup"), "program")
    config = Config.load(application_id="a", kafka=given)
    assert config.kafka == {
        "sasl.username": "json",
        "client.rack": "single",
        "client.dns.lookup": "program",
    }
    again = config.override(http_port=1)
    assert again.kafka == config.kafka
    top = again.override(kafka={"sasl.username": "command line"})
    assert top.kafka == {**again.kafka, "sasl.username": "command line"}


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hush-hush", SECRET),
        (b"hush-hush\n", SECRET),
        (b"hush-hush\r\n", SECRET),
        (b"hush-hush\n\n", SECRET + "\n"),
        (b" hush-hush ", " hush-hush "),
        ("gehéim".encode(), "gehéim"),
        (b"-----BEGIN\nabc\n-----END\n", "-----BEGIN\nabc\n-----END"),
    ],
)
def test_a_value_from_a_file(
    content: bytes, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is there, without one newline at its end; it is read anew each time."""
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(0o444)  # as container engines mount them
    monkeypatch.setenv(f"{PASSWORD}_FILE", str(file))
    assert Config.load(application_id="a").kafka == {"sasl.password": value}
    file.chmod(0o600)
    file.write_text("changed")
    assert Config.load(application_id="a").kafka == {"sasl.password": "changed"}


def test_a_setting_that_takes_a_path_itself(tmp_path: Path) -> None:
    """`…_ASSERTION_FILE` is a setting of the client; from a file comes what has it twice."""
    variable = variable_of("sasl.oauthbearer.assertion.file")
    assert client_settings({variable: "/there"}) == {"sasl.oauthbearer.assertion.file": "/there"}
    (tmp_path / "path").write_text("/elsewhere")
    found = client_settings({f"{variable}_FILE": str(tmp_path / "path")})
    assert found == {"sasl.oauthbearer.assertion.file": "/elsewhere"}


def _missing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_missing, "cannot be read (No such file or directory)"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.symlink_to(path), "cannot be read (Too many levels"),
        (lambda path: path.touch(), "the file is empty"),
        (lambda path: path.write_bytes(b"\n"), "the file is empty"),
        (lambda path: path.write_bytes(b"hush-hush\xff"), "no text in UTF-8"),
        (lambda path: path.write_bytes(b"hush-hush\0x"), "a NUL character"),
        (lambda path: path.write_bytes(b"h" * (FILE_BYTES_MAX + 1)), "more than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_the_value(
    make: Callable[[Path], object], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the variable and what is wrong with its file; nothing hangs.

    Neither content nor path is shown: who mistakes one variable for the other has the secret there.
    """
    path = tmp_path / "hush-hush-path"
    make(path)
    monkeypatch.setenv(f"{PASSWORD}_FILE", str(path))
    with pytest.raises(ConfigError) as caught:
        Config.load(application_id="a")
    assert caught.value.setting == "kafka"
    assert str(caught.value).startswith(f"{PASSWORD}_FILE: ")
    assert problem in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_file_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of the system is in the message. Root may read all: it is refused here."""
    path = tmp_path / "password"
    path.write_text(SECRET)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)") as caught:
        client_settings({f"{PASSWORD}_FILE": str(path)})
    assert str(path) not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({PASSWORD: "hush", f"{PASSWORD}_FILE": __file__}, (PASSWORD, f"{PASSWORD}_FILE", "both")),
        ({PASSWORD: "hush", "KSTASH_KAFKA__sasl.password": "hush"}, ("both give", PASSWORD)),
        ({"KSTASH_KAFKA__": "hush"}, ("names no setting",)),
        ({"KSTASH_KAFKA___FILE": "hush"}, ("names no setting",)),
        ({"KSTASH_KAFKA__OAUTH_CB": "hush"}, ("KSTASH_KAFKA__OAUTH_CB", "in the program")),
        ({"KSTASH_KAFKA_SASL_PASSWORD": "hush"}, ("two underscores", PASSWORD)),
        ({"KSTASH_KAFKA": "{hush"}, ("KSTASH_KAFKA is no JSON",)),
        ({"KSTASH_KAFKA": '["hush"]'}, ("setting kafka: ",)),
        ({"KSTASH_KAFKA": '{"sasl.password": ["hush"]}'}, ("kafka['sasl.password']: ",)),
        ({"KSTASH_KAFKA__ACKS": "hush"}, ("'acks' is decided by kstash",)),
    ],
)
def test_a_variable_that_cannot_be_right(
    variables: dict[str, str], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable or the setting, and not the value."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        Config.load(application_id="a")
    assert all(word in str(caught.value) for word in words), caught.value
    assert "hush" not in str(caught.value)


def test_an_empty_variable_is_none() -> None:
    """As for all settings; and one of another program is left alone."""
    assert client_settings({PASSWORD: "", f"{PASSWORD}_FILE": "", "KSTASH_KAFKA_HOST": "x"}) == {}


# --- command lines ------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", REDACTED_BY_THE_CLIENT)
def test_a_command_line_takes_no_secret(setting: str) -> None:
    """Refused by name, before the program is imported; the error says what to use instead."""
    arguments = ["run", "no_such_module:app", "--set", f"kafka.{setting}={SECRET}"]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, ConfigError)
    message = str(result.exception)
    assert variable_of(setting) in message
    assert f"{variable_of(setting)}_FILE" in message
    assert SECRET not in message + result.output


def test_a_command_line_takes_no_settings_in_one() -> None:
    """Nobody could tell what is in there; one by one they have names."""
    arguments = ["run", "no_such_module:app", "--set", f'kafka={{"sasl.password": "{SECRET}"}}']
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "--set kafka.NAME=VALUE" in str(result.exception)
    assert SECRET not in str(result.exception) + result.output


WORKER = """
import os, signal, sys
from kstash.settings.config import Config
from kstash.process.seat import STANDBY, Seat
place = Seat.of_this_process("fake")
place = place.wait() if place.index == STANDBY else place
tell_ready = place.join()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with open(sys.argv[1], "w") as told:
    lines = open("/proc/self/cmdline").read(), Config.load(application_id="fake").kafka
    told.write(repr(lines))
tell_ready(1)
while True:
    signal.pause()
"""


def test_supervised_workers_get_secrets_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has the password; its command line, which everybody can list, has not."""
    monkeypatch.setenv(PASSWORD, SECRET)
    told = tmp_path / "told"

    class Stop:
        is_set = False

    stop = Stop()
    config = Config.load(application_id="fake")
    Supervisor(
        [sys.executable, "-c", WORKER, str(told)],
        config,
        1,
        on_ready=lambda: setattr(stop, "is_set", True),
    ).run(stop)
    command, _, settings = told.read_text().rpartition(", {")
    assert "-c" in command
    assert SECRET not in command
    assert SECRET in settings


# --- what is shown ------------------------------------------------------------------------------


def test_dumps_and_representations_are_masked() -> None:
    """Of the settings, whatever way they are written out; the attribute has the values."""
    kafka: dict[str, Any] = dict.fromkeys(REDACTED_BY_THE_CLIENT, SECRET)
    kafka |= {"sasl.username": "me", "linger.ms": 5}
    kafka["sasl.oauthbearer.token.endpoint.url"] = f"https://me:{SECRET}@host/token?key={SECRET}"
    config = Config.load(application_id="a", kafka=kafka)
    shown = [
        *(repr(config), str(config), f"{config}", config.model_dump_json()),
        *(
            str(config.model_dump()),
            str(config.model_dump(mode="json")),
            str(dict(config.model_dump())),
        ),
    ]
    assert not any(SECRET in text for text in shown)
    assert all("'sasl.username': 'me'" in text or '"sasl.username":"me"' in text for text in shown)
    assert config.kafka == kafka
    assert config.override(http_port=7).kafka == kafka
    assert pickle.loads(pickle.dumps(config)).kafka == kafka


def test_what_is_no_text_is_masked_too() -> None:
    """A function given as a client setting is shown as one, without its name or what it holds."""
    found = masked_settings(
        {"oauth_cb": lambda _: SECRET, "sasl.password": 1, "x.ms": 5, "y": True}
    )
    assert found == {"oauth_cb": "<function>", "sasl.password": MASK, "x.ms": 5, "y": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kafka": [SECRET]}, "setting kafka: "),
        ({"kafka": SECRET}, "setting kafka: "),
        ({"kafka": {"sasl.password": [SECRET]}}, "setting kafka['sasl.password']: "),
        ({"kafka": {"sasl.password": {"a": SECRET}}}, "setting kafka['sasl.password']: "),
        ({"checkpoint_store": f"s3://key:{SECRET}@bucket/p"}, "'s3://***@bucket/p'"),
        ({"checkpoint_store": f"s3://bucket/p?secret={SECRET}"}, "'s3://bucket/p?***'"),
        ({"checkpoint_store": f"az://container?sv=1&sig={SECRET}"}, "'az://container?***'"),
        ({"checkpoint_store": f"ftp://key:{SECRET}@bucket/p"}, "'ftp://***@bucket/p'"),
    ],
)
def test_errors_do_not_quote_secrets(given: dict[str, Any], message: str) -> None:
    """Neither ours nor, where settings are made without us, the library's."""
    with pytest.raises(ConfigError) as caught:
        Config.load(**{"application_id": "a", **given})
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="validation error") as direct:
        Config(**{"application_id": "a", **given})
    assert SECRET not in str(direct.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("topic", "topic"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("s3://bucket/a@b:c", "s3://bucket/a@b:c"),
        ("file:///state/folder", "file:///state/folder"),
        ("https://host:8080/path", "https://host:8080/path"),
        ("https://[::1]:8080/path", "https://[::1]:8080/path"),
        ("s3://key:secret@bucket/p", "s3://***@bucket/p"),
        ("s3://key:sec/re@t@bucket/p", "s3://***@bucket/p"),
        ("s3://secret@bucket", "s3://***@bucket"),
        ("s3://key:secret/p", "s3://***/p"),
        ("az://container/p?sv=1&sig=secret", "az://container/p?***"),
        ("https://me:secret@[::1]:80/p?key=secret#secret", "https://***@[::1]:80/p?***"),
    ],
)
def test_urls_are_shown_without_their_keys(url: str, shown: str) -> None:
    """User, password and query are masked, also where a key was not quoted; the rest stays."""
    assert masked_url(url) == shown


@pytest.mark.parametrize("url", ["s3://bucket/a@b", "gs://bucket", "az://c/p", "file:///a@b?c"])
def test_urls_without_a_key_are_taken(url: str) -> None:
    """A bucket and a path, whatever the path is made of."""
    assert Config.load(application_id="a", checkpoint_store=url).checkpoint_store == url

"""Passwords that change while a process runs, by clients that note what they are told."""

from __future__ import annotations

import gc
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from confluent_kafka import KafkaException

from kstash.kafka import client_settings as settings
from kstash.kafka import clients
from kstash.kafka.clients import make_admin, make_consumer, make_producer
from kstash.kafka.rotation import Rotation
from kstash.settings.config import Config

NOWHERE = "127.0.0.1:1"
READ = "credentials read again"
BAD = "credentials cannot be read again, the old ones stay"


class Client:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str, /) -> None:
        """Take them."""
        self.told.append((username, password))


class Quiet(Rotation):
    """Looks when the test says so."""

    def _run(self) -> None:
        return


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has the password."""
    file = tmp_path / "password"
    file.write_text("first\n")
    monkeypatch.setenv("KSTASH_KAFKA__SASL_PASSWORD_FILE", str(file))
    return file


def load(**kafka: Any) -> Config:
    """Settings of a user."""
    return Config.load(application_id="shop", kafka={"sasl.username": "ada", **kafka})


def test_clients_are_told_a_new_password(file: Path) -> None:
    """Each that has what was in the file, once, and the log names the file."""
    config, rotation = load(), Quiet()
    rotation.follow(config)
    mine, others = Client(), Client()
    rotation.add(mine, config.kafka)
    rotation.add(others, {"sasl.username": "ada", "sasl.password": "another"})
    with structlog.testing.capture_logs() as logs:
        rotation.look()
        assert mine.told == []
        file.write_text("second\n")
        rotation.look()
        rotation.look()
    assert mine.told == [("ada", "second")]
    assert others.told == []
    assert logs == [{"event": READ, "file": str(file), "log_level": "info"}]
    file.write_text("third")
    rotation.look()
    assert mine.told[1:] == [("ada", "third")]


def test_user_and_password_change_together(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client is told both at once."""
    user = tmp_path / "user"
    user.write_text("ada")
    monkeypatch.setenv("KSTASH_KAFKA__SASL_USERNAME_FILE", str(user))
    config, rotation, client = Config.load(application_id="shop"), Quiet(), Client()
    rotation.follow(config)
    rotation.add(client, config.kafka)
    user.write_text("bob")
    file.write_text("second")
    rotation.look()
    assert client.told == [("bob", "second")]


def test_clients_that_are_made_later_have_the_new_one(file: Path) -> None:
    """By settings that were read before; a value that was there before comes back, too."""
    config, rotation = load(), Quiet()
    rotation.follow(config)
    for word in ("second", "third", "first"):
        file.write_text(word)
        rotation.look()
        assert rotation.renewed(config.kafka)["sasl.password"] == word
    file.write_text("fourth")
    rotation.follow(load())  # of another application, made between two looks
    assert rotation.renewed(config.kafka)["sasl.password"] == "fourth"
    late = Client()
    rotation.add(late, config.kafka)  # the file changed while it was being made
    assert late.told == [("ada", "fourth")]


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, lambda file: file.write_text(""), lambda file: file.write_bytes(b"\xff")],
    ids=["gone", "empty", "no text"],
)
def test_a_file_that_cannot_be_used(file: Path, spoil: Callable[[Path], object]) -> None:
    """The old password stays, one warning says why; a good one counts again."""
    config, rotation, client = load(), Quiet(), Client()
    rotation.follow(config)
    rotation.add(client, config.kafka)
    spoil(file)
    with structlog.testing.capture_logs() as logs:
        rotation.look()
        rotation.look()
    assert [line["event"] for line in logs] == [BAD]
    assert "KSTASH_KAFKA__SASL_PASSWORD_FILE: the file" in logs[0]["reason"]
    assert client.told == []
    assert rotation.renewed(config.kafka)["sasl.password"] == "first"
    file.write_text("second")
    rotation.look()
    assert client.told == [("ada", "second")]


def test_a_mounted_secret_is_a_link_that_is_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes renews it: the content counts, whatever times and sizes say."""
    for name in ("first", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "password").write_text(name)
        os.utime(folder / "password", (1, 1))
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "first")
    monkeypatch.setenv("KSTASH_KAFKA__SASL_PASSWORD_FILE", str(link / "password"))
    config, rotation = load(), Quiet()
    rotation.follow(config)
    (tmp_path / "next").symlink_to(tmp_path / "other")
    (tmp_path / "next").rename(link)
    rotation.look()
    assert rotation.renewed(config.kafka)["sasl.password"] == "other"


def test_what_does_not_come_from_the_file_that_counts_is_left_alone(file: Path) -> None:
    """A command line goes before the environment: then nobody looks at the file."""
    config = load().override(kafka={"sasl.password": "mine"})
    rotation, client = Quiet(), Client()
    rotation.follow(config)
    rotation.add(client, config.kafka)
    file.write_text("second")
    rotation.look()
    assert client.told == []
    assert rotation.renewed(config.kafka) == config.kafka


def test_all_clients_of_a_process_are_followed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind, until it is closed or gone: a closed one must not be touched any more."""
    rotation = Quiet()
    monkeypatch.setattr(clients, "ROTATION", rotation)
    monkeypatch.setattr(settings, "ROTATION", rotation)
    config = load(**{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"})
    config = config.override(bootstrap_servers=NOWHERE)
    consumer = make_consumer(settings.reader(config))
    made = [
        make_admin(settings.admin(config)),
        consumer,
        make_producer(settings.data_producer(config)),
    ]
    assert set(rotation._clients) == set(made)
    file.write_text("second")
    with structlog.testing.capture_logs() as logs:
        rotation.look()
    assert [line["event"] for line in logs] == [READ]
    assert [told["sasl.password"] for told in rotation._clients.values()] == ["second"] * 3
    consumer.close()
    assert len(rotation._clients) == 2
    made.clear()
    gc.collect()
    assert not len(rotation._clients)


def test_the_files_are_looked_at_by_themselves(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread, which no processing waits for."""
    monkeypatch.setattr("kstash.kafka.rotation.LOOK_S", 0.01)
    config, rotation, client = load(), Rotation(), Client()
    rotation.follow(config)
    rotation.add(client, config.kafka)
    assert rotation._thread is not None
    assert rotation._thread.daemon
    file.write_text("second")
    for _ in range(500):
        rotation._thread.join(0.01)
        if client.told:
            break
    assert client.told == [("ada", "second")]


class Gate:
    """Listens as a broker with SASL PLAIN does, notes what it is told, and hangs up."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def wait(self, told: bytes) -> None:
        """Until somebody has said this."""
        while self.told.get(timeout=30) != told:
            pass

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(
                    target=self._serve, args=self._server.accept()[:1], daemon=True
                ).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, struct.error):
            stream = connection.makefile("rwb")
            while True:
                request = self._take(stream)
                api, version, correlation = struct.unpack_from(">hhi", request)
                if api == 18:  # ApiVersions: the oldest forms of what follows, and of metadata
                    known = struct.pack(">9h", 3, 0, 0, 17, 0, 0, 18, 0, 0)
                    answer = struct.pack(">hi", 35 if version else 0, 3) + known
                    self._give(stream, struct.pack(">i", correlation) + answer)
                    continue
                assert api == 17  # SaslHandshake; what follows has no header
                self._give(stream, struct.pack(">ihih", correlation, 0, 1, 5) + b"PLAIN")
                self.told.put(self._take(stream))
                self._give(stream, b"")
                return

    def _take(self, stream: Any) -> bytes:
        (size,) = struct.unpack(">i", stream.read(4))
        return bytes(stream.read(size))

    def _give(self, stream: Any, answer: bytes) -> None:
        stream.write(struct.pack(">i", len(answer)) + answer)
        stream.flush()


@pytest.mark.parametrize(
    ("make", "chosen"),
    [
        (make_admin, settings.admin),
        (make_consumer, settings.reader),
        (make_producer, settings.data_producer),
    ],
    ids=["admin", "consumer", "producer"],
)
def test_the_next_connection_has_the_new_password(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Any], Any],
    chosen: Callable[[Config], dict[str, Any]],
) -> None:
    """By the real client, from another thread than the one that uses it."""
    rotation = Quiet()
    monkeypatch.setattr(clients, "ROTATION", rotation)
    monkeypatch.setattr(settings, "ROTATION", rotation)
    gate = Gate()
    config = load(**{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"})
    client = make(chosen(config.override(bootstrap_servers=gate.address)))
    with suppress(KafkaException):
        client.list_topics(timeout=0.1)  # the consumer connects when it has to
    gate.wait(b"\0ada\0first")
    file.write_text("second")
    thread = threading.Thread(target=rotation.look)
    thread.start()
    thread.join()
    with suppress(KafkaException):
        client.list_topics(timeout=0.1)
    gate.wait(b"\0ada\0second")
    if make is make_consumer:
        client.close()
    gate.close()


def test_a_client_is_made_with_the_new_password(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not told it afterwards: its first connection may be under way by then."""
    rotation = Quiet()
    made: list[Mapping[str, Any]] = []

    def make(chosen: Mapping[str, Any]) -> Client:
        made.append(chosen)
        return Client()

    monkeypatch.setattr(clients, "ROTATION", rotation)
    monkeypatch.setattr(clients, "_Producer", make)
    config = load()
    rotation.follow(config)
    file.write_text("second")
    rotation.look()
    make_producer(config.kafka)
    assert [chosen["sasl.password"] for chosen in made] == ["second"]

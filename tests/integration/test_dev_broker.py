"""The development broker: real Kafka nodes that die with their owner and keep what they should."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstash.broker import DevBroker
from kstash.broker.errors import BrokerFolderError, BrokerStartError, PortBusyError
from kstash.kafka.console import KafkaConsole
from kstash.ports.kafka import NewTopic
from tests.chaos.harness import MORTAL

DEADLINE_S = 20.0

OWNER = """
import sys, threading, time
from kstash.broker import DevBroker

broker = DevBroker()
# Started by a thread that ends: what keeps the broker must be the process.
starter = threading.Thread(target=broker.start)
starter.start()
starter.join()
print(broker.pid(), broker.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    """A node of this module's own: its tests kill and pause it."""
    with DevBroker(config=MORTAL) as broker:
        yield broker


def exists(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int) -> None:
    """Wait until a process is gone, for `DEADLINE_S` at most."""
    deadline = time.monotonic() + DEADLINE_S
    while exists(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived its owner"
        time.sleep(0.02)


def topic_names(broker: DevBroker, *, deadline_s: float = DEADLINE_S) -> list[str]:
    """What the cluster lists."""
    with KafkaConsole(broker.bootstrap_servers, deadline_s=deadline_s) as kafka:
        return [topic.name for topic in kafka.admin.topics()]


def make_topic(broker: DevBroker, name: str, partitions: int = 1) -> None:
    """Create a topic."""
    with KafkaConsole(broker.bootstrap_servers) as kafka:
        kafka.admin.create([NewTopic(name, partitions, None, {})])


def test_kill_of_the_owner_takes_the_broker_along() -> None:
    """After kill -9 of the owner its broker is gone, and so is its temporary folder."""
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid_text, folder = owner.stdout.readline().decode().split()
        pid = int(pid_text)
        assert exists(pid)
        owner.kill()
        owner.wait()
        wait_until_gone(pid)
    deadline = time.monotonic() + DEADLINE_S
    while Path(folder, "node-0").exists():
        assert time.monotonic() < deadline, f"{folder} was left"
        time.sleep(0.02)


def test_a_killed_node_comes_back_with_its_data(broker: DevBroker) -> None:
    """A node killed and started again has the same address, topics and records."""
    make_topic(broker, "kept")
    with KafkaConsole(broker.bootstrap_servers) as kafka:
        kafka.send("kept", 0, b"key", b"value")
        kafka.flush()
    address, pid = broker.bootstrap_servers, broker.pid()
    broker.kill()
    assert not broker.is_alive()
    assert not exists(pid)
    broker.restart()
    assert broker.bootstrap_servers == address
    with KafkaConsole(broker.bootstrap_servers) as kafka:
        records = [(m.key(), m.value()) for m in kafka.read({("kept", 0): -2})]
    assert records == [(b"key", b"value")]


def test_a_running_node_restarts_in_order(broker: DevBroker) -> None:
    """Restart of a running node stops it first and gives another process."""
    pid = broker.pid()
    broker.restart()
    assert broker.pid() != pid
    assert not exists(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_killed_keeper_takes_its_node_along(broker: DevBroker) -> None:
    """The process between owner and node cannot be killed without the node."""
    pid = broker.pid()
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert keeper != os.getpid()
    os.kill(keeper, signal.SIGKILL)
    wait_until_gone(pid)
    broker.restart()
    assert broker.pid() != pid


def test_a_paused_node_answers_again_when_resumed(broker: DevBroker) -> None:
    """Between pause and resume a node is alive and silent."""
    broker.pause()
    try:
        assert broker.is_alive()
        with pytest.raises(Exception, match="did not answer"):
            topic_names(broker, deadline_s=1.0)
    finally:
        broker.resume()
    topic_names(broker)


def test_a_given_folder_is_kept_and_opened_again(tmp_path: Path) -> None:
    """Topics survive in a given folder, on other ports.

    Another number of nodes is refused, and what a newer Kafka wrote.
    """
    with DevBroker(folder=tmp_path) as broker:
        make_topic(broker, "durable", partitions=3)
    with DevBroker(folder=tmp_path) as broker:
        assert "durable" in topic_names(broker)
    with pytest.raises(BrokerFolderError, match="1 nodes, wanted"):
        DevBroker(folder=tmp_path, brokers=3).start()
    cluster = tmp_path / "cluster.json"
    cluster.write_text(json.dumps(json.loads(cluster.read_text()) | {"kafka": "99.0.0"}))
    with pytest.raises(BrokerFolderError, match=r"was made by Kafka 99\.0\.0"):
        DevBroker(folder=tmp_path).start()


def test_a_busy_port_is_named() -> None:
    """A port that somebody listens on is refused before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortBusyError, match=f"port {port} is in use") as caught:
            DevBroker(port=port).start()
        assert caught.value.port == port


def test_a_setting_that_kafka_refuses_is_reported_with_its_log() -> None:
    """A node that does not start says why: the end of Kafka's own log is in the error."""
    with pytest.raises(BrokerStartError, match=r"log\.retention\.bytes"):
        DevBroker(config={"log.retention.bytes": "much"}).start()


def test_ctrl_c_of_the_terminal_does_not_reach_the_broker(broker: DevBroker) -> None:
    """The node is in a session of its own: its owner stops it, not the terminal's SIGINT."""
    assert os.getsid(broker.pid()) != os.getsid(os.getpid())
    assert os.getpgid(broker.pid()) != os.getpgid(os.getpid())


def test_three_nodes_serve_on_without_one() -> None:
    """With one of three nodes down, records are acknowledged by all in-sync ones and read back."""
    overrides = {1: {"log.cleaner.threads": 2}}
    with DevBroker(brokers=3, config=MORTAL, node_config=overrides, heap_mb=256) as broker:
        settings = (broker.folder / "node-1" / "server.properties").read_text()
        assert "log.cleaner.threads=2" in settings
        make_topic(broker, "spread", partitions=3)
        broker.kill(1)
        alive = [broker.is_alive(node) for node in range(3)]
        assert alive == [True, False, True]
        with KafkaConsole(broker.bootstrap_servers, deadline_s=30.0) as kafka:
            for partition in range(3):
                kafka.send("spread", partition, None, b"x")
            kafka.flush()
            topics = {topic.name: topic for topic in kafka.admin.topics()}
            records = list(kafka.read({("spread", partition): -2 for partition in range(3)}))
        assert topics["spread"].replication_factor == 3
        assert len(records) == 3
        broker.restart(1)
        assert broker.is_alive(1)


def test_a_broker_stops_when_its_owner_is_reported_to(tmp_path: Path) -> None:
    """SIGTERM of the command `kstash broker` stops the node in order and exits with 0."""
    command = [sys.executable, "-m", "kstash.cli.main", "broker", "--port", "0", "--dir", "data"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert "127.0.0.1:" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=DEADLINE_S) == 0
    assert (tmp_path / "data" / "node-0" / "data" / "meta.properties").exists()

"""Settings of the development broker's nodes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kstash.broker.errors import BrokerStartError
from kstash.broker.node import BrokerNode, node_settings
from kstash.cli import main as cli

ONE = [(9092, 9093)]
THREE = [(9092, 9095), (9093, 9096), (9094, 9097)]


def test_one_node_needs_no_other_copy() -> None:
    """Every replication factor and in-sync count of a single node is 1."""
    settings = node_settings(0, ONE, Path("/data"), {})
    copies = {k: v for k, v in settings.items() if "replication.factor" in k or "isr" in k}
    assert len(copies) >= 6
    assert set(copies.values()) == {"1"}
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["group.initial.rebalance.delay.ms"] == "0"


def test_a_start_that_takes_too_long_says_how_to_wait(tmp_path: Path) -> None:
    """Also where the folder is formatted; what formatting prints is not shown."""
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    node = BrokerNode(0, tmp_path, slow, is_temporary=True)
    node.log.write_text(
        "Bootstrap metadata: BootstrapMetadata(records=[ApiMessageAndVersion(x)])\n"
        "Formatting metadata directory /data\nWARN the disk is slow " + "x" * 1000
    )
    with pytest.raises(BrokerStartError) as caught:
        node.format("id", 0.2)
    said = str(caught.value)
    assert "within 0.2 s" in said
    assert "--wait SECONDS" in said
    assert "WARN the disk is slow" in said
    assert "ootstrap" not in said
    assert len(said) < 1000


def test_a_stack_does_not_hide_the_exception(tmp_path: Path) -> None:
    """However deep Java's stack is, the line that names the cause is shown."""
    node = BrokerNode(0, tmp_path, [sys.executable, "-c", "raise SystemExit(1)"], is_temporary=True)
    node.log.write_text("ConfigException: much is no number\n" + "\tat a.b.C.d(C.java:1)\n" * 20)
    with pytest.raises(BrokerStartError, match="much is no number"):
        node.format("id", 10)


def test_a_broker_that_gives_no_answer_in_the_time_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kstash broker --wait` is that time; the process is ended."""
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\ncase "$*" in *StorageTool*) exit 0;; esac\nexec sleep 60\n')
    java.chmod(0o755)
    monkeypatch.setattr("kstash.broker.jars.java", lambda: java)
    monkeypatch.setattr("kstash.broker.jars.jars", lambda _: [])
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process is the tests'
    result = CliRunner().invoke(cli.app, ["broker", "--port", "0", "--wait", "1"])
    assert isinstance(result.exception, BrokerStartError)
    assert str(result.exception).startswith("node 0 gave no answer within 1 s: this machine may be")
    assert "says no more" in str(result.exception)


def test_a_log_that_tells_nothing() -> None:
    """There is no heading without a text."""
    assert "says no more" in str(BrokerStartError("it is slow", "server.log", ""))


def test_three_nodes_keep_three_copies_and_survive_one() -> None:
    """With three nodes topics have three replicas and two must be in sync."""
    settings = node_settings(2, THREE, Path("/data"), {})
    assert settings["default.replication.factor"] == "3"
    assert settings["min.insync.replicas"] == "2"
    assert settings["transaction.state.log.min.isr"] == "2"
    assert settings["node.id"] == "2"
    assert settings["controller.quorum.voters"] == (
        "0@127.0.0.1:9095,1@127.0.0.1:9096,2@127.0.0.1:9097"
    )
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9094,CONTROLLER://127.0.0.1:9097"


def test_overrides_win() -> None:
    """What the user sets replaces our choice; booleans are written as Kafka reads them."""
    settings = node_settings(
        0, ONE, Path("/data"), {"auto.create.topics.enable": True, "num.partitions": 7}
    )
    assert settings["auto.create.topics.enable"] == "true"
    assert settings["num.partitions"] == "7"


def test_further_listeners_tell_clients_another_port() -> None:
    """Behind a proxy a node gives clients the proxy's port; nodes reach each other directly."""
    settings = node_settings(1, THREE, Path("/data"), {}, [(7001, 8001), (7002, 8002)])
    assert settings["listeners"] == (
        "PLAINTEXT://127.0.0.1:9093,CONTROLLER://127.0.0.1:9096,"
        "FURTHER0://127.0.0.1:7001,FURTHER1://127.0.0.1:7002"
    )
    assert settings["advertised.listeners"] == (
        "PLAINTEXT://127.0.0.1:9093,FURTHER0://127.0.0.1:8001,FURTHER1://127.0.0.1:8002"
    )
    assert settings["inter.broker.listener.name"] == "PLAINTEXT"
    assert "FURTHER1:PLAINTEXT" in settings["listener.security.protocol.map"]

"""A real Apache Kafka on this machine, for development and tests.

    with DevBroker() as broker:
        kstash.App("my-app", bootstrap_servers=broker.bootstrap_servers)

Invariants: a node is ready only when an admin client got an answer that lists it; no node outlives
the process that started it, however that process ends; a folder that was given is kept.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kstash.broker import jars as kafka_jars
from kstash.broker.errors import BrokerFolderError, BrokerStartError, PortBusyError
from kstash.broker.node import BrokerNode, node_settings, too_busy
from kstash.broker.ports import check_ports, choose_ports, is_free
from kstash.broker.probe import ClusterProbe
from kstash.broker.progress import ShowProgress

START_TIMEOUT_S = 90.0
_STOP_DEADLINE_S = 15.0
_PORT_DEADLINE_S = 5.0
_START_ATTEMPTS = 3
_FOLDER_FORMAT = 1


class DevBroker:
    """One or several Kafka nodes on 127.0.0.1, each a broker and a controller.

    A context manager; `start` and `close` do the same by hand. Not for production, and not
    thread-safe. With three nodes one may be down and the cluster serves on; replication factors
    are min(3, nodes) and `min.insync.replicas` one less (at least 1).

    Args:
        brokers: number of nodes, 1 to 9.
        port: client port of the first node, the others take the ports after it; 0 takes free ones.
        folder: data folder, kept and opened again the next time; None is a temporary one.
        config: Kafka settings for every node.
        node_config: Kafka settings by node, over those of `config`.
        heap_mb: Java heap of each node in MiB.
        java_options: further options of the Java runtime.
        listeners: by node, further listeners: `(its port, the port that clients are given)`, the
            second being that of a proxy in front; every node has the same number.
        start_timeout_s: deadline in seconds for the cluster to answer after a start.
    """

    def __init__(
        self,
        *,
        brokers: int = 1,
        port: int = 0,
        folder: str | os.PathLike[str] | None = None,
        config: Mapping[str, object] | None = None,
        node_config: Mapping[int, Mapping[str, object]] | None = None,
        heap_mb: int = 512,
        java_options: Sequence[str] = (),
        listeners: Mapping[int, Sequence[tuple[int, int]]] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        assert 1 <= brokers <= 9, f"brokers must be 1 to 9, not {brokers}"
        assert 0 <= port <= 65_535 - brokers, f"no such port: {port}"
        self._count = brokers
        self._port = port
        self._given_folder = None if folder is None else Path(folder).resolve()
        self._config = dict(config or {})
        self._node_config = {node: dict(config) for node, config in (node_config or {}).items()}
        self._java_options = [f"-Xmx{heap_mb}m", *java_options]
        self._listeners = dict(listeners or {})
        self._start_timeout_s = start_timeout_s
        self._ports: list[tuple[int, int]] = []
        self._nodes: list[BrokerNode] = []
        self._folder: Path | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of all nodes, comma-separated: what Kafka clients connect to."""
        assert self._ports, "the broker was not started"
        return ",".join(f"127.0.0.1:{port}" for port, _ in self._ports)

    @property
    def folder(self) -> Path:
        """The data folder, a folder `node-<n>` per node in it with settings, log and data."""
        assert self._folder is not None, "the broker was not started"
        return self._folder

    def pid(self, node: int = 0) -> int:
        """Process id of a running node."""
        return self._nodes[node].pid

    def is_alive(self, node: int = 0) -> bool:
        """Whether the node's process exists; a paused one does."""
        return self._nodes[node].is_alive

    def exit_error(self, node: int = 0) -> BrokerStartError:
        """The error for a node that exited by itself, with the end of its log."""
        return self._nodes[node].start_error(f"node {node} exited")

    def start(self) -> Self:
        """Start all nodes and wait until they answer.

        Raises:
            BrokerExtraMissingError: the extra `broker` is not installed.
            BrokerDownloadError: Kafka is not in the cache and cannot be fetched.
            PortBusyError: `port` is in use.
            BrokerFolderError: the folder is of another version or number of nodes.
            BrokerStartError: Kafka did not start; carries the end of its log.
        """
        assert not self._nodes, "the broker was started already"
        java = kafka_jars.java()
        with ShowProgress() as progress:
            class_path = ":".join(str(jar) for jar in kafka_jars.jars(progress))
        # One heap region and few threads fit a small machine; the archive of performance counters
        # in the temporary folder is of no use here.
        command = [str(java), "-XX:+UseSerialGC", "-XX:-UsePerfData", *self._java_options]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        command += ["-Dorg.slf4j.simpleLogger.showDateTime=true"]
        command += ["-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS"]
        command += ["-cp", class_path]
        try:
            self._open_folder()
            for attempt in range(_START_ATTEMPTS):
                try:
                    self._start_nodes(command)
                    break
                except PortBusyError:
                    # A free port was taken before Kafka listened on it: choose again.
                    if self._port or attempt == _START_ATTEMPTS - 1:
                        raise
                    for node in self._nodes:
                        node.end(signal.SIGKILL, _STOP_DEADLINE_S)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop all nodes; delete a temporary folder. Does nothing when called again."""
        if self._given_folder is None:
            for node in self._nodes:
                node.end(signal.SIGKILL, _STOP_DEADLINE_S)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
        else:
            # All at once: a controller that loses its quorum first would wait for the others.
            for node in self._nodes:
                if node.is_alive:
                    node.send_signal(signal.SIGCONT)
                    node.send_signal(signal.SIGTERM)
            for node in self._nodes:
                node.end(signal.SIGTERM, _STOP_DEADLINE_S)
        self._nodes = []

    def kill(self, node: int = 0) -> None:
        """Kill a node with SIGKILL, as a crash would; returns when it is gone."""
        self._nodes[node].end(signal.SIGKILL, _STOP_DEADLINE_S)

    def pause(self, node: int = 0) -> None:
        """Stop a node's process with SIGSTOP: it keeps its connections and answers nothing."""
        self._nodes[node].send_signal(signal.SIGSTOP)

    def resume(self, node: int = 0) -> None:
        """Let a paused node go on."""
        self._nodes[node].send_signal(signal.SIGCONT)

    def restart(self, node: int = 0) -> None:
        """Start a node again on its port and data, stopping it in order first when it runs.

        Raises:
            PortBusyError: another process took its port meanwhile.
            BrokerStartError: it did not come back within the deadline.
        """
        member = self._nodes[node]
        if member.is_alive:
            member.send_signal(signal.SIGCONT)
            member.end(signal.SIGTERM, _STOP_DEADLINE_S)
        # The threads of a process that died by itself may hold its sockets a moment longer.
        deadline = time.monotonic() + _PORT_DEADLINE_S
        while not all(map(is_free, self._ports[node])) and time.monotonic() < deadline:
            time.sleep(0.02)
        check_ports(self._ports[node])
        member.start()
        self._wait_ready({node})

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open_folder(self) -> None:
        if self._given_folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kstash-broker-"))
        else:
            self._folder = self._given_folder
            self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "cluster.json"
        if path.exists():
            found = json.loads(path.read_text())
            wanted = (_FOLDER_FORMAT, self._count)
            if (found["format"], found["nodes"]) != wanted:
                raise BrokerFolderError(
                    str(self._folder),
                    f"was made with format {found['format']} and {found['nodes']} nodes, wanted "
                    f"are format {wanted[0]} and {wanted[1]} nodes; use another folder",
                )
            if _version(found["kafka"]) > _version(kafka_jars.KAFKA_VERSION):
                raise BrokerFolderError(
                    str(self._folder),
                    f"was made by Kafka {found['kafka']}, which {kafka_jars.KAFKA_VERSION} cannot "
                    "read; use another folder",
                )
            self._cluster_id = str(found["cluster_id"])
            return
        self._cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        path.write_text(
            json.dumps(
                {
                    "format": _FOLDER_FORMAT,
                    "nodes": self._count,
                    "cluster_id": self._cluster_id,
                    "kafka": kafka_jars.KAFKA_VERSION,
                }
            )
        )

    def _start_nodes(self, command: list[str]) -> None:
        self._ports = choose_ports(self._count, self._port)
        self._nodes = []
        for index in range(self._count):
            folder = self.folder / f"node-{index}"
            folder.mkdir(exist_ok=True)
            node = BrokerNode(index, folder, command, self._given_folder is None)
            overrides = self._config | self._node_config.get(index, {})
            settings = node_settings(
                index, self._ports, folder, overrides, self._listeners.get(index, ())
            )
            node.settings_file.write_text(
                "".join(f"{name}={value}\n" for name, value in settings.items())
            )
            self._nodes.append(node)
        for node in self._nodes:
            node.format(self._cluster_id, self._start_timeout_s)
        for node in self._nodes:
            node.start()
        self._wait_ready(set(range(self._count)))

    def _wait_ready(self, nodes: set[int]) -> None:
        probe = ClusterProbe(
            ",".join(f"127.0.0.1:{port}" for port, _ in (self._ports[node] for node in nodes))
        )
        deadline = time.monotonic() + self._start_timeout_s
        while not nodes <= probe.broker_ids(timeout_s=1.0):
            for index in nodes:
                node = self._nodes[index]
                if not node.is_alive:
                    for port in self._ports[index]:
                        if not is_free(port):
                            raise PortBusyError(port)
                    raise node.start_error(f"node {index} exited while it started")
            if time.monotonic() > deadline:
                raise self._nodes[min(nodes)].start_error(
                    f"{_named(nodes)} gave no answer {too_busy(self._start_timeout_s)}"
                )
            time.sleep(0.02)


def _named(nodes: set[int]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {', '.join(map(str, sorted(nodes)))}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))

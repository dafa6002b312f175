"""One node of the development broker: its settings, its folder and its process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kstash.broker import keeper
from kstash.broker.errors import BrokerStartError

_LOG_TAIL_BYTES = 8_000
_LOG_TAIL_LINES = 12
_LINE_CHARACTERS = 300
_FORMATTING = ("Bootstrap metadata:", "BootstrapMetadata(", "Formatting ", "ApiMessageAndVersion(")
_FRAME = "\tat "
_SPAWN_DEADLINE_S = 10.0


def node_settings(
    index: int,
    ports: Sequence[tuple[int, int]],
    folder: Path,
    overrides: Mapping[str, object],
    listeners: Sequence[tuple[int, int]] = (),
) -> dict[str, str]:
    """Kafka settings of one node of a cluster of combined brokers and controllers.

    Args:
        index: the node, counted from 0; also its `node.id`.
        ports: `(client port, controller port)` of every node.
        folder: where the node keeps its logs.
        overrides: settings that replace or extend these.
        listeners: `(port, port that clients are given)` of each further listener.
    """
    client_port, controller_port = ports[index]
    copies = min(3, len(ports))
    least_in_sync = max(1, copies - 1)
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": index,
        "controller.quorum.voters": ",".join(
            f"{node}@127.0.0.1:{port}" for node, (_, port) in enumerate(ports)
        ),
        "listeners": f"PLAINTEXT://127.0.0.1:{client_port},CONTROLLER://127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": False,
        "default.replication.factor": copies,
        "min.insync.replicas": least_in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": least_in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": least_in_sync,
        # The defaults of 50 cost half a second at the first use and many open files.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        # The default of 3 s is for fleets that start at once.
        "group.initial.rebalance.delay.ms": 0,
        # A node is let in with a heartbeat; the default is 2 s.
        "broker.heartbeat.interval.ms": 500,
    }
    if listeners:
        settings |= _further_listeners(str(settings["listeners"]), client_port, listeners)
    settings.update(overrides)
    return {name: _text(value) for name, value in settings.items()}


def _further_listeners(
    listeners: str, client_port: int, further: Sequence[tuple[int, int]]
) -> dict[str, object]:
    names = [f"FURTHER{number}" for number in range(len(further))]
    named = list(zip(names, further, strict=True))
    return {
        "listeners": ",".join([listeners, *(f"{n}://127.0.0.1:{port}" for n, (port, _) in named)]),
        "advertised.listeners": ",".join(
            [
                f"PLAINTEXT://127.0.0.1:{client_port}",
                *(f"{name}://127.0.0.1:{given}" for name, (_, given) in named),
            ]
        ),
        "listener.security.protocol.map": ",".join(
            f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names)
        ),
        "inter.broker.listener.name": "PLAINTEXT",
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(slots=True)
class BrokerNode:
    """A node's process, started and stopped again and again over one folder.

    Attributes:
        index: the node, counted from 0.
        folder: its folder: settings, log of the process, data.
        command: the Java command line up to the main class, without it.
        is_temporary: whether the folder is to vanish with the owner.
    """

    index: int
    folder: Path
    command: list[str]
    is_temporary: bool
    _keeper: subprocess.Popen[bytes] | None = field(default=None)
    _pid: int = 0

    @property
    def log(self) -> Path:
        """The log of the process."""
        return self.folder / "server.log"

    @property
    def settings_file(self) -> Path:
        """The node's `server.properties`."""
        return self.folder / "server.properties"

    @property
    def is_alive(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self.is_alive, f"node {self.index} does not run"
        return self._pid

    def format(self, cluster_id: str, timeout_s: float) -> None:
        """Prepare the data folder, once in its life.

        Raises:
            BrokerStartError: Kafka refused its settings or the folder.
        """
        if (self.folder / "data" / "meta.properties").exists():
            return
        # C1 code is enough for a process of half a second.
        arguments = ["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]
        # With "=", since one id in 64 begins with a hyphen.
        arguments += [f"--cluster-id={cluster_id}", "-c", str(self.settings_file)]
        with self.log.open("ab") as log:
            try:
                code = subprocess.run(
                    [*self.command, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    check=False,
                    timeout=timeout_s,
                ).returncode
            except subprocess.TimeoutExpired as error:
                detail = f"node {self.index} did not format its folder {too_busy(timeout_s)}"
                raise self.start_error(detail) from error
        if code != 0:
            raise self.start_error(f"node {self.index} could not format its folder")

    def start(self) -> None:
        """Start the process; it is not ready when this returns.

        Raises:
            BrokerStartError: the process could not be started.
        """
        assert not self.is_alive, f"node {self.index} runs already"
        command = [sys.executable, "-I", "-S", str(Path(keeper.__file__)), str(os.getpid())]
        command += [str(self.folder) if self.is_temporary else ""]
        command += [*self.command, "kafka.Kafka", str(self.settings_file)]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the owner, which then stops the broker in order.
            self._keeper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._keeper.stdout is not None
        with self._keeper.stdout as pipe:
            ready, _, _ = select.select([pipe], [], [], _SPAWN_DEADLINE_S)
            line = pipe.readline() if ready else b""
        if not line:
            self._keeper.kill()
            self._keeper.wait()
            raise self.start_error(f"node {self.index} could not be started")
        self._pid = int(line)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the broker's process."""
        os.kill(self.pid, number)

    def end(self, number: signal.Signals, timeout_s: float) -> None:
        """End the process with a signal, with SIGKILL when it is still there after the deadline."""
        if self._keeper is None or not self.is_alive:
            return
        self.send_signal(number)
        deadline = time.monotonic() + timeout_s
        while self._keeper.poll() is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                self._keeper.wait(timeout=_SPAWN_DEADLINE_S)
                return
            time.sleep(0.01)

    def start_error(self, detail: str) -> BrokerStartError:
        """The error for a node that did not start, with the end of its log."""
        tail = b""
        if self.log.exists():
            tail = self.log.read_bytes()[-_LOG_TAIL_BYTES:]
        return BrokerStartError(detail, str(self.log), last_lines(tail.decode("utf-8", "replace")))


def last_lines(log: str) -> str:
    """The last lines of a log that help to find an error.

    The output of formatting a folder is left out, and so are the frames of Java's stacks: they are
    many, and would push out the exception's own line, which names the cause.
    """
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    # The first line of a tail may be the rest of a line, whose beginning is not known.
    helpful = [
        line
        for line in lines
        if not line.startswith(_FRAME) and not any(word in line for word in _FORMATTING)
    ]
    return "\n".join(line[:_LINE_CHARACTERS] for line in helpful[-_LOG_TAIL_LINES:])


def too_busy(timeout_s: float) -> str:
    """The end of a message: why a healthy node may be late, and the remedy."""
    load = f" (load {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors)"
    return (
        f"within {timeout_s:g} s: this machine may be too busy{load}; wait longer with "
        "--wait SECONDS, in a program with DevBroker(start_timeout_s=...)"
    )

"""Errors of the development broker."""

from __future__ import annotations

from kstash.errors import KstashError


class DevBrokerError(KstashError):
    """The development broker cannot run here; the message gives the remedy."""


class BrokerExtraMissingError(DevBrokerError):
    """The packages of the extra `kstash[broker]` are not installed."""


class BrokerDownloadError(DevBrokerError):
    """Kafka's jars are not in the cache, and fetching them failed."""


class PortBusyError(DevBrokerError):
    """Another process listens on a port that the broker is to use.

    Attributes:
        port: the TCP port.
    """

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} is in use by another process: choose another with --port (or port=0 for "
            f"a free one), or stop the process that listens there"
        )
        self.port = port


class BrokerFolderError(DevBrokerError):
    """The data folder belongs to another Kafka version or another number of nodes.

    Attributes:
        folder: its path.
    """

    def __init__(self, folder: str, detail: str) -> None:
        super().__init__(f"{folder}: {detail}")
        self.folder = folder


class BrokerStartError(DevBrokerError):
    """A node exited, or gave no answer within its deadline.

    Attributes:
        log: path of the node's log.
    """

    def __init__(self, detail: str, log: str, tail: str) -> None:
        end = f"the end of its log {log}:\n{tail}" if tail else f"its log {log} says no more"
        super().__init__(f"{detail}; {end}")
        self.log = log

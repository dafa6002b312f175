"""A test's own topics and worker processes on a broker, and readers that know nothing of kstash."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # exported without __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from confluent_kafka.cimpl import NewTopic

from tests.chaos.checkers import Outputs, check_counts, read_committed
from tests.chaos.harness import Worker, place_of, wait_for_outputs, wait_until

WAIT_S_MAX = 60.0
Headers = list[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A record to send."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    headers: Headers = field(default_factory=list)


def key_in(partition: int, partitions: int) -> bytes:
    """A key that belongs there."""
    return next(key for n in range(99) if place_of(key := b"k%d" % n, partitions) == partition)


def lines(*texts: str, partitions: int = 1) -> list[Sent]:
    """Records of lines of text, over the partitions in turn."""
    return [Sent(text.encode(), None, i % partitions) for i, text in enumerate(texts)]


def sentences(count: int, words: int = 50) -> list[str]:
    """Sentences of five words out of `words` different ones, each about equally often."""
    total = range(count * 5)
    found = [f"w{(number * 7) % words}" for number in total]
    return [" ".join(found[i * 5 : i * 5 + 5]) for i in range(count)]


def word_counts(texts: Iterable[str]) -> Counter[str]:
    """How often each word is in the texts."""
    return Counter(word for text in texts for word in text.split())


class Process(Worker):
    """A worker whose log the tests can wait for."""

    def log(self) -> str:
        """Everything it has logged, former processes of it included."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, pattern: str, deadline_s: float = WAIT_S_MAX) -> None:
        """Wait until the log matches a regular expression."""
        wait_until(
            lambda: re.search(pattern, self.log()) is not None,
            deadline_s,
            f"{pattern!r} in the log of {self.name}",
        )

    def start_ready(self) -> None:
        """Start, and wait for READY."""
        self.start()
        self.wait_ready()

    def run(self, deadline_s: float = WAIT_S_MAX) -> int:
        """Start, and wait for the end. Returns the exit code."""
        self.start()
        return self.wait(deadline_s)


class Scene:
    """What one test does on a broker.

    Attributes:
        application_id: of the workers, unless a worker is given another one.
    """

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.mark = uuid.uuid4().hex[:8]
        self.application_id = f"app-{self.mark}"
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
        self._processes: list[Process] = []

    # -- Kafka -----------------------------------------------------------------------------------

    def topic(self, name: str, partitions: int = 1, **config: str) -> str:
        """Create a topic that no other test has; returns its name."""
        return self.exact_topic(f"{name}-{self.mark}", partitions, **config)

    def exact_topic(self, name: str, partitions: int = 1, **config: str) -> str:
        """Create a topic of this very name; settings with underscores for dots."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        made = self.admin.create_topics([NewTopic(name, partitions, 1, config=settings)])
        for future in made.values():
            future.result(timeout=30)
        return name

    def alter(self, topic: str, **config: str) -> None:
        """Change settings of a topic; with underscores for dots."""
        entries = [
            ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(timeout=30)

    def delete(self, topic: str) -> None:
        """Delete a topic."""
        for future in self.admin.delete_topics([topic]).values():
            future.result(timeout=30)

    def wait_deleted(self, topic: str) -> None:
        """Wait until the broker does not list a topic any more."""
        wait_until(
            lambda: topic not in self.admin.list_topics(timeout=30).topics,
            WAIT_S_MAX,
            f"topic {topic} is gone",
        )

    def wait_gone(self, group: str) -> None:
        """Wait until a consumer group has no members: a stopped static one stays for a session."""

        def is_empty() -> bool:
            future = self.admin.describe_consumer_groups([group])[group]
            return not future.result(30).members

        wait_until(is_empty, WAIT_S_MAX, f"members of {group} are gone")

    def send(self, topic: str, records: Iterable[Sent]) -> None:
        """Append records and wait until they are acknowledged."""
        for record in records:
            self._producer.produce(
                topic,
                record.value,
                record.key,
                partition=record.partition,
                headers=record.headers or None,
            )
        assert self._producer.flush(30) == 0, "the broker does not take the test's input"

    def wait_outputs(self, topic: str, count: int) -> None:
        """Wait until a `read_committed` consumer sees that many records."""
        wait_for_outputs(self.bootstrap, topic, count, deadline_s=WAIT_S_MAX)

    def outputs(self, topic: str) -> Outputs:
        """A topic as kafka-python with `read_committed` sees it."""
        return read_committed(self.bootstrap, topic)

    def check_words(self, topic: str, texts: Iterable[str]) -> None:
        """Each word's outputs must be exactly 1, 2, 3 … n."""
        check_counts(self.outputs(topic), word_counts(texts))

    # -- processes -------------------------------------------------------------------------------

    def worker(
        self,
        program: str,
        inputs: list[str],
        output: str,
        *,
        name: str = "worker",
        until: str | None = None,
        workers: int | None = None,
        file_bytes_max: int | None = None,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Process:
        """A worker of a program in `programs.py` with a state folder of its name; not started."""
        chosen = {
            "application_id": self.application_id,
            "bootstrap_servers": self.bootstrap,
            "state_dir": str(self.folder / f"state-{name}"),
            # A killed worker gets its membership back at once.
            "instance_id": name,
        } | settings
        arguments = {
            "inputs": inputs,
            "output": output,
            "settings": chosen,
            "until": until,
            "workers": workers,
            "options": dict(options or {}),
            "file_bytes_max": file_bytes_max,
        }
        command = ["tests.integration.programs", program, json.dumps(arguments)]
        return self.process(name, command)

    def process(self, name: str, command: list[str]) -> Process:
        """A process as after `python -m`; not started."""
        # With the hash seed that the runtime pins, it need not execute itself again.
        process = Process(name, command, self.folder, {"PYTHONHASHSEED": "0"})
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End all processes; print the story of each, which pytest shows when the test failed."""
        for process in self._processes:
            process.kill()
        for process in {process.log_path: process for process in self._processes}.values():
            print(f"--- {process.log_path.name}\n{process.log()[-6000:]}")

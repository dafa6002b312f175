"""When the leader of a partition dies: sinks whose writer dies too, and what the admin client asks.

Sinks hold no marker of the protocol's, so a recovery reads them to the end that is listed after
`init_transactions` (protocol, H24). A new leader may know less of what is committed than the old
one did: were an acknowledged record beyond the listed end, a successor would make it again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from kstash.kafka import KafkaCluster
from kstash.ports.kafka import Admin, NewTopic, Partition, SinkProducer
from kstash.settings.config import Config
from tests.chaos.cluster import Cluster

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

ROUNDS = 2
RECORDS = 200
DEADLINE_S = 60.0
"""For the election of a leader and for a coordinator that moves, on a busy machine."""


def _until(condition: Callable[[], object], step: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what} in vain"
        step()
        time.sleep(0.001)


def _initialised(clients: KafkaCluster) -> SinkProducer:
    """A sink producer that has fenced its predecessor; tried again as a task group would."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        sink = clients.sink_producer(0)
        answers: list[Exception | None] = []
        sink.initialise(lambda error, _: answers.append(error))  # noqa: B023 - called in this turn only
        _until(lambda: answers, sink.poll, "init_transactions")  # noqa: B023 - called in this turn only
        if answers[0] is None:
            return sink
        sink.close()
        assert time.monotonic() < deadline, answers[0]


def _write(sink: SinkProducer, topic: str, mark: bytes) -> list[int]:
    """Offsets of acknowledged records; the last transaction stays open."""
    acked: list[int] = []

    def delivered(error: Any, message: Any) -> None:
        assert error is None, error
        acked.append(message.offset())

    for _ in range(RECORDS):
        sink.produce(topic, mark, None, 0, delivered, 0, None)
    _until(lambda: len(acked) == RECORDS, sink.poll, "acknowledgements")
    return acked


@pytest.mark.parametrize("is_open", [True, False])
def test_listed_end_holds_what_was_acknowledged(cluster: Cluster, is_open: bool) -> None:
    """Open or committed: after `init_transactions` the listed end is past every acked record."""
    application_id = f"leaders-{uuid.uuid4().hex[:8]}"
    config = Config.load(application_id=application_id, bootstrap_servers=cluster.bootstrap)
    clients = KafkaCluster(config)
    topic = f"{application_id}-out"
    partition: Partition = (topic, 0)
    with closing(clients.admin()) as admin:
        admin.create([NewTopic(topic, 1, 3, {"min.insync.replicas": "2"})])
        admin.create([NewTopic(clients.lineage_topic, 1, 3, {"min.insync.replicas": "2"})])
    for round_number in range(ROUNDS):
        cluster.wait_in_sync(topic)
        sink = _initialised(clients)
        mark = b"%d" % round_number
        acked = _write(sink, topic, mark)
        if not is_open:
            done: list[Exception | None] = []
            sink.commit(f"position {round_number}", done.append)
            _until(lambda: done, sink.poll, "the commit")  # noqa: B023 - called in this turn only
            assert done == [None]
        leader = cluster.leader(topic, 0)
        cluster.brokers.kill(leader)
        try:
            successor = _initialised(clients)
            with closing(clients.admin()) as admin:
                end = admin.end_offsets([partition])[partition]
            assert end > max(acked), (
                f"round {round_number}: {end} listed, {max(acked)} acknowledged"
            )
            with closing(clients.scanner()) as scanner:
                scanner.add({partition: acked[0]})
                seen: list[int] = []
                _until(
                    lambda: len(seen) >= RECORDS,  # noqa: B023 - called in this turn only
                    lambda: seen.extend(m.offset() for m in scanner.poll(0.1) if m.value() == mark),  # noqa: B023 - called in this turn only
                    "the records",
                )
                assert seen == acked
            successor.close()
            sink.close()
        finally:
            cluster.brokers.restart(leader)


def _asked(admin: Admin, ask: Callable[[Admin], Callable[[], dict[Partition, int] | None]]) -> Any:
    """The answer to a question, or what stands in its place after the request's own time-out."""
    answer = ask(admin)
    found: list[dict[Partition, int]] = []

    def list_ends() -> None:
        answered = answer()
        if answered is not None:
            found.append(answered)

    _until(lambda: found, list_ends, "an answer")
    return found[0]


def test_questions_go_to_the_new_leader(cluster: Cluster) -> None:
    """With a node dead, ends are listed and records deleted where others lead now."""
    application_id = f"questions-{uuid.uuid4().hex[:8]}"
    config = Config.load(application_id=application_id, bootstrap_servers=cluster.bootstrap)
    topic = f"{application_id}-in"
    partitions: list[Partition] = [(topic, 0), (topic, 1), (topic, 2)]
    with closing(KafkaCluster(config).admin()) as admin:
        admin.create([NewTopic(topic, len(partitions), 3, {"min.insync.replicas": "2"})])
        cluster.wait_in_sync(topic)
        _until(
            lambda: len(_asked(admin, lambda a: a.ask_end_offsets(partitions))) == len(partitions),
            lambda: time.sleep(0.1),
            "the ends before",
        )
        dead = cluster.leader(topic, 0)
        cluster.brokers.kill(dead)
        try:
            for number in range(len(partitions)):
                _until(
                    lambda: cluster.leader(topic, number) not in (dead, -1),  # noqa: B023 - called in this turn only
                    lambda: time.sleep(0.1),
                    "a new leader",
                )
            asked: dict[str, Callable[[Admin], Callable[[], dict[Partition, int] | None]]] = {
                "ends": lambda admin: admin.ask_end_offsets(partitions),
                "deletions": lambda admin: admin.delete_records(dict.fromkeys(partitions, 0)),
            }
            for what, ask in asked.items():
                _until(
                    lambda: set(_asked(admin, ask)) == set(partitions),  # noqa: B023 - called in this turn only
                    lambda: time.sleep(0.1),
                    f"{what} of all partitions",
                )
        finally:
            cluster.brokers.restart(dead)

"""Two applications in a row, killed at random; the second sees the first one's outputs at once.

It reads an immediate sink with an uncommitted consumer, aborted transactions included, and must
take each output once. Its own sink is read by a plain consumer that shares no code with kstash.
"""

from __future__ import annotations

import json
import random
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from kafka.admin import KafkaAdminClient

from tests.chaos.checkers import by_key, check_chains, read_committed, read_with_rule
from tests.chaos.harness import (
    Chaos,
    Feeder,
    Worker,
    chaos_run,
    place_of,
    values_by_key,
    wait_for_outputs,
    wait_until,
)

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

PARTITION_COUNT = 2
KILLS = 10
ACK_DELAY_MS = 300
"""So late is lineage stable: what the second has seen of the first is in headers only."""


def partition_of(key: str) -> int:
    """Where a key lives, by the partitioner of another client."""
    return place_of(key.encode(), PARTITION_COUNT)


def has_positions(bootstrap: str, application_id: str) -> bool:
    """Whether all groups of an application have committed positions."""
    group = f"{application_id}-positions"
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        return len(admin.list_group_offsets(group)[group]) == PARTITION_COUNT


class Pair:
    """Two applications on their own topics: (left, right), and what comes of it with extra."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos = chaos
        mark = uuid4().hex[:8]
        self.names = f"first-{mark}", f"second-{mark}"
        self.left, self.right, self.middle, self.extra, self.final = self.topics = tuple(
            f"{name}-{mark}" for name in ("left", "right", "middle", "extra", "final")
        )
        chaos.create_topics(PARTITION_COUNT, *self.topics)

    def feeder(self) -> Feeder:
        """Feeds all three inputs, all keyed alike, with values that are all different."""
        choice = random.Random(self.chaos.seed)

        def step(index: int) -> tuple[str, int, str | None, str]:
            key = f"key-{choice.randrange(40)}"
            topic = choice.choice((self.left, self.right, self.extra))
            return topic, partition_of(key), key, f"{topic[0]}-{index}"

        return Feeder(self.chaos.bootstrap, step, rate=500)

    def first(self, **environment: str) -> Worker:
        """A worker of the first application; not started."""
        command = ["tests.chaos.rolling_hash_app", "--input", self.left, "--input", self.right]
        return self._worker(0, [*command, "--output", self.middle], environment)

    def second(self, **environment: str) -> Worker:
        """A worker of the second application; not started."""
        command = ["tests.chaos.chained_app", "--immediate-of", self.names[0]]
        command += ["--input", self.middle, "--input", self.extra, "--output", self.final]
        return self._worker(1, command, environment)

    def _worker(self, number: int, command: list[str], environment: dict[str, str]) -> Worker:
        name = self.names[number]
        delay = {"KSTASH_LINEAGE_ACK_DELAY_MS": str(ACK_DELAY_MS)}
        options = ["--application-id", name, "--instance-id", name]
        options += ["--checkpoint-interval-ms", "1000"]
        return self.chaos.worker(name, *command, *options, environment=delay | environment)


def test_the_second_application_survives_kills_of_both(broker: str, tmp_path: Path) -> None:
    """Each output of the first is an input of the second once, in order, after ten kills."""
    with chaos_run(broker, tmp_path) as chaos:
        pair = Pair(chaos)
        workers = [pair.first(), pair.second()]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_ready()
        feeder = pair.feeder()
        feeder.start()
        try:
            chaos.kill_at_random(workers, KILLS, live_s_max=1.5)
        finally:
            feeder.finish()
        assert chaos.kills == KILLS
        # Each input makes one output at the end of the row, whichever way it took.
        wait_for_outputs(broker, pair.final, len(feeder.sent))
        assert [worker.stop() for worker in workers] == [0, 0]

        sent = values_by_key(feeder.sent)
        middle = read_committed(broker, pair.middle)
        check_chains(middle, [sent[pair.left], sent[pair.right]])
        hashes = {
            key.decode(): [json.loads(value)["hash"] for value in values]
            for key, values in by_key(read_with_rule(broker, pair.middle)).items()
        }
        final = read_committed(broker, pair.final)
        check_chains(final, [hashes, sent[pair.extra]])
        assert not [o for outputs in final.values() for o in outputs if o.headers]


def test_the_second_application_does_not_wait_for_commits(broker: str, tmp_path: Path) -> None:
    """It has made outputs of what the first one has not committed, and plain readers do not see."""
    with chaos_run(broker, tmp_path) as chaos:
        pair = Pair(chaos)
        minute = {
            "KSTASH_SINK_COMMIT_INTERVAL_MS": "60000",
            "KSTASH_TRANSACTION_TIMEOUT_MS": "120000",
        }
        first, second = pair.first(**minute), pair.second()
        for worker in (first, second):
            worker.start()
        for worker in (first, second):
            worker.wait_ready()
        # A group commits its positions once as it begins, and would take these outputs along.
        wait_until(partial(has_positions, broker, pair.names[0]), 30, "the first commit")
        producer = Producer({"bootstrap.servers": broker})
        for number in range(50):
            producer.produce(pair.left, f"l-{number}", "key", partition=partition_of("key"))
        assert producer.flush(30) == 0
        wait_for_outputs(broker, pair.final, 50)
        assert not any(read_committed(broker, pair.middle).values())
        assert [worker.stop() for worker in (first, second)] == [0, 0]
        assert sum(map(len, read_committed(broker, pair.middle).values())) == 50

"""Parts of a live group, each by itself: sinks that let batches pass, producers made anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from kstash.core.outputs import Outgoing
from kstash.core.sink import SinkCommitter
from kstash.ports.kafka import Cluster, SinkProducer
from kstash.runtime.context import Producers, Services
from kstash.runtime.group.run_end import before_end
from kstash.runtime.group.sinks import SinkRoute, Sinks
from kstash.runtime.task.inputs import TaskInput
from kstash.runtime.task.sink_outputs import Produce
from kstash.runtime.task.task import Task
from kstash.testing.background import ManualBackground
from kstash.testing.clock import ManualClock
from kstash.testing.metrics import MemoryMetrics

STAGE = 2
COMMIT_S = 0.1


class Client:
    """A producer that counts what is not acknowledged, and whether it was closed."""

    def __init__(self) -> None:
        self.unacked = 0
        self.is_closed = False
        self.metadata: list[str] = []

    def produce(self, *_: Any, **__: Any) -> None:
        """One more record."""
        self.unacked += 1

    def poll(self) -> None:
        """Nothing comes by itself."""

    def __len__(self) -> int:
        return self.unacked

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True

    def commit(self, metadata: str, _: Any) -> None:
        """Remember what is committed; it never is."""
        self.metadata.append(metadata)


class Scene:
    """The sinks of a group of one task, with two producers, and what was handed to which."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clients = [Client(), Client()]
        self.handed: list[tuple[int, Client]] = []
        core = SimpleNamespace(stable=0, is_under_way=False, is_held_through=lambda _: False)
        self.sinks = Sinks(
            Services(self.clock, MemoryMetrics(), ManualBackground(), lambda: b""),
            commit_interval_s=COMMIT_S,
            producers=cast("list[SinkProducer]", self.clients),
            committer=SinkCommitter(1, {STAGE: 0}),
            tasks={STAGE: cast("Task", SimpleNamespace(core=core))},
        )
        self.route = SinkRoute(self.sinks, STAGE)

    def send(self, position: int) -> None:
        """One record, of the batch that ends at a position."""
        self.route.send(Outgoing((0, 0), position, position, 1, None, None), self.hand_over)

    def hand_over(self, outgoing: Outgoing, produce: Produce) -> None:
        """Produce it, and remember by which client."""
        produce()
        client = next(c for c in self.clients if c.produce == produce)
        self.handed.append((outgoing.position, client))

    def tick(self) -> None:
        """Let time pass until a commit is due."""
        self.clock.advance(2 * COMMIT_S)
        self.sinks.tick(self.clock.monotonic(), is_urgent=False)


def test_what_is_made_while_a_transaction_closes_goes_into_the_next_one() -> None:
    """It waits until the records before it are acknowledged; then the other producer has it."""
    scene = Scene()
    first, second = scene.clients
    scene.send(1)
    scene.tick()
    scene.send(2)
    assert scene.handed == [(1, first)]
    assert scene.sinks.backlog == 2
    first.unacked = 0
    scene.tick()
    assert scene.handed == [(1, first), (2, second)]
    assert scene.sinks.backlog == 1
    assert not first.metadata, "committed before its lineage is stable"


def test_producers_are_made_anew_in_their_place() -> None:
    """Who holds them has the new ones; the old ones are closed."""
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    cluster = cast(
        "Cluster",
        SimpleNamespace(
            data_producer=make, lineage_producer=make, marker_producer=make, claim_producer=make
        ),
    )
    producers = Producers.create(cluster)
    producers.renew(cluster)
    assert [client.is_closed for client in made] == [True] * 4 + [False] * 4
    held: list[Any] = [producers.data, producers.lineage, producers.markers, producers.claims]
    assert held == made[4:]


def test_records_after_the_end_are_for_the_next_run() -> None:
    """They are not taken, and the input goes on there; without an end all are taken."""
    messages: list[Any] = [SimpleNamespace(offset=lambda at=at: at) for at in range(4)]
    source = cast("TaskInput", SimpleNamespace(partition=("in", 0), left_from=None))
    assert before_end({}, source, messages) == messages
    assert before_end({("in", 0): 4}, source, messages) == messages
    assert source.left_from is None
    assert before_end({("in", 0): 2}, source, messages) == messages[:2]
    assert source.left_from == 2

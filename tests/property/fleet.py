"""Several real workers over `MemoryKafka` under a schedule of faults, and what must hold after it.

The application merges two topics, so that the order of its inputs is nondeterministic, spreads the
records by key over an internal topic, and keeps a rolling hash per key. Each output shows the value
that was added and the hash after it: two histories that differ anywhere end in other hashes.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import kstash
from kstash.core.reader import ReaderState
from kstash.core.wire import (
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    Fence,
    decode_identity,
    encode_marker,
)
from kstash.errors import KafkaUnavailableError, MemberFencedError
from kstash.ports.kafka import Headers
from kstash.runtime.layout import Layout
from kstash.runtime.worker.worker import Worker
from kstash.testing import ManualClock, MemoryCluster, MemoryKafka
from kstash.testing.background import ManualBackground
from kstash.testing.kafka.log import MemoryRecord
from kstash.testing.kafka.producers import MemoryProducer
from kstash.testing.metrics import MemoryMetrics
from kstash.testing.state import MemoryBackend
from kstash.testing.stores import MemoryCheckpointStore

NAMES = ("a", "b")
KEYS = ("k0", "k1", "k2")
LINKS = ("data", "lineage", "sink")
DELAYS_S = {"data": (0, 0.05, 0.3), "lineage": (0, 0.1, 1.0, 3.0), "sink": (0, 0.05)}
PARTITIONS = 2
FOREIGN = b"foreign"
"""Value of what others write into a sink."""
ROUNDS_MAX = 4_000
ROUND_S = 0.05
POLL_INTERVAL_S = 300.0
TRANSACTION_TIMEOUT_S = 15.0
FUNCTION_S = ((0.03,), (0.4,), (0.0, 0.0, 0.0, 18.0), (7.0, 0.1), (40.0,))
"""What functions of a slow application take for a record, in seconds, by its number."""


def chained(state: str, value: str) -> str:
    """The state after one more value: its name and the hash of all up to it."""
    digest = hashlib.blake2b(f"{state}+{value}".encode(), digest_size=6).hexdigest()
    return f"{value} {digest}"


def rolling_hash(
    *, is_mixed: bool, takes_time: Callable[[str], str] | None = None, **settings: Any
) -> kstash.App:
    """Two topics, two stages; the first has an order to log.

    With `is_mixed` both stages have sinks of both deliveries. `takes_time` gives back what it gets.
    """
    app = kstash.App("fleet", **settings)
    texts = app.stream("left", "right", value=kstash.text)
    if takes_time is not None:
        texts = texts.map_values(takes_time)
    chains = texts.key_by(
        lambda text: text.split()[0], key=kstash.text, value=kstash.text
    ).aggregate("chains", str, chained, value=kstash.text)
    chains.to("links", value=kstash.text)
    if is_mixed:
        texts.to("texts", value=kstash.text, delivery="transactional")
        texts.to("texts-at-once", value=kstash.text)
        chains.to("plain", value=kstash.text, delivery="transactional")
    return app


def take_time(clock: ManualClock, seconds: Sequence[float], value: str) -> str:
    """Take as long for a value, whenever it comes."""
    clock.advance(seconds[int(value.split()[1]) % len(seconds)])
    return value


class Fleet:
    """Workers, topics and clock; every method is one move of a schedule."""

    until: Literal["end", "drain"] | None = None
    """What the workers run until."""

    def __init__(
        self, seed: int, *, is_mixed: bool = True, is_slow: bool = False, **settings: Any
    ) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.kafka = MemoryKafka(self.clock)
        self.kafka.fetch_max = self.random.choice([1, 3, 500])
        takes_time = None
        if is_slow:
            self.kafka.poll_interval_s = POLL_INTERVAL_S
            self.kafka.coordinator.timeout_s = TRANSACTION_TIMEOUT_S
            seconds = self.random.choice(FUNCTION_S)
            takes_time = partial(take_time, self.clock, seconds)
        app = rolling_hash(is_mixed=is_mixed, takes_time=takes_time, **settings)
        self.topology = app.topology()
        self.config = app.config
        if is_mixed and self.random.random() < 0.5:
            # Far below what the setting takes: here a lineage of a few entries is a long one.
            self.config = self.config.model_copy(update={"lineage_header_bytes_max": 16})
        counts = dict.fromkeys(
            (
                *("left", "right", *self.topology.output_topics),
                *self.topology.internal_topics,
            ),
            PARTITIONS,
        )
        counts[self.topology.lineage_topic] = Layout(self.topology, counts).group_count
        for topic, count in counts.items():
            self.kafka.create_topic(topic, count)
        self.sent: list[str] = []
        self.workers: dict[str, Worker] = {}
        self.clusters: dict[str, MemoryCluster] = {}
        self.zombies: list[tuple[Worker, MemoryCluster, ManualBackground]] = []
        self.late: list[MemoryProducer] = []
        self.backends = {name: MemoryBackend() for name in NAMES}
        self.store = MemoryCheckpointStore()
        self.backgrounds: dict[str, ManualBackground] = {}
        self.metrics = MemoryMetrics()
        self.nonces = itertools.count()
        self.seen: dict[int, list[MemoryRecord]] = defaultdict(list)
        self.tables = {p: ReaderState(is_internal=False) for p in range(PARTITIONS)}
        self.offsets = dict.fromkeys(range(PARTITIONS), 0)

    # -- moves -----------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a worker, unless it runs."""
        if name in self.workers or self.kafka.is_away:
            return
        cluster = self.clusters[name] = MemoryCluster(self.kafka, "fleet", member_id=name)
        # Much in flight at a crash is what the protocol is for.
        for kind, delays_s in DELAYS_S.items():
            cluster.links[kind].delay_s = self.random.choice(delays_s)
        background = self.backgrounds[name] = ManualBackground(self._note_activity)
        self.workers[name] = Worker(
            self.topology,
            self.config,
            cluster=cluster,
            state=self.backends[name],
            store=self.store,
            background=background,
            clock=self.clock,
            metrics=self.metrics,
            nonce=lambda: next(self.nonces).to_bytes(16, "big"),
            until=self.until,
        )

    def send(self) -> None:
        """Append one record to an input partition."""
        value = f"{self.random.choice(KEYS)} {len(self.sent)}"
        self.sent.append(value)
        topic = self.random.choice(("left", "right"))
        partition = self.random.randrange(PARTITIONS)
        self.kafka.append(topic, value.encode(), partition=partition)

    def step(self, name: str) -> None:
        """Let a worker take one turn; one that was fenced as a member is gone."""
        worker = self.workers.get(name)
        if worker is None:
            return
        try:
            worker.step(0.0)
        except MemberFencedError:
            self.kill(name)
        except KafkaUnavailableError:
            assert self.kafka.is_away
            self.kill(name)

    def kill(self, name: str) -> None:
        """End a worker at once; what it had under way may arrive later, or never."""
        if self.workers.pop(name, None) is not None:
            arrive_late = self.random.random() < 0.5
            self.backgrounds.pop(name).close()
            late = self.clusters.pop(name).kill(arrive_late=arrive_late)
            if arrive_late:
                self.late += late

    def suspend(self, name: str) -> None:
        """Stop a worker without ending it: a successor may start, the zombie may wake up."""
        if name in self.workers:
            self.zombies.append(
                (self.workers.pop(name), self.clusters.pop(name), self.backgrounds.pop(name))
            )
            # The zombie holds the lock of its state folder: a successor needs another one.
            self.backends[name] = MemoryBackend()

    def wake_zombie(self) -> None:
        """Let a zombie take some turns, then end it."""
        if not self.zombies:
            return
        worker, cluster, background = self.zombies.pop(self.random.randrange(len(self.zombies)))
        for link in cluster.links.values():
            link.holds_requests = link.holds_acks = False
        background.held_lanes.clear()
        try:
            for _ in range(self.random.randrange(6)):
                worker.step(0.0)
        except (MemberFencedError, KafkaUnavailableError):
            pass
        cluster.kill()

    def expire(self, name: str) -> None:
        """The session of a worker that does not run times out."""
        group = self.kafka.group("fleet")
        if name not in self.workers and name in group.member_ids:
            group.expire(name)

    def bend(self, name: str) -> None:
        """Hold requests or acknowledgements of one kind of producer back, or let them go."""
        if name in self.clusters:
            link = self.clusters[name].links[self.random.choice(LINKS)]
            link.holds_requests = self.random.random() < 0.4
            link.holds_acks = self.random.random() < 0.4

    def slow_down(self, name: str) -> None:
        """Uploads or restores of a worker take long, or are done."""
        if name in self.backgrounds:
            lane = self.random.choice(("upload", "restore"))
            self.backgrounds[name].held_lanes ^= {lane}

    def lose_disk(self, name: str) -> None:
        """The disk of a worker that does not run is gone."""
        if name not in self.workers:
            self.backends[name] = MemoryBackend()

    def turn_store_away(self) -> None:
        """The checkpoint store goes away, or comes back."""
        self.store.is_away = not self.store.is_away

    def deliver_late(self) -> None:
        """Requests of a dead worker's producer arrive after all."""
        if self.late:
            self.late.pop(self.random.randrange(len(self.late))).carry_out_late()

    def fail_link(self, name: str) -> None:
        """The next request of one kind of producer fails."""
        if name in self.clusters:
            kind = self.random.choice((*LINKS, "claim", "marker"))
            self.clusters[name].links[kind].error = KafkaUnavailableError("timed out")

    def turn_away(self) -> None:
        """The cluster goes away, or comes back."""
        self.kafka.is_away = not self.kafka.is_away

    def compact(self) -> None:
        """Compact the lineage topic."""
        for partition in range(PARTITIONS):
            self.kafka.log((self.topology.lineage_topic, partition)).compact()

    def advance(self) -> None:
        """Let time pass."""
        self.clock.advance(self.random.choice((0.01, 0.12, 1.1)))

    def meddle(self) -> None:
        """Somebody else writes into a sink what seems a record of the application (H52)."""
        partition = self.random.randrange(PARTITIONS)
        own = [
            value
            for record in self.kafka.read("links", partition, is_committed=False)
            for name, value in record.headers() or ()
            if name == IDENTITY_HEADER and value is not None and record.value() != FOREIGN
        ]
        if not own:
            return
        copied = self.random.choice(own)
        identity = decode_identity(copied)
        unknown = identity.incarnation._replace(offset=1 << 40)
        void = Fence(identity.application, tuple((group, unknown) for group in range(PARTITIONS)))
        wild = replace(identity, incarnation=unknown, position=1 << 40, first_seq=1 << 40)
        kinds: list[Headers] = [
            [(IDENTITY_HEADER, copied)],
            [(IDENTITY_HEADER, copied[:40])],
            [(IDENTITY_HEADER, copied), (LINEAGE_HEADER, b"\xff")],
            [(IDENTITY_HEADER, wild.encode())],
            [(MARKER_HEADER, encode_marker(void))],
            [(MARKER_HEADER, b"garbage"), (IDENTITY_HEADER, wild.encode())],
        ]
        headers = self.random.choice(kinds)
        self.kafka.append("links", FOREIGN, partition=partition, headers=headers)

    def read_outputs(self) -> None:
        """Read the outputs by the reader rule; what was accepted once stays."""
        for partition in range(PARTITIONS):
            log = self.kafka.log(("links", partition))
            records, self.offsets[partition] = log.read(
                self.offsets[partition], 1_000_000, is_committed=False
            )
            own = [record for record in records if record.value() != FOREIGN]
            self.seen[partition] += [r for r in own if self._accepts(partition, r)]

    def run(self, weights: Mapping[str, float], moves: int) -> None:
        """Run one random schedule to its end and check it.

        Args:
            weights: how often each move comes.
            moves: how many of them.
        """
        for name in NAMES:
            self.start(name)
        for move in self.random.choices(list(weights), list(weights.values()), k=moves):
            if move in MOVES_OF_A_WORKER:
                name = self.random.choice(NAMES)
                for _ in range(self.random.randrange(1, 8) if move == "step" else 1):
                    getattr(self, move)(name)
            else:
                getattr(self, move)()
        self.quiesce()
        self.check()

    # -- what must hold --------------------------------------------------------------------------

    def quiesce(self) -> None:
        """Faults stop; everything that was sent is processed and committed."""
        self.calm()
        quiet = 0
        for _ in range(ROUNDS_MAX):
            before = self.kafka.activity
            for name in NAMES:
                self.start(name)
                self.step(name)
            self.clock.advance(ROUND_S)
            quiet = quiet + 1 if self.kafka.activity == before else 0
            # What is on its way may take longer than the quiet rounds.
            if quiet > 40 and all(self._is_at_rest(worker) for worker in self.workers.values()):
                return
        raise AssertionError(f"not at rest: live {[w.is_live for w in self.workers.values()]}")

    @staticmethod
    def _is_at_rest(worker: Worker) -> bool:
        groups = worker.groups.values()
        return worker.is_live and not any(g.has_outstanding or g.sink_backlog for g in groups)

    def calm(self) -> None:
        """Faults stop, and all workers run."""
        for cluster in self.clusters.values():
            for link in cluster.links.values():
                link.holds_requests = link.holds_acks = False
                link.error = None
                link.delay_s = 0.0
        for background in self.backgrounds.values():
            background.held_lanes.clear()
        self.kafka.is_away = self.store.is_away = False
        while self.late:
            self.deliver_late()
        while self.zombies:
            self.wake_zombie()
        for name in NAMES:
            self.start(name)

    def check(self) -> None:
        """Both kinds of readers see one history with every input in it once."""
        self.read_outputs()
        accepted = [record for p in range(PARTITIONS) for record in self.seen[p]]
        committed = [r for r in self.kafka.read("links") if r.value() != FOREIGN]
        assert _pairs(accepted) == _pairs(committed), "the two readers differ"
        self._check_history(committed)
        if "plain" in self.topology.output_topics:
            plain, texts = self.kafka.read("plain"), self.kafka.read("texts")
            assert _pairs(plain) == _pairs(committed), "the two deliveries differ"
            at_once = self.kafka.read("texts-at-once")
            assert _pairs(texts) == _pairs(at_once), "the first stage's two deliveries differ"
            values = Counter((record.value() or b"").decode() for record in texts)
            assert values == Counter(self.sent), "lost or doubled in the first stage's sink"
            assert not any(record.headers() for record in (*plain, *texts)), "headers"

    def _check_history(self, records: Iterable[MemoryRecord]) -> None:
        chains: dict[str, str] = {}
        values: list[str] = []
        for record in records:
            key, link = (record.key() or b"").decode(), (record.value() or b"").decode()
            value = link.rsplit(" ", 1)[0]
            values.append(value)
            chains[key] = chained(chains.get(key, ""), value)
            assert link == chains[key], f"history of {key} broke at {value}"
        assert Counter(values) == Counter(self.sent), "lost or doubled"

    def _note_activity(self) -> None:
        self.kafka.activity += 1

    def _accepts(self, partition: int, record: MemoryRecord) -> bool:
        identity = dict(record.headers() or ())[IDENTITY_HEADER]
        assert identity is not None
        return self.tables[partition].accept(decode_identity(identity)) == 0


def _pairs(records: Iterable[MemoryRecord]) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key(), record.value()) for record in records]


MOVES = {
    "step": 40.0,
    "send": 12.0,
    "advance": 8.0,
    "start": 6.0,
    "read_outputs": 3.0,
    "bend": 3.0,
    "expire": 2.0,
    "deliver_late": 2.0,
    "kill": 1.5,
    "suspend": 1.0,
    "wake_zombie": 1.0,
    "compact": 1.0,
    "slow_down": 1.0,
    "lose_disk": 1.0,
    "fail_link": 0.7,
    "turn_away": 0.4,
    "turn_store_away": 0.4,
    "meddle": 0.7,
}
"""Moves of a schedule, by how often they come."""

MOVES_OF_A_WORKER = frozenset(
    {
        "step",
        "start",
        "bend",
        "expire",
        "kill",
        "suspend",
        "fail_link",
        "slow_down",
        "lose_disk",
        "take_over",
    }
)


MOVES_OF_STORES = frozenset({"slow_down", "lose_disk", "turn_store_away", "meddle"})
"""Left out of schedules that found a fault before these moves were there."""


def run(
    seed: int,
    moves: int,
    *,
    without: frozenset[str] = frozenset(),
    is_mixed: bool = True,
    is_slow: bool = False,
    **settings: Any,
) -> Fleet:
    """Run one random schedule to its end and check it.

    Raises:
        AssertionError, KstashError: a rule was broken, or a worker gave up that should not have.
    """
    fleet = Fleet(seed, is_mixed=is_mixed, is_slow=is_slow, **settings)
    fleet.run({move: weight for move, weight in MOVES.items() if move not in without}, moves)
    return fleet

"""Client settings: what each client needs, with the reason beside each value.

A user's `Config.kafka` overrides the tunable values here, but not those that the protocol decides
(`kstash.settings.client.RESERVED` refuses these earlier).
"""

from __future__ import annotations

from typing import Any

from kstash.core import names
from kstash.kafka.rotation import ROTATION
from kstash.settings.config import Config
from kstash.settings.derived import MESSAGE_BYTES_MAX

ClientSettings = dict[str, Any]

PRODUCER_QUEUE_RECORDS_MAX = 1_000_000
PRODUCER_QUEUE_KBYTES_MAX = 256 * 1024
"""Far above what the runtime's backpressure lets wait: hitting one of them is the exception."""

FETCH_BYTES_MAX = 8 << 20
"""Of one answer of a broker, as it comes: the client unpacks all batches of an answer at once. The
default, 50 MB, holds 1 MB of each of 50 partitions; a batch that is larger comes alone."""

CONSUMER_QUEUE_KBYTES_MAX = 32 * 1024
"""Fetched and not yet handed out, of all partitions of one consumer together."""


LEADERS_KNOWN_MS = 3_000
"""How long the admin client, which follows no topic, believes its knowledge of leaders. It goes on
asking a dead one; by default it would for a quarter of an hour: no lag, no purge."""

CHECKPOINT_DEADLINE_MS = 30_000
"""How long a chunk of a checkpoint file may wait for its acknowledgement, or for its record."""


def common(config: Config, role: str) -> tuple[ClientSettings, ClientSettings]:
    """Settings of every client: (tunable, decided)."""
    tunable: ClientSettings = {
        # A broker that comes back is seen soon; the client's own default waits up to 10 s.
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        # A deleted topic is reported soon. The default of 30 s hides it for as long.
        "topic.metadata.propagation.max.ms": 3000,
        "log.connection.close": False,
    }
    decided: ClientSettings = {
        "bootstrap.servers": config.bootstrap_servers,
        "client.id": names.client_id(config.application_id, role),
    }
    return tunable, decided


def _merge(config: Config, tunable: ClientSettings, decided: ClientSettings) -> ClientSettings:
    ROTATION.follow(config)
    return {**tunable, **config.kafka, **decided}


def admin(config: Config) -> ClientSettings:
    """Settings of the admin client."""
    tunable, decided = common(config, "admin")
    tunable["metadata.max.age.ms"] = LEADERS_KNOWN_MS
    # A listener that wants something else closes the connection, and only the log shows it
    # (`kstash.kafka.complaints`).
    tunable["log.connection.close"] = True
    return _merge(config, tunable, decided)


def _consumer(config: Config, role: str) -> tuple[ClientSettings, ClientSettings]:
    tunable, decided = common(config, role)
    tunable |= {
        # A request that waits for data holds up partitions that are added meanwhile: measured,
        # adding one took 0.1 s with 100 and 0.5 s with the default of 500.
        "fetch.wait.max.ms": 50,
        "fetch.min.bytes": 1,
        # The default of 1 s is how long fetching rests when the queue was full once.
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": CONSUMER_QUEUE_KBYTES_MAX,
        "fetch.max.bytes": FETCH_BYTES_MAX,
    }
    decided |= {
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }
    return tunable, decided


def member_id(config: Config, program: str) -> str:
    """Client id of a member, which shows the group's other members what it runs."""
    return names.client_id(config.application_id, f"member-{program}")


def member(config: Config, program: str) -> ClientSettings:
    """Settings of the client that is the worker's membership in the group; it consumes nothing."""
    tunable, decided = _consumer(config, "member")
    decided |= {
        "group.id": config.application_id,
        # KIP-848 was tried: a static member that restarts gets a fatal error there.
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": config.session_timeout_ms,
        "heartbeat.interval.ms": config.heartbeat_interval_ms,
        "client.id": member_id(config, program),
    }
    if config.instance_id is not None:
        decided["group.instance.id"] = config.instance_id
    return _merge(config, tunable, decided)


def reader(config: Config, *, tells_ends: bool = False) -> ClientSettings:
    """Settings of the worker's consumer of lineage tail and data, which is no member.

    A member's client stops fetching everything while a revocation is answered. With `tells_ends` it
    says each time that it has read all there is; else the loop would wake for nothing.
    """
    tunable, decided = _consumer(config, "reader")
    decided |= {
        "enable.partition.eof": tells_ends,
        # The client wants a name; nothing is ever committed or joined under it.
        "group.id": names.client_id(config.application_id, "reader"),
        "isolation.level": "read_committed",
    }
    return _merge(config, tunable, decided)


def scanner(config: Config, role: str = "scan", *, tells_ends: bool = False) -> ClientSettings:
    """Settings of a consumer that is no member.

    It sees records of open transactions, unless its role is `committed`; `tells_ends` as in
    `reader`.
    """
    tunable, decided = _consumer(config, role)
    tunable["fetch.wait.max.ms"] = 10  # recovery waits for it
    decided |= {
        # The client wants a name; nothing is ever committed or joined under it.
        "group.id": names.client_id(config.application_id, role),
        "isolation.level": "read_committed" if role == "committed" else "read_uncommitted",
        # Reports the end after batches that compaction has emptied.
        "enable.partition.eof": tells_ends or role in ("scan", "committed"),
    }
    return _merge(config, tunable, decided)


def checkpoint_reader(config: Config) -> ClientSettings:
    """Settings of a consumer that reads chunks of checkpoint files."""
    return scanner(config) | {
        "client.id": names.client_id(config.application_id, "checkpoints"),
        # It reads runs of offsets: what is fetched beyond the end of one is thrown away.
        "queued.max.messages.kbytes": 4 * 1024,
    }


def positions(config: Config) -> ClientSettings:
    """Settings of the consumer that reads the committed positions."""
    tunable, decided = common(config, "positions")
    decided |= {
        "group.id": names.positions_group(config.application_id),
        # An offset that an open transaction would replace is waited for.
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
    }
    return _merge(config, tunable, decided)


def _producer(config: Config, role: str) -> tuple[ClientSettings, ClientSettings]:
    tunable, decided = common(config, role)
    tunable |= {
        "linger.ms": config.linger_ms,
        "queue.buffering.max.messages": PRODUCER_QUEUE_RECORDS_MAX,
        "queue.buffering.max.kbytes": PRODUCER_QUEUE_KBYTES_MAX,
        # Larger frames than the client's default of 1,000,000 are the broker's to refuse.
        "message.max.bytes": MESSAGE_BYTES_MAX,
        # The default (100, up to 1000) is how long a retry and a coordinator look-up rest.
        "retry.backoff.ms": 5,
        "retry.backoff.max.ms": 100,
    }
    # A question for a topic would make it, on brokers that let it: kstash makes topics itself.
    return tunable, decided | {"acks": "all", "allow.auto.create.topics": False}


def data_producer(config: Config) -> ClientSettings:
    """Settings of the producer of frames: no record is ever skipped (protocol, H12)."""
    tunable, decided = _producer(config, "data")
    decided |= {
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "message.timeout.ms": 0,
    }
    return _merge(config, tunable, decided)


def lineage_producer(config: Config) -> ClientSettings:
    """Settings of the producer of lineage: gathering is the runtime's business."""
    tunable, decided = _producer(config, "lineage")
    tunable["linger.ms"] = config.lineage_linger_ms
    decided |= {
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "message.timeout.ms": 0,
    }
    return _merge(config, tunable, decided)


def checkpoint_producer(config: Config) -> ClientSettings:
    """Settings of the producer of checkpoint files: large records, nobody waits for them.

    A record that is not acknowledged in time fails the upload, which is then tried anew.
    """
    tunable, decided = _producer(config, "checkpoints")
    tunable |= {"linger.ms": 5, "compression.type": "none"}  # RocksDB has compressed them
    decided |= {"enable.idempotence": True, "message.timeout.ms": CHECKPOINT_DEADLINE_MS}
    return _merge(config, tunable, decided)


def marker_producer(config: Config) -> ClientSettings:
    """Settings for FENCE, SEAL and START, whose repetition is harmless.

    Not idempotent: a fresh idempotent producer needs half a second and more to its first ack.
    """
    tunable, decided = _producer(config, "markers")
    tunable["linger.ms"] = 0
    decided |= {"enable.idempotence": False, "max.in.flight": 1, "message.timeout.ms": 30_000}
    return _merge(config, tunable, decided)


def claim_producer(config: Config) -> ClientSettings:
    """Settings for CONFIG and CLAIM: a key must not be written twice (protocol, H34)."""
    decided = {"client.id": names.client_id(config.application_id, "claims"), "retries": 0}
    return marker_producer(config) | decided


def sink_producer(config: Config, group: int, slot: int) -> ClientSettings:
    """Settings of a transactional producer of a task group, which has two."""
    suffix = "-next" if slot else ""
    tunable, decided = _producer(config, f"sink-{group}{suffix}")
    tunable |= {
        # Taking over from a dead predecessor is waiting for the coordinator: be quick to ask.
        # Doubled with each attempt: with a broker that is away, a hundred connections a second of
        # each producer would cost a tenth of a core.
        "reconnect.backoff.ms": 1,
        "reconnect.backoff.max.ms": 500,
        "retry.backoff.max.ms": 20,
    }
    decided |= {
        "transactional.id": names.transactional_id(config.application_id, group, slot),
        "transaction.timeout.ms": config.transaction_timeout_ms,
        # The client wants it within the transaction's.
        "message.timeout.ms": config.transaction_timeout_ms,
        "enable.idempotence": True,
    }
    return _merge(config, tunable, decided)

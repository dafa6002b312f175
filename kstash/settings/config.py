"""Settings: one frozen object, validated once, that knows where each setting came from.

A setting comes from, in this order: the command line (`App.configure`), the variable
`KSTASH_<SETTING>` of the environment, the settings file, the keyword given to `App`, the default.
Settings of the Kafka client are taken one by one, and a variable for one of them goes before
`KSTASH_KAFKA`, which has several. Environment and file are read by `kstash.settings.sources`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from kstash.core import names
from kstash.core.guarantee import Guarantee
from kstash.errors import shown as told
from kstash.settings import hosts
from kstash.settings.client import MS_MAX, ClientSetting, check_client
from kstash.settings.credentials import MASK, is_secret, masked_settings, refuse_key
from kstash.settings.misspellings import refuse_unknown
from kstash.settings.refusal import config_error
from kstash.settings.skips import SKIP_PATTERN, SkippedPlace
from kstash.settings.sources import (
    Layer,
    Origin,
    Sourced,
    find,
    merged,
    read_environment,
    read_file,
)

POLL_INTERVAL_MS = 300_000
"""The Kafka client's own `max.poll.interval.ms`."""


NUMBER_MAX = 1 << 53
"""Of any other number: it may be counted with as a float."""


MESSAGE_BYTES_MAX = 100 * 1024 * 1024
"""The Kafka client's `message.max.bytes` of all producers: topics decide, and say so before."""

OWN_MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""`max.message.bytes` of new topics of kstash's own. A frame holds one record at least, and inputs
are as large as Kafka's default lets them be (1 MiB), or what a function made of that."""

NAME_PATTERN = re.compile(r"(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,100}\Z")
"""What an application id and the name of an operator may be: they become parts of topics and
folders, and `<application id>-<name>-repartition` must fit into Kafka's 249 characters."""

STORE_PATTERN = r"^(topic|none|(s3|gs|az)://[^/]+.*|file:///.+)$"


Milliseconds = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """All settings of an application. Names end in their unit: `_ms`, `_bytes`, `_max`.

    Attributes:
        application_id: prefix of topics, groups, transactional ids and folders; 1 to 100 letters,
            digits, dots, underscores or hyphens; does not end in `-positions`, and is not
            `worker-` and a number, which are other applications' names.
        bootstrap_servers: `host:port`, comma-separated.
        instance_id: static name of this worker in the group: a restart under the same name gets
            its tasks back at once. None: a dynamic member.
        kafka: settings passed to every Kafka client, such as `security.protocol`; those that the
            protocol decides are refused. One of them by the environment: `sasl.password` is
            `KSTASH_KAFKA__SASL_PASSWORD`, or is in the file that `…_FILE` names. `oauth_cb` may be
            a function that gives tokens.
        guarantee: what a crash may do to results: `exactly_once` (lineage written after each
            output), `write_first` (before it), `at_least_once` (no lineage) or `none` (no recovery
            at all).
        auto_offset_reset: where an application starts that has never run.
        skip_records: `topic/partition/offset`, comma-separated: records that cannot be processed
            and that are to be passed over, for good: every later start knows them. Of a frame on an
            internal topic `…/offset/index` names one record, `…/offset/all` all of them;
            `…/first-last` a batch that cannot be read. Errors say which is right.
        drop_stores: names, comma-separated: stores that a changed program removes or changes, and
            whose contents are given up; no effect on a store that has not changed.
        create_topics: create missing user topics at the start, with the cluster's default number
            of partitions.
        internal_replication_factor: of topics that kstash creates, 1 or more; from 3 on they get
            `min.insync.replicas=2`. None: the broker's default.
        state_dir: folder for state and checkpoints; each worker of a machine needs its own.
        state_memory_bytes: live state in memory, for all tasks of a worker together; 1 MiB or
            more. What does not fit is read from disk.
        checkpoint_interval_ms: longest time between two checkpoints of a task, 100 or more.
        checkpoint_lineage_bytes_max: lineage since the last checkpoint that makes the next one
            due, in bytes.
        checkpoint_events_max: events since the last checkpoint that make the next one due: it
            bounds the replay.
        checkpoint_store: where checkpoints are kept besides this disk: `topic` (the topic
            `<application_id>-checkpoints`), a URL `s3://…`, `gs://…`, `az://…` or `file:///…`
            (needs the extra `kstash[objects]`), or `none`: then a lost disk means a replay from
            the start of the inputs, and nothing internal is ever trimmed.
        checkpoints_retained: newest remote checkpoints of a task that are kept, 2 to 100.
        checkpoint_upload_bytes_per_s: bandwidth of a worker's uploads; None or 0: no bound.
        sink_commit_interval_ms: time between two commits of the sinks, 1 or more and at most half
            of the transaction timeout: how much later a plain `read_committed` reader sees a
            record.
        transaction_timeout_ms: after which the broker aborts a silent worker's transaction; 15000
            or more, since a broker that is slower ends in a recovery.
        lineage_header_bytes_max: lineage that an output may carry, 256 or more; above it the
            output waits until the lineage is acknowledged.
        lineage_linger_ms: how long the lineage of several tasks is gathered for one request, 0 to
            1000.
        lineage_ack_timeout_ms: age of unacknowledged lineage at which the inputs are paused.
        lineage_ack_delay_ms: for tests: lineage is written, and so acknowledged, this much later,
            0 to 10000: a crash then loses lineage that outputs rely on.
        stash_bytes_max: unacknowledged lineage of a task group at which the inputs are paused.
        session_timeout_ms: how long a silent worker keeps its tasks, 6000 (the least that brokers
            allow by default) or more.
        heartbeat_interval_ms: time between heartbeats; a third of the session timeout at most.
        outage_ms_max: longest outage that must be survived: `retention.ms` of immediate sinks
            must exceed it.
        shutdown_timeout_ms: deadline of an orderly stop; what is not released by then is replayed.
        leave_on_stop: leave the group at an orderly stop although `instance_id` is set. False
            keeps the place for the restart.
        linger_ms: how long the producers gather records, 0 to 1000. 0 is slower than 1 under load:
            the client then turns in circles while records are on their way. 20 to 50 where only
            throughput counts.
        frame_bytes_max: largest frame of several records on an internal topic; 1024 or more, and
            well below the topic's `max.message.bytes`. A larger record is a frame of its own.
        http_host: address that metrics and health are served on.
        http_port: its port; 0: no server. Each worker of a machine needs its own.
        http_hosts_allowed: names, comma-separated, that HTTP requests may be for, beside addresses,
            names without a dot, `http_host` and the name of this machine. `*.example.com` is all
            names below that, `*` any name.
        http_token: what an HTTP request must have as `Authorization: Bearer`, 16 to 512 letters,
            digits and `-._~+/=`; None: nothing. Probes and the page's files are open.
        http_tls_certificate: file of the certificate for HTTPS, in PEM, with those that vouch for
            it; a renewed one is taken up.
        http_tls_key: file of its key, without a passphrase.
        http_peers: `host:port`, comma-separated: the other workers of the application, for
            `/workers` and `/sd`; a name stands for all its addresses.
        stall_ms_max: how long nothing may move where there is work, before `/livez` fails. None:
            the client's `max.poll.interval.ms`.
        log_format: `console` (for people) or `json` (one object a line).
        log_level: events of a lower level are dropped: `debug`, `info`, `warning` or `error`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    _layers: tuple[Layer, ...] = PrivateAttr(default=())

    application_id: str
    bootstrap_servers: str = Field(default="localhost:9092", min_length=1)
    instance_id: str | None = None
    kafka: dict[str, ClientSetting] = Field(default_factory=dict)
    guarantee: Literal["exactly_once", "write_first", "at_least_once", "none"] = "exactly_once"
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    skip_records: Annotated[str, Field(pattern=SKIP_PATTERN)] | None = None
    drop_stores: Annotated[str, Field(min_length=1)] | None = None
    create_topics: bool = False
    internal_replication_factor: Annotated[int, Field(ge=1, le=32767)] | None = None

    state_dir: str = Field(default="kstash-state", min_length=1)
    state_memory_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    checkpoint_interval_ms: int = Field(default=10_000, ge=100)
    checkpoint_lineage_bytes_max: Bytes = 16 * 1024 * 1024
    checkpoint_events_max: int = Field(default=5_000_000, ge=1)

    checkpoint_store: Annotated[str, Field(pattern=STORE_PATTERN)] = "topic"
    checkpoints_retained: int = Field(default=2, ge=2, le=100)
    checkpoint_upload_bytes_per_s: Annotated[int, Field(ge=0)] | None = None

    sink_commit_interval_ms: Milliseconds = 100
    transaction_timeout_ms: int = Field(default=15_000, ge=15_000)
    lineage_header_bytes_max: int = Field(default=4096, ge=256)
    lineage_linger_ms: int = Field(default=1, ge=0, le=1000)
    lineage_ack_timeout_ms: Milliseconds = 5_000
    lineage_ack_delay_ms: int = Field(default=0, ge=0, le=10_000)
    stash_bytes_max: Bytes = 4 * 1024 * 1024

    session_timeout_ms: int = Field(default=10_000, ge=6_000)
    heartbeat_interval_ms: Milliseconds = 500
    outage_ms_max: Milliseconds = 24 * 60 * 60 * 1000
    shutdown_timeout_ms: Milliseconds = 20_000
    leave_on_stop: bool = False

    linger_ms: int = Field(default=1, ge=0, le=1000)
    frame_bytes_max: int = Field(default=512 * 1024, ge=1024)

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535)
    http_hosts_allowed: Annotated[str, Field(pattern=hosts.NAMES_PATTERN)] | None = None
    http_token: Annotated[str, Field(pattern=hosts.TOKEN_PATTERN)] | None = None
    http_tls_certificate: Annotated[str, Field(min_length=1)] | None = None
    http_tls_key: Annotated[str, Field(min_length=1)] | None = None
    http_peers: Annotated[str, Field(pattern=hosts.PEERS_PATTERN)] | None = None
    stall_ms_max: Annotated[int, Field(ge=1000)] | None = None
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator(
        *("bootstrap_servers", "skip_records", "drop_stores", "http_hosts_allowed", "http_peers"),
        mode="before",
    )
    @classmethod
    def _join(cls, given: object) -> object:
        """A list is meant as its items with commas between them."""
        is_list = isinstance(given, list | tuple) and all(isinstance(item, str) for item in given)
        return ",".join(given) if is_list and isinstance(given, list | tuple) else given

    @field_validator("state_dir", "checkpoint_store", mode="before")
    @classmethod
    def _path(cls, given: object, info: ValidationInfo) -> object:
        """A `Path` is meant as its text, and as a URL where it is a store."""
        if not isinstance(given, Path):
            return given
        return str(given) if info.field_name == "state_dir" else f"file://{given.absolute()}"

    @field_validator("guarantee", "auto_offset_reset", "log_format", "log_level", mode="before")
    @classmethod
    def _word(cls, given: object) -> object:
        """`INFO` and `exactly-once` are meant as the words that stand in their place."""
        if not isinstance(given, str):
            return given
        word = given.strip().lower().replace("-", "_")
        return {"warn": "warning"}.get(word, word)

    @field_validator("checkpoint_store")
    @classmethod
    def _without_key(cls, url: str) -> str:
        refuse_key(url)
        return url

    @field_serializer("*")
    def _shown(self, value: Any, info: FieldSerializationInfo) -> Any:
        """Dumps are for people and logs; who needs the values reads the attribute."""
        if info.field_name == "kafka":
            return masked_settings(value)
        return MASK if value is not None and is_secret(info.field_name) else value

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return self.model_dump().items()

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name, value in self:
            # `outage_ms_max` is compared with a topic's retention, which may be any.
            largest = MS_MAX if name.endswith("_ms") else NUMBER_MAX
            if isinstance(value, int) and value > largest:
                raise ValueError(f"{name} is {told(value)}, must be {largest} or less")
        if not NAME_PATTERN.match(self.application_id):
            raise ValueError(
                f"application_id {self.application_id!r} is not allowed: 1 to 100 letters, digits, "
                "dots, underscores or hyphens"
            )
        if reason := names.refusal(self.application_id):
            raise ValueError(f"application_id {self.application_id!r} is not allowed: {reason}")
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ValueError(
                f"heartbeat_interval_ms is {self.heartbeat_interval_ms}, more than a third of "
                f"session_timeout_ms ({self.session_timeout_ms}): lower it"
            )
        if self.sink_commit_interval_ms * 2 > self.transaction_timeout_ms:
            raise ValueError(
                f"sink_commit_interval_ms is {self.sink_commit_interval_ms}, more than half of "
                f"transaction_timeout_ms ({self.transaction_timeout_ms}), so that the broker would "
                "abort transactions before they are committed: raise the latter"
            )
        if (self.http_tls_certificate is None) != (self.http_tls_key is None):
            raise ValueError("http_tls_certificate and http_tls_key belong together: set both")
        self.skipped_records()
        check_client(self.kafka)
        return self

    @property
    def guaranteed(self) -> Guarantee:
        """The guarantee, with what follows from it."""
        return Guarantee(self.guarantee)

    @classmethod
    def load(cls, command_line: Mapping[str, Any] | None = None, /, **settings: Any) -> Self:
        """Settings from a command line, the environment, the file, keywords and defaults.

        Args:
            command_line: what goes before all others.
            settings: what the program says: they count where nothing else is given.

        Raises:
            ConfigError: unknown (names the nearest setting), missing or out of range.
        """
        known = cls.model_fields
        for name in (*(command_line or {}), *settings):
            refuse_unknown(name, name, known)
        layers = [
            Layer("command line", command_line or {}),
            read_environment(os.environ, known),
            read_file(os.environ, known),
            Layer("code", settings),
        ]
        return cls._of([layer for layer in layers if layer.values])

    @classmethod
    def _of(cls, layers: Sequence[Layer]) -> Self:
        try:
            made = cls.model_validate(merged(layers))
        except ValidationError as error:
            raise config_error(error, layers) from None
        made._layers = tuple(layers)
        return made

    @property
    def poll_interval_s(self) -> float:
        """Seconds after which a member that did not poll is put out of its group."""
        return float(str(self.kafka.get("max.poll.interval.ms", POLL_INTERVAL_MS))) / 1000

    @property
    def message_bytes_max(self) -> int:
        """The largest record that a producer's client takes."""
        return int(str(self.kafka.get("message.max.bytes", MESSAGE_BYTES_MAX)))

    def skipped_records(self) -> list[SkippedPlace]:
        """`skip_records` as places."""
        return [SkippedPlace.parse(text) for text in (self.skip_records or "").split(",") if text]

    def dropped_stores(self) -> frozenset[str]:
        """`drop_stores` as a set of names."""
        names = (self.drop_stores or "").split(",")
        return frozenset(name.strip() for name in names if name.strip())

    def http_hosts(self) -> list[str]:
        """`http_hosts_allowed` as a list of names."""
        return hosts.split(self.http_hosts_allowed)

    def peers(self) -> list[tuple[str, int]]:
        """`http_peers` as hosts and ports."""
        return [hosts.split_port(peer) for peer in hosts.split(self.http_peers)]

    @property
    def stall_s(self) -> float:
        """Seconds for which nothing may move where there is work."""
        return self.stall_ms_max / 1000 if self.stall_ms_max else self.poll_interval_s

    def override(self, origin: Origin = "command line", /, **settings: Any) -> Self:
        """A copy with other values, validated; settings of the Kafka client one by one.

        Args:
            origin: who says so.
            settings: they go before all that was given before, wherever it came from.

        Raises:
            ConfigError: unknown or out of range.
        """
        for name in settings:
            refuse_unknown(name, name, type(self).model_fields)
        return self._of([Layer(origin, settings), *self.layers()])

    def layers(self) -> tuple[Layer, ...]:
        """What each source gave, the one that counts first; with secrets."""
        if self._layers:
            return self._layers
        return (Layer("code", {name: getattr(self, name) for name in self.model_fields_set}),)

    def sources(self) -> list[Sourced]:
        """Each setting, and each of the Kafka client: what it is, and where it comes from.

        Secrets are masked.
        """
        layers = self.layers()
        found = []
        for name, value in self.model_dump(mode="json").items():
            if name != "kafka":
                found.append(find(layers, name, value))
                continue
            found += [find(layers, f"kafka.{client}", item) for client, item in value.items()]
        return found

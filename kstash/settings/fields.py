"""The settings that there are, each with what it may be and what it does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from kstash.settings import hosts
from kstash.settings.client import ClientSetting
from kstash.settings.credentials import MASK, is_secret, masked_settings, refuse_key
from kstash.settings.skips import SKIP_PATTERN

STORE_PATTERN = r"^(topic|none|(s3|gs|az)://[^/]+.*|file:///.+)$"


Milliseconds = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]


LISTS = ("skip_records", "drop_stores", "http_hosts_allowed", "http_peers")
"""Settings of any number of items; where only a text can be given, commas part them."""


class ConfigFields(BaseModel):
    """All settings of an application. Names end in their unit: `_ms`, `_bytes`, `_max`.

    What stands below a setting describes it: `docs/reference.md` is made of that.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        defer_build=True,  # only `Config` is made, when it is first needed
    )

    application_id: str
    """Prefix of topics, groups, transactional ids and folders; 1 to 100 letters, digits, dots,
    underscores or hyphens; does not end in `-positions`, and is not `worker-` and a number, which
    are other applications' names."""

    bootstrap_servers: str = Field(default="localhost:9092", min_length=1)
    """`host:port`, comma-separated."""

    instance_id: str | None = None
    """Static name of this worker in the group: a restart under the same name gets its tasks back at
    once. None: a dynamic member."""

    kafka: dict[str, ClientSetting] = Field(default_factory=dict)
    """Settings passed to every Kafka client, such as `security.protocol`; those that the protocol
    decides are refused. One of them by the environment: `sasl.password` is
    `KSTASH_KAFKA__SASL_PASSWORD`, or is in the file that `…_FILE` names. `oauth_cb` may be a
    function that gives tokens."""

    guarantee: Literal["exactly_once", "write_first", "at_least_once", "none"] = "exactly_once"
    """What a crash may do to results: `exactly_once` (lineage written after each output),
    `write_first` (before it), `at_least_once` (no lineage) or `none` (no recovery at all)."""

    watermark_interval_ms: Milliseconds = 200
    """How often event time is said to those who have not heard of it, at most: with
    `App(event_time="watermark")`."""

    idle_timeout_ms: Milliseconds = 30_000
    """How long nothing may come of a source until its event time goes by the clock, so much behind
    it, instead of holding all others back: with `App(event_time="watermark")`. A change needs a
    drain. `idle_timeout=` of `window` is another thing: it closes windows."""

    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where an application starts that has never run."""

    skip_records: tuple[Annotated[str, Field(pattern=SKIP_PATTERN)], ...] = ()
    """Records that cannot be processed and that are to be passed over, for good: every later start
    knows them. Each as `topic/partition/offset`. Of a frame on an internal topic
    `…/offset/index` names one record, `…/offset/all` all of them; `…/first-last` a batch that
    cannot be read. Errors say which is right."""

    drop_stores: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of stores that a changed program removes or changes, and whose contents are given up;
    no effect on a store that has not changed."""

    create_topics: bool = False
    """Create missing user topics at the start, with the cluster's default number of partitions."""

    internal_replication_factor: Annotated[int, Field(ge=1, le=32767)] | None = None
    """Of topics that kstash creates, 1 or more; from 3 on they get `min.insync.replicas=2`. None:
    the broker's default."""

    state_dir: str = Field(default="kstash-state", min_length=1)
    """Folder for state and checkpoints; each worker of a machine needs its own."""

    state_memory_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    """Live state in memory, for all tasks of a worker together; 1 MiB or more. What does not fit is
    read from disk."""

    checkpoint_interval_ms: int = Field(default=10_000, ge=100)
    """Longest time between two checkpoints of a task, 100 or more."""

    checkpoint_lineage_bytes_max: Bytes = 16 * 1024 * 1024
    """Lineage since the last checkpoint that makes the next one due, in bytes."""

    checkpoint_events_max: int = Field(default=5_000_000, ge=1)
    """Events since the last checkpoint that make the next one due: it bounds the replay."""

    checkpoint_store: Annotated[str, Field(pattern=STORE_PATTERN)] = "topic"
    """Where checkpoints are kept besides this disk: `topic` (the topic
    `<application_id>-checkpoints`), a URL `s3://…`, `gs://…`, `az://…` or `file:///…` (needs the
    extra `kstash[objects]`), or `none`: then a lost disk means a replay from the start of the
    inputs, and nothing internal is ever trimmed."""

    checkpoints_retained: int = Field(default=2, ge=2, le=100)
    """Newest remote checkpoints of a task that are kept, 2 to 100."""

    checkpoint_upload_bytes_per_s: Annotated[int, Field(ge=0)] | None = None
    """Bandwidth of a worker's uploads; None or 0: no bound."""

    task_idle_ms: int = Field(default=0, ge=-1)
    """Where records of several topics are taken in the order of their times: how long a topic that
    is read to its end is waited for while others have records. 0: not at all; -1: no topic is
    waited for, not even one that is known to have more."""

    sink_commit_interval_ms: Milliseconds = 100
    """Time between two commits of the sinks, 1 or more and at most half of the transaction timeout:
    how much later a plain `read_committed` reader sees a record."""

    transaction_timeout_ms: int = Field(default=15_000, ge=15_000)
    """After which the broker aborts a silent worker's transaction; 15000 or more, since a broker
    that is slower ends in a recovery."""

    lineage_header_bytes_max: int = Field(default=4096, ge=256)
    """Lineage that an output may carry, 256 or more; above it the output waits until the lineage is
    acknowledged."""

    lineage_linger_ms: int = Field(default=1, ge=0, le=1000)
    """How long the lineage of several tasks is gathered for one request, 0 to 1000."""

    lineage_ack_timeout_ms: Milliseconds = 5_000
    """Age of unacknowledged lineage at which the inputs are paused."""

    lineage_ack_delay_ms: int = Field(default=0, ge=0, le=10_000)
    """For tests: lineage is written, and so acknowledged, this much later, 0 to 10000: a crash then
    loses lineage that outputs rely on."""

    stash_bytes_max: Bytes = 4 * 1024 * 1024
    """Unacknowledged lineage of a task group at which the inputs are paused."""

    session_timeout_ms: int = Field(default=10_000, ge=6_000)
    """How long a silent worker keeps its tasks, 6000 (the least that brokers allow by default) or
    more."""

    heartbeat_interval_ms: Milliseconds = 500
    """Time between heartbeats; a third of the session timeout at most."""

    outage_ms_max: Milliseconds = 24 * 60 * 60 * 1000
    """Longest outage that must be survived: `retention.ms` of immediate sinks must exceed it."""

    shutdown_timeout_ms: Milliseconds = 20_000
    """Deadline of an orderly stop; what is not released by then is replayed."""

    leave_on_stop: bool = False
    """Leave the group at an orderly stop although `instance_id` is set. False keeps the membership
    for the restart."""

    linger_ms: int = Field(default=1, ge=0, le=1000)
    """How long the producers gather records, 0 to 1000. 0 is slower than 1 under load: the client
    then turns in circles while records are on their way. 20 to 50 where only throughput counts."""

    frame_bytes_max: int = Field(default=512 * 1024, ge=1024)
    """Largest frame of several records on an internal topic; 1024 or more, and well below the
    topic's `max.message.bytes`. A larger record is a frame of its own."""

    http_host: str = "127.0.0.1"
    """Address that metrics and health are served on."""

    http_port: int = Field(default=0, ge=0, le=65535)
    """Its port; 0: no server. Each worker of a machine needs its own."""

    http_hosts_allowed: tuple[Annotated[str, Field(pattern=hosts.HOST_PATTERN)], ...] = ()
    """Names that HTTP requests may be for, beside addresses, names without a dot,
    `http_host` and the name of this machine. `*.example.com` is all names below that, `*` any name.
    """

    http_token: Annotated[str, Field(pattern=hosts.TOKEN_PATTERN)] | None = None
    """What an HTTP request must have as `Authorization: Bearer`, 16 to 512 letters, digits and
    `-._~+/=`; None: nothing. Probes and the page's files are open."""

    http_tls_certificate: Annotated[str, Field(min_length=1)] | None = None
    """File of the certificate for HTTPS, in PEM, with those that vouch for it; a renewed one is
    taken up."""

    http_tls_key: Annotated[str, Field(min_length=1)] | None = None
    """File of its key, without a passphrase."""

    http_peers: tuple[Annotated[str, Field(pattern=hosts.PEER_PATTERN)], ...] = ()
    """The other workers of the application, for `/workers` and `/sd`, each as `host:port`; a name
    stands for all its addresses."""

    stall_ms_max: Annotated[int, Field(ge=1000)] | None = None
    """How long nothing may move where there is work, before `/livez` fails. None: the client's
    `max.poll.interval.ms`."""

    log_format: Literal["console", "json"] = "console"
    """`console` (for people) or `json` (one object a line)."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Events of a lower level are dropped: `debug`, `info`, `warning` or `error`."""

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _part(cls, given: object) -> object:
        """A text is its items with commas between them, as variables and options have it."""
        if given is None:
            return ()
        # An empty part stays, to be refused: half of a list must not look like all of it.
        return [part.strip() for part in given.split(",")] if isinstance(given, str) else given

    @field_validator("bootstrap_servers", mode="before")
    @classmethod
    def _join(cls, given: object) -> object:
        """A list is its items with commas between them, as the Kafka client takes it."""
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

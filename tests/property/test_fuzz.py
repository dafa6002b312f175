"""Whatever bytes come: a typed error, in bounded memory and time, from everything that decodes.

Each target decodes what somebody else may have written: into a topic, into the metadata of a
committed offset, onto a disk, into a setting. `corpus.py` makes the bytes.
"""

from __future__ import annotations

import base64
import json
import random
import signal
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstash import failpoints
from kstash.cli.decode import RecordDecoder, as_text, lineage_entry
from kstash.cli.folders import folder_program
from kstash.cli.options import assignments
from kstash.cli.reset import parse_moment
from kstash.core.file_names import check_file_names
from kstash.core.files import owner_of
from kstash.core.frames import decode_frame
from kstash.core.lineage_codec import decode_lineage
from kstash.core.manifest import Manifest
from kstash.core.reader import ReaderState
from kstash.core.record_codec import decode_record
from kstash.core.record_keys import key_incarnation
from kstash.core.records import Checkpoint
from kstash.core.sink import CommittedPositions
from kstash.core.wire import (
    IDENTITY_HEADER,
    LINEAGE_HEADER,
    MARKER_HEADER,
    application_tag,
    decode_identity,
    decode_marker,
    with_checksum,
)
from kstash.errors import (
    CheckpointCorruptError,
    ConfigError,
    LocatedError,
    StateError,
    WireCorruptError,
)
from kstash.escape import printable
from kstash.kafka.bookmarks import Bookmark
from kstash.kafka.census import assigned
from kstash.ports.kafka import Message
from kstash.runtime.decode import decode_ruled
from kstash.settings import derived
from kstash.settings.config import Config
from kstash.settings.sources import VARIABLE_PREFIX
from kstash.state.folder import METADATA_FILE, ApplicationFolder
from kstash.stores.chunk_uri import ChunkUri
from kstash.stores.topic import CheckpointTopic
from kstash.testing import MemoryCluster, MemoryKafka
from kstash.testing.kafka.log import MemoryRecord
from kstash.verify import formats
from kstash.verify.checks import Report, SequenceCheck
from kstash.verify.lineage import LineageCheck
from tests.property import corpus

BYTES_MAX = 1 << 20
BYTES_PER_BYTE_MAX = 300
"""Memory for an input byte: the shortest determinant takes 3 and becomes an object of five."""

CPU_S_MAX = 10.0
"""Per input of 64 KiB, on a machine that has other work too."""

SHORT_RUN = 300
LONG_RUN_S = 45.0

TOPIC = "corpus-words-repartition"


@dataclass(frozen=True, slots=True)
class Target:
    """Something that decodes.

    Attributes:
        seeds: right bytes.
        decode: of any bytes.
        raises: what may come out of it as an exception.
        count: inputs of a short run; settings take a hundred times as long as a header.
    """

    seeds: Callable[[], list[bytes]]
    decode: Callable[[bytes], object]
    raises: tuple[type[Exception], ...] = ()
    count: int = SHORT_RUN


def text(data: bytes) -> str:
    """As Python gives what is no UTF-8 to a program: with lone surrogates."""
    return data.decode(errors="surrogateescape")


def pairs() -> list[bytes]:
    """Keys and values of the lineage topic as one, without the checksum."""
    return [bytes([len(key)]) + key + value[:-4] for key, value in corpus.seen().lineage]


def pair(data: bytes) -> tuple[bytes, bytes]:
    """Key, and value with a checksum that fits."""
    size = data[0] if data else 0
    return data[1 : 1 + size], with_checksum(data[1 + size :])


def message(
    value: bytes | None, *headers: tuple[str, bytes | None], key: bytes | None = None
) -> MemoryRecord:
    """A record of an internal topic."""
    return MemoryRecord(TOPIC, 0, 5, key=key, value=value, headers=list(headers), timestamp_ms=1000)


def both(data: bytes) -> tuple[bytes, bytes]:
    """Two parts, the first of which has the length that the first byte says."""
    size = data[0] if data else 0
    return data[1 : 1 + size], data[1 + size :]


def joined() -> list[bytes]:
    """Identity headers with frames."""
    found = corpus.seen()
    return [bytes([len(i)]) + i + f for i, f in zip(found.identities, found.frames, strict=False)]


def take_frame(data: bytes) -> object:
    """What a task does with a record of an internal topic."""
    identity, value = both(data)
    table = ReaderState(is_internal=True)
    table.is_fenced = True
    table.application = application_tag("corpus")
    return decode_ruled([message(value, (IDENTITY_HEADER, identity))], table, is_frames=True)


def take_marker(data: bytes) -> object:
    """What it does with a marker."""
    table = ReaderState(is_internal=True)
    marker = message(None, (MARKER_HEADER, with_checksum(data)))
    return decode_ruled([marker], table, is_frames=True)


def manifest(data: bytes) -> object:
    """What is opened, linked and deleted by a CKPT."""
    record = decode_record(*pair(data))
    if isinstance(record, Checkpoint):
        check_file_names(record)
        for entry in record.files:
            owner_of(entry.uri)
            if entry.uri.startswith("topic:"):
                ChunkUri.parse(entry.uri)
    return record


def check_lineage(data: bytes) -> object:
    """`kstash verify` on a lineage topic."""
    key, value = pair(data)
    check = LineageCheck(Report())
    check.take(message(value, key=key))
    check.finish(lambda _, size: [bytes(min(size, 10))])
    return check.programs


def check_outputs(data: bytes) -> object:
    """`kstash verify` on an internal topic."""
    identity, value = both(data)
    check = SequenceCheck(1, is_internal=True, is_whole=True, report=Report())
    check.take(message(value, (IDENTITY_HEADER, identity), (LINEAGE_HEADER, value)))
    check.take(message(None, (MARKER_HEADER, with_checksum(value))))
    return check


def show(data: bytes) -> object:
    """`kstash topics read`."""
    identity, value = both(data)
    headers = (IDENTITY_HEADER, identity), (LINEAGE_HEADER, value), (MARKER_HEADER, value)
    chosen = [header for bit, header in enumerate(headers) if len(data) >> bit & 1]
    for record in RecordDecoder().decode(message(value, *chosen, key=identity)):
        json.dumps(record).encode()
        as_text(record, with_headers=True).encode()
    return None


def show_lineage(data: bytes) -> object:
    """`kstash lineage show`."""
    key, value = pair(data)
    return json.dumps(lineage_entry(message(value, key=key))).encode()


def table_of(data: bytes) -> object:
    """A reader's state out of a user's database."""
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        document = json.loads(data)["table"]
        return ReaderState.from_json(document)
    return None


def folder_metadata(data: bytes) -> object:
    """The file that says whose a state folder is."""
    path = FOLDER / "app"
    path.mkdir(exist_ok=True, mode=0o700)
    (path / METADATA_FILE).write_bytes(data)
    folder_program(path)
    folder = ApplicationFolder(FOLDER, "app", topology_hash="h", program="{}")
    folder.close()
    return None


FOLDER = Path()


def metadata_seeds() -> list[bytes]:
    """As the folder writes it."""
    program = json.loads(program_seeds()[0])
    document = {"format": 1, "application_id": "app", "topology_hash": "h", "program": program}
    return [json.dumps(document).encode()]


def program_seeds() -> list[bytes]:
    """Descriptions of programs."""
    starts = [decode_record(key, value) for key, value in corpus.seen().lineage]
    return [s.settings["program"].encode() for s in starts if hasattr(s, "settings")]


def uri_seeds() -> list[bytes]:
    """Where a checkpoint store has files."""
    digest = "0123456789abcdef" * 2
    return [f"topic:3:10+4,20+1:words_3/1600000000000-7/{digest}~ab12".encode()]


def setting(data: bytes) -> object:
    """`NAME=VALUE` as a setting, by keyword and as the client's own."""
    name, _, value = text(data).partition("=")
    config = Config.load(**({"application_id": "app"} | {name: value}))
    derived.skipped_places(config)
    return repr(config), derived.poll_interval_s(config), derived.message_bytes_max(config)


def client_setting(data: bytes) -> object:
    """`NAME=VALUE` as a setting of the Kafka client."""
    name, _, value = text(data).partition("=")
    number: Any = value
    with suppress(ValueError):
        number = float(value) if "." in value else int(value)
    for found in (value, number):
        config = Config.load(application_id="app", kafka={name: found})
        repr((derived.poll_interval_s(config), derived.message_bytes_max(config)))
    return None


def arm(data: bytes) -> object:
    """A fail point by its name."""
    failpoints.arm(text(data))
    failpoints.arm(None)
    return None


def setting_seeds() -> list[bytes]:
    """All settings, with values that they may have."""
    given = {
        "application_id": "app-1",
        "bootstrap_servers": "a:9092,b:9092",
        "skip_records": "in/0/17,in/1/3-9,app-w-repartition/0/5/3,app-w-repartition/0/6/all",
        "checkpoint_store": "s3://bucket/prefix",
    }
    defaults = Config.load(application_id="app").model_dump(exclude={"kafka"})
    return [
        f"{name}={given.get(name, value)}".encode()
        for name, value in defaults.items()
        if value not in (None, ()) or name in given
    ]


@cache
def config() -> Config:
    """Settings of an application; they take a while to make."""
    return Config.load(application_id="app")


class OneRecord(CheckpointTopic):
    """A checkpoints topic that holds one record."""

    def __init__(self, record: Message) -> None:
        kafka = MemoryKafka()
        kafka.create_topic("app-checkpoints", 1)
        super().__init__(config(), admin=MemoryCluster(kafka, "app").admin)
        self._record = record

    def _read(self, _partition: int, _ranges: object) -> Iterator[Message]:
        yield self._record


def chunk(data: bytes) -> object:
    """A chunk of a checkpoint's file."""
    key, value = both(data)
    record = message(value, key=key)
    return OneRecord(record)._content(record, key, "somewhere")


def stray(data: bytes) -> object:
    """What a collection of old files makes of a record's key."""
    return OneRecord(message(b"", key=data)).unknown_files(0, "words_0", [])


TARGETS: dict[str, Target] = {
    "identity": Target(lambda: corpus.seen().identities, decode_identity, (WireCorruptError,)),
    "lineage": Target(lambda: corpus.seen().chunks, decode_lineage, (WireCorruptError,)),
    "marker": Target(lambda: corpus.seen().markers, decode_marker, (WireCorruptError,)),
    "forged marker": Target(
        lambda: [marker[:-4] for marker in corpus.seen().markers], take_marker, (LocatedError,)
    ),
    "frame": Target(
        lambda: corpus.seen().frames,
        lambda data: decode_frame(data, int.from_bytes(data[2:6], "little")),
        (WireCorruptError,),
    ),
    "event": Target(joined, take_frame, (LocatedError,)),
    "record": Target(pairs, lambda data: decode_record(*pair(data)), (WireCorruptError,)),
    "damaged record": Target(
        lambda: [bytes([len(key)]) + key + value for key, value in corpus.seen().lineage],
        lambda data: decode_record(*both(data)),
        (WireCorruptError,),
    ),
    "key": Target(
        lambda: [k for k, _ in corpus.seen().lineage], key_incarnation, (WireCorruptError,)
    ),
    "manifest": Target(pairs, manifest, (WireCorruptError, CheckpointCorruptError)),
    "uri": Target(
        uri_seeds,
        lambda data: (owner_of(text(data)), ChunkUri.parse(text(data))),
        (CheckpointCorruptError,),
    ),
    "program": Target(program_seeds, lambda data: Manifest.decode(text(data)), (WireCorruptError,)),
    "table": Target(corpus.bookmarks, table_of, (WireCorruptError,)),
    "bookmark": Target(
        corpus.bookmarks,
        lambda data: Bookmark.decode("z1;" + base64.b64encode(zlib.compress(data)).decode()),
        (WireCorruptError,),
    ),
    "damaged bookmark": Target(
        lambda: [b"z1;" + base64.b64encode(zlib.compress(data)) for data in corpus.bookmarks()],
        lambda data: Bookmark.decode(text(data)),
        (WireCorruptError,),
    ),
    "chunk": Target(
        lambda: [b"\1k" + with_checksum(b"content")],
        chunk,
        (CheckpointCorruptError,),
    ),
    "stray": Target(lambda: [b"words_0/1600000000000-7/" + b"0" * 32 + b"~ab/17"], stray),
    "committed position": Target(
        corpus.positions, lambda data: CommittedPositions.decode(text(data)), (WireCorruptError,)
    ),
    "assignment": Target(
        lambda: [b"\0\1\0\0\0\1\0\x03lin\0\0\0\2\0\0\0\0\0\0\0\1\xff\xff\xff\xff"],
        lambda data: assigned(data, "lin"),
        (WireCorruptError,),
    ),
    "verify: identity": Target(
        lambda: corpus.seen().identities, formats.identity, (formats.UnreadableError,)
    ),
    "verify: marker": Target(
        lambda: [marker[:-4] for marker in corpus.seen().markers],
        lambda data: formats.fenced(with_checksum(data)),
        (formats.UnreadableError,),
    ),
    "verify: frame": Target(
        lambda: corpus.seen().frames,
        lambda data: formats.check_frame(data, int.from_bytes(data[2:6], "little")),
        (formats.UnreadableError,),
    ),
    "verify: lineage": Target(
        lambda: corpus.seen().chunks, formats.check_chunk, (formats.UnreadableError,)
    ),
    "verify: record": Target(
        pairs, lambda data: formats.lineage_record(*pair(data)), (formats.UnreadableError,)
    ),
    "verify: program": Target(
        program_seeds, lambda data: formats.program(text(data)), (formats.UnreadableError,)
    ),
    "verify: lineage topic": Target(pairs, check_lineage),
    "verify: outputs": Target(joined, check_outputs),
    "cli: records": Target(joined, show),
    "cli: lineage": Target(pairs, show_lineage),
    "cli: escape": Target(joined, lambda data: printable(text(data)).encode()),
    "cli: moment": Target(
        lambda: [b"2026-01-01T00:00Z", b"latest", b"0001-01-01T00:00:00.5+14:00"],
        lambda data: parse_moment(text(data)),
        (ConfigError,),
    ),
    "cli: NAME=VALUE": Target(
        setting_seeds, lambda data: assignments([text(data)], "--set"), (ConfigError,)
    ),
    "folder": Target(metadata_seeds, folder_metadata, (StateError,)),
    "setting": Target(setting_seeds, setting, (ConfigError,), count=80),
    "client setting": Target(
        lambda: [b"message.max.bytes=1000000", b"max.poll.interval.ms=300000", b"batch.size=1"],
        client_setting,
        (ConfigError,),
        count=80,
    ),
    "fail point": Target(
        lambda: [b"sink.append.after:3", b"sink.ack.before"],
        arm,
        (ConfigError,),
    ),
}


class TooLong(BaseException):
    """A decoder goes on for longer than it may."""


def _give_up(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TooLong


@contextmanager
def bounded(data: bytes) -> Iterator[None]:
    """Limit the processor's time and the memory that decoding some bytes may take."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before <= BYTES_MAX + BYTES_PER_BYTE_MAX * len(data)


@pytest.fixture
def _limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory is traced, and the alarm of `bounded` raises."""
    monkeypatch.setattr(f"{__name__}.FOLDER", tmp_path)
    former = signal.signal(signal.SIGVTALRM, _give_up)
    tracemalloc.start()
    yield
    tracemalloc.stop()
    signal.signal(signal.SIGVTALRM, former)


def try_one(target: Target, data: bytes) -> None:
    """Decode; what comes out is a result or one of the errors that are allowed."""
    with bounded(data), suppress(*target.raises):
        target.decode(data)


def shown(data: bytes) -> str:
    """Bytes that repeat a finding, for the report of a failure."""
    return f"{data[:2000]!r} ({len(data)} bytes)"


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("name", TARGETS)
def test_whatever_bytes_come(name: str) -> None:
    """A typed error or a result: seeds first, of which each decodes, then what becomes of them."""
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    for data in seeds:
        target.decode(data)
    rng = random.Random(name)
    found = corpus.mutants(seeds, rng)
    for _ in range(target.count):
        data = next(found)
        try:
            try_one(target, data)
        except BaseException as error:
            raise AssertionError(f"{name}: {error!r} of {shown(data)}") from error


@pytest.mark.prove
@pytest.mark.usefixtures("_limits")
def test_whatever_bytes_come_for_long() -> None:
    """The same with other damage in every run, all targets in turn; a failure prints its bytes."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    streams = {name: corpus.mutants(target.seeds(), rng) for name, target in TARGETS.items()}
    ends = time.monotonic() + LONG_RUN_S
    while time.monotonic() < ends:
        for name, target in TARGETS.items():
            for _ in range(20):
                data = next(streams[name])
                try:
                    try_one(target, data)
                except BaseException as error:
                    raise AssertionError(
                        f"{name}, seed {seed}: {error!r} of {shown(data)}"
                    ) from error


FOUND: list[tuple[str, bytes]] = [
    ("fail point", b"sink.ack.before:" + b"9" * 5000),
    ("fail point", "sink.ack.before:²".encode()),
    ("uri", b"topic:3:0+1000000000:w_3/1-7/" + b"0" * 32),
    ("folder", b"[" * corpus.DEPTH),
    ("folder", b'{"format": ' + b"9" * 5000 + b"}"),
    ("assignment", b"\0\1\0\0\0\1\0\x03lin\x7f\xff\xff\xff"),
    ("assignment", b"\0\1\x7f\xff\xff\xff" + b"\xff\xff\xff\xff" * 9),
    ("assignment", b"\0\1\0\0\0\1\0\x03abc\0\0\0\2\0\0\0\0"),
    ("assignment", b"\0\1\0\0\0\1\0\1\xff\0\0\0\0"),
    ("committed position", b"1;" + b"9" * 30 + b";0:7"),
    ("committed position", b"1;5;0:" + b"9" * 4000),
    ("setting", b"checkpoint_interval_ms=" + b"9" * 400),
    ("setting", b"state_memory_bytes=" + b"9" * 5000),
    ("setting", b"skip_records=in/0/" + b"9" * 30),
    ("client setting", b"message.max.bytes=1.5"),
    ("client setting", b"max.poll.interval.ms=inf"),
]
"""What was a bare error, or memory without a bound, once."""


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize(("name", "data"), FOUND, ids=lambda value: str(value)[:20])
def test_what_was_found(name: str, data: bytes) -> None:
    """Each is refused."""
    with bounded(data), pytest.raises(TARGETS[name].raises):
        TARGETS[name].decode(data)


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("filler", [b" ", b"[", b"0", b'{"offset":5,"table":['])
def test_a_bookmark_that_is_a_bomb(filler: bytes) -> None:
    """A kilobyte that unpacks into gigabytes is refused before it is unpacked."""
    packer = zlib.compressobj(9)
    block = filler * ((1 << 20) // len(filler))
    parts = [packer.compress(block) for _ in range(50)]
    bomb = base64.b64encode(b"".join(parts) + packer.flush()).decode()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with pytest.raises(WireCorruptError):
        Bookmark.decode("z1;" + bomb)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before <= 64 << 20


ANYTHING = st.one_of(
    st.text(),
    st.integers(),
    st.integers(0, 10).map(lambda number: 10**5000 + number),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
)


@given(st.sampled_from(sorted(Config.model_fields)), ANYTHING)
def test_settings_of_any_kind(name: str, value: Any) -> None:
    """A keyword takes it, or says which setting is wrong."""
    with suppress(ConfigError):
        config = Config.load(**({"application_id": "app"} | {name: value}))
        assert repr(config)


@given(
    st.sampled_from([*sorted(Config.model_fields), "kafka__batch_size", "kafka__sasl_password"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.just("9" * 5000),
)
def test_variables_of_any_text(name: str, value: str) -> None:
    """The environment likewise."""
    with pytest.MonkeyPatch.context() as patch, suppress(ConfigError):
        patch.setenv(f"{VARIABLE_PREFIX}{name.upper()}", value)
        assert repr(Config.load(**({} if name == "application_id" else {"application_id": "app"})))

"""CKPTs that kstash cannot have written: none is opened, fetched, deleted or trimmed by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.core.file_names import check_file_name, check_file_names
from kstash.core.ids import Incarnation, TaskId
from kstash.core.lineage import LineageView
from kstash.core.record_codec import decode_record, encode_value
from kstash.core.record_keys import encode_key
from kstash.core.records import Checkpoint, FileEntry, Generation, Start, TaskStart
from kstash.errors import CheckpointCorruptError, WireCorruptError
from kstash.state import RocksBackend
from kstash.testing import TestDriver

GENERATION = 1_700_000_000_000
INC = Incarnation(GENERATION, 1)
DIGEST = "0b" * 16
FOLDER = "count_3"
URI = f"topic:3:7+1:{FOLDER}/{GENERATION}-1/{DIGEST}~ab0"
FILE = FileEntry("000012.sst", 10, DIGEST, URI)


def made(label: str = f"{GENERATION}-1-1", *files: FileEntry, remote: bool = True) -> Checkpoint:
    """A checkpoint of these files."""
    return Checkpoint(
        INC,
        TaskId(1, 3),
        1,
        is_remote=remote,
        position=5,
        label=label,
        files=files,
        input_offsets={},
        sequences={},
        readers={},
        scan_from={},
    )


FORGED_NAMES = {
    "parent folder": "../../../home/me/.ssh/authorized_keys",
    "absolute": "/etc/passwd",
    "a folder below": "sub/1.sst",
    "the folder itself": ".",
    "the folder above": "..",
    "hidden": ".lock",
    "a partial one": ".partial-1",
    "empty": "",
    "a NUL": "1.sst\0",
    "a line end": "1.sst\n2",
    "an escape sequence": "\x1b[2J1.sst",
    "backslash": "..\\1.sst",
    "half a surrogate": "\ud800",
    "longer than a file system takes": "x" * 256,
    "longer in bytes": "ü" * 128,
}
FORGED_FILES = {
    **{f"name: {kind}": replace(FILE, name=name) for kind, name in FORGED_NAMES.items()},
    "size below nothing": replace(FILE, size=-1),
    "size above everything": replace(FILE, size=1 << 60),
    "short digest": replace(FILE, digest="0b"),
    "odd digest": replace(FILE, digest=DIGEST[:-1]),
    "digest of other letters": replace(FILE, digest="../" + DIGEST[3:]),
    "no URI": replace(FILE, uri=""),
    "URI of another group": replace(FILE, uri=URI.replace("count_3", "count_4")),
    "URI in another partition": replace(FILE, uri=URI.replace(":3:", ":4:")),
    "URI of another content": replace(FILE, uri=URI.replace("0b", "0c")),
    "URI above the folder": replace(FILE, uri=f"object:../../{FOLDER}/1-1/{DIGEST}"),
    "URI that goes on": replace(FILE, uri=URI + "/.."),
    "URI of words": replace(FILE, uri="somewhere"),
    "URI without end": replace(FILE, uri="topic:3:" + "7+1," * 400_000 + URI),
}


@pytest.mark.parametrize("file", FORGED_FILES.values(), ids=FORGED_FILES.keys())
def test_a_manifest_is_checked_by_rule(file: FileEntry) -> None:
    """Each kind gives one typed error, and the record does not count for anything."""
    checkpoint = made(f"{GENERATION}-1-1", FILE, file)
    with pytest.raises(CheckpointCorruptError):
        check_file_names(checkpoint)
    view = LineageView(generation_record=(0, Generation(b"n", GENERATION)), claim=1)
    view.fold(5, checkpoint)
    assert view.checkpoints == {}
    assert encode_key(checkpoint) in view.passing  # it is given up with what is void
    view.fold(6, made(f"{GENERATION}-1-2", FILE))
    assert [offset for offset, _ in view.checkpoints[TaskId(1, 3)]] == [6]


@pytest.mark.parametrize("label", FORGED_NAMES.values(), ids=FORGED_NAMES.keys())
def test_a_label_is_a_plain_name(label: str) -> None:
    """It names a folder on the disk."""
    with pytest.raises(CheckpointCorruptError, match="plain file name"):
        check_file_names(made(label, FILE))


def test_a_file_is_named_once() -> None:
    """One of two contents would win."""
    with pytest.raises(CheckpointCorruptError, match="twice"):
        check_file_names(made("1-1-1", FILE, FILE))


@pytest.mark.parametrize(
    "uri",
    [
        URI,
        f"topic:3::{FOLDER}/{GENERATION}-1/{DIGEST}~00ff12",
        f"topic:3:1+2,9+1,12+40:{FOLDER}/1-0/{DIGEST}~ab0",
        f"object:{FOLDER}/{GENERATION}-1/{DIGEST}",
        f"memory:{FOLDER}/{GENERATION}-1/{DIGEST}",
        f"object:Zählung_2_3/{GENERATION}-1/{DIGEST}",
    ],
)
def test_what_kstash_writes_passes(uri: str) -> None:
    """URIs of all stores; a local checkpoint has none."""
    check_file_names(made("1-1-1", replace(FILE, uri=uri)))
    check_file_names(made("1-1-1", replace(FILE, uri=""), remote=False))
    for name in ("CURRENT", "MANIFEST-000005", "OPTIONS-000007", "position", "wörter.table"):
        check_file_name(name)


def test_the_disk_is_guarded_by_the_same_rule(tmp_path: Path) -> None:
    """Whoever asks: the state folder takes plain names only, and the error is typed."""
    backend = RocksBackend(tmp_path, "app", topology_hash="1", memory_bytes=1 << 20)
    try:
        with pytest.raises(CheckpointCorruptError, match="plain"):
            backend.task("s", 0).verify("../../x", [])
        with pytest.raises(CheckpointCorruptError, match="plain"):
            next(iter(backend.task("s", 0).read("1-1-1", "../../../etc/passwd")))
        with pytest.raises(CheckpointCorruptError, match="plain"):
            backend.task("s", 0).adopt(
                "1-1-1", [replace(FILE, name="../../evil")], lambda _: [b"x"]
            )
    finally:
        backend.close()
    assert not list(tmp_path.rglob("evil*"))


FORGED_BODIES: dict[str, Any] = {
    "position": ["5", -1, 1 << 63, True, 1.0, None, [5]],
    "label": [5, None, ["x"], "\ud800"],
    "remote": [1, "yes", None],
    "files": [[["1.sst", 1, DIGEST]], [["1.sst", "1", DIGEST, ""]], {"a": 1}, 7],
    "inputs": [[[0, -1]], [[0, 1, 2]], [["0", 1]], [[0, 1e9]]],
    "sequences": [[[0, 0, -5]], [[0, 0]], 3],
    "scan_from": [[[0, 0, -5]]],
    "timers": [[[-1, 4]], [[2, 1600]], {}, None],
    "readers": [[[0, {"internal": True}]], [[0, {"internal": 1, "inc": [], "seq": [], "end": []}]]],
    "made": [{"since": -1, "position": 0, "outputs": []}, {"since": 0}, []],
}


@pytest.mark.parametrize(
    ("field", "value"), [(f, value) for f, values in FORGED_BODIES.items() for value in values]
)
def test_fields_of_another_type_are_refused(field: str, value: object) -> None:
    """What would be an assertion far away, or a converted value, is one typed error here."""
    import json

    from kstash.core.wire import with_checksum, without_checksum

    record = made("1-1-1", FILE)
    body = json.loads(without_checksum(encode_value(record))[2:])
    assert decode_record(encode_key(record), encode_value(record)) == record
    forged = with_checksum(b"\x01\x09" + json.dumps(body | {field: value}).encode())
    with pytest.raises(WireCorruptError):
        decode_record(encode_key(record), forged)


@pytest.mark.parametrize(
    "parent", [INC, Incarnation(GENERATION, 2), Incarnation(GENERATION + 1, 0)]
)
def test_a_start_does_not_follow_itself(parent: Incarnation) -> None:
    """The chain of STARTs would have no end, and the recovery that walks it neither."""
    start = Start(INC, parent, {1: TaskStart(0, 0, {})}, {})
    with pytest.raises(WireCorruptError, match="its parent is"):
        decode_record(encode_key(start), encode_value(start))


# -- a whole worker ------------------------------------------------------------------------------


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """Words counted, with two remote checkpoints."""
    app = kstash.App("forged")
    app.stream("in", key=kstash.text, value=kstash.text).count("n").to("out", value=kstash.int_text)
    with TestDriver(app) as made_driver:
        for key in "ab":
            made_driver.send("in", "x", key)
            made_driver.advance(20)
        yield made_driver


def newest(driver: TestDriver) -> Checkpoint:
    """The newest remote checkpoint."""
    records = (
        decode_record(message.key(), value)
        for message in driver.kafka.read("forged-lineage", is_committed=False)
        if (value := message.value()) is not None
    )
    return [r for r in records if isinstance(r, Checkpoint) and r.is_remote][-1]


@pytest.mark.parametrize("kind", ["name: parent folder", "name: empty", "odd digest", "no URI"])
@pytest.mark.parametrize("is_same_label", [True, False])
def test_a_recovery_falls_back(driver: TestDriver, kind: str, *, is_same_label: bool) -> None:
    """The forged record is reported with its place, and the one before it is restored."""
    last = newest(driver)
    files = (*last.files[1:], replace(FORGED_FILES[kind], size=last.files[0].size))
    label = last.label if is_same_label else "9-9-9"
    forged = replace(last, files=files, label=label, number=last.number + 1, position=10**9)
    log = driver.kafka.log(("forged-lineage", 0))
    at = log.end_offset
    log.append(encode_key(forged), encode_value(forged), None, driver.clock.time_ms())
    driver.crash()
    driver.rig.backend.lose()
    with capture_logs() as logs:
        driver.recover()
    assert driver.state("n") == {"a": 1, "b": 1}
    told = [e for e in logs if e["event"].startswith("checkpoint record is damaged")]
    assert {(e["topic"], e["partition"], e["offset"]) for e in told} == {("forged-lineage", 0, at)}
    driver.send("in", "x", "a")
    assert [r.value for r in driver.read("out")] == [1, 1, 2]


def test_a_stored_file_is_read_to_its_size_only(driver: TestDriver) -> None:
    """Else a store could fill the disk: it is damaged, and the older checkpoint is the base."""
    uri = newest(driver).files[-1].uri
    driver.store.files[uri] += b"x" * 1_000_000
    driver.crash()
    driver.rig.backend.lose()
    with capture_logs() as logs:
        driver.recover()
    assert driver.state("n") == {"a": 1, "b": 1}
    reasons = [e["reason"] for e in logs if e["event"].startswith("remote checkpoint is damaged")]
    assert len(reasons) == 1
    assert "bytes are stored" in reasons[0]

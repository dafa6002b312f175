"""The limit of open files is raised at the start, watched, and named when it is hit."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import kstash
from kstash.errors import (
    ClusterError,
    KafkaUnavailableError,
    OpenFilesError,
    OperatorError,
    StateError,
)
from kstash.process.open_files import OpenFiles, files_needed, open_count, raise_limit
from kstash.testing import TestDriver
from kstash.testing.clock import ManualClock

SCRIPT = """
import resource, sys
from pathlib import Path
from kstash.errors import OpenFilesError
from kstash.process.open_files import OpenFiles, open_count, raise_limit
from kstash.ports.state import StoreSpec
from kstash.state.rocks import RocksBackend

hard = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))
assert raise_limit() == hard
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
spec = StoreSpec("words", lambda value: b"%d" % value, int)
try:
    with OpenFiles(hard, lambda groups: 0).explained():
        backend = RocksBackend(Path(sys.argv[1]), "app", topology_hash="h", memory_bytes=1 << 20)
        for number in range(100):
            backend.task("count", number).open([spec], base=None)
except OpenFilesError as error:
    print(error)
"""


def short(open_: int, limit: int = 100) -> OpenFiles:
    """A watch over so many open files."""
    return OpenFiles(limit, lambda groups: 10 * groups, count=lambda: open_)


def test_the_soft_limit_is_raised_and_its_end_is_named(tmp_path: Path) -> None:
    """A process that may have 60 files takes them, and says which limit it has hit."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "60"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "of 60 files are open" in run.stdout
    assert "ulimit -n 120" in run.stdout
    assert "Too many open files" in run.stdout
    assert "check the disk" not in run.stdout


def test_a_limit_that_is_high_enough_stays() -> None:
    """Nothing is lowered, and what is returned is what holds."""
    limit = raise_limit()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limit == soft or soft == resource.RLIM_INFINITY
    assert raise_limit() == limit
    count = open_count()
    assert count is None or 3 <= count <= limit


def test_what_groups_need() -> None:
    """Less than was measured for 10, 40 and 100 groups of three stages, and not much less."""
    app = kstash.App("files")
    words = app.stream("in", key=kstash.text, value=kstash.text)
    counts = words.key_by(str, key=kstash.text).count("words")
    counts.key_by(abs, key=kstash.int_text).count("again").to("out", value=kstash.int_text)
    topology = app.topology()
    for groups, measured in ((10, 366), (40, 1316), (100, 3200)):
        wanted = files_needed(groups, topology, has_transactions=True)
        assert 0.9 * measured < wanted <= measured
    assert files_needed(100, topology, has_transactions=False) < 3200 / 2


def test_more_groups_than_files_are_refused() -> None:
    """The error names the limit, what is needed and the command."""
    watch = short(5)
    watch.admit(10)
    with pytest.raises(OpenFilesError, match=r"11 task groups need 110 .* 100 .*`ulimit -n 110`"):
        watch.admit(11)


def test_a_worker_asks_before_it_has_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the number of groups that it was given, and ends when they are too many."""
    app = kstash.App("files")
    app.stream("in", value=kstash.text).to("out")
    with TestDriver(app, partitions=3) as driver:
        worker = driver.rig.worker
        asked: list[int] = []
        monkeypatch.setattr(worker._groups, "_admit", asked.append)
        driver.advance(1)
        assert asked == [3]
        monkeypatch.setattr(worker._groups, "_admitted", 0)
        monkeypatch.setattr(worker._groups, "_admit", short(5, limit=20).admit)
        with pytest.raises(OpenFilesError, match="3 task groups need 30"):
            driver.advance(1)


@pytest.mark.parametrize(
    "error",
    [
        KafkaUnavailableError("no answer"),
        ClusterError("refused"),
        StateError("checkpoint failed; check the disk"),
        OSError(24, "Too many open files"),
    ],
)
def test_what_fails_for_want_of_files_is_explained(error: Exception) -> None:
    """Where nearly all files are open, the error of broker or disk is reported as a consequence."""
    with (
        pytest.raises(OpenFilesError, match=r"95 of 100 files are open.*ulimit -n 200") as caught,
        short(95).explained(),
    ):
        raise error
    assert str(error) in str(caught.value)


def test_other_errors_stay() -> None:
    """User code that fails, and errors while there are files enough, are reported as they are."""
    mistake = OperatorError("map", 0, cause=ValueError("x"))
    with pytest.raises(OperatorError), short(95).explained():
        raise mistake
    with pytest.raises(KafkaUnavailableError), short(5).explained():
        raise KafkaUnavailableError("no answer")


def test_a_shortage_is_reported_once() -> None:
    """At nine tenths of the limit, long before anything fails in ways of its own."""
    clock = ManualClock()
    counts = iter((50, 89, 90, 90, 95, 50, 99))
    watch = OpenFiles(100, lambda _: 0, count=lambda: next(counts), monotonic=clock.monotonic)
    with capture_logs() as logs:
        for _ in range(6):
            watch.check()
            clock.advance(10)
    assert [(line["event"], line["open"]) for line in logs] == [("open files get short", 90)]

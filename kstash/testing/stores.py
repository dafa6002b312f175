"""A checkpoint store in memory: it outlives workers, and fails when a test asks for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from kstash.errors import CheckpointCorruptError, CheckpointStoreError

SCHEME = "memory:"


class MemoryCheckpointStore:
    """`kstash.ports.state.CheckpointStore` in a dict.

    Attributes:
        files: content by URI.
        is_away: every call fails with `CheckpointStoreError`.
        puts: names stored so far, repeats included.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.is_away = False
        self.puts: list[str] = []

    def put(self, group: int, name: str, blocks: Iterable[bytes]) -> str:  # noqa: ARG002 - as the port has it
        """Store one file."""
        content = b"".join(blocks)
        self._check()
        self.puts.append(name)
        self.files[SCHEME + name] = content
        return SCHEME + name

    def get(self, uri: str, size: int) -> Iterator[bytes]:  # noqa: ARG002 - as the port has it
        """Content of a stored file, in two blocks."""
        self._check()
        if uri not in self.files:
            raise CheckpointCorruptError("it is not in the checkpoint store", uri)
        content = self.files[uri]
        yield content[: len(content) // 2]
        yield content[len(content) // 2 :]

    def missing(self, uris: Collection[str]) -> set[str]:
        """Those that are not there."""
        self._check()
        return {uri for uri in uris if uri not in self.files}

    def unknown_files(
        self,
        group: int,  # noqa: ARG002 - as the port has it
        folder: str,
        known: Collection[str],
    ) -> list[tuple[str, str]]:
        """(Name, URI) of what is stored under `<folder>/` and is not among `known`."""
        self._check()
        return [
            (uri.removeprefix(SCHEME), uri)
            for uri in self.files
            if uri.startswith(f"{SCHEME}{folder}/") and uri not in known
        ]

    def delete(self, uris: Collection[str]) -> None:
        """Delete stored files."""
        self._check()
        for uri in uris:
            self.files.pop(uri, None)

    def close(self) -> None:
        """What is stored stays."""

    def corrupt(self, uri: str) -> None:
        """Damage a stored file."""
        self.files[uri] = b"?" + self.files[uri][1:]

    def _check(self) -> None:
        if self.is_away:
            raise CheckpointStoreError("the checkpoint store does not answer")

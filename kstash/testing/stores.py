"""A checkpoint store in memory: it outlives workers, and fails when a test asks for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from kstash.errors import CheckpointCorruptError, CheckpointStoreError

SCHEME = "memory:"


class MemoryCheckpointStore:
    """`kstash.ports.state.CheckpointStore` in a dict.

    Attributes:
        files: content by location.
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

    def get(self, location: str, size: int) -> Iterator[bytes]:  # noqa: ARG002 - as the port has it
        """Content of a stored file, in two blocks."""
        self._check()
        if location not in self.files:
            raise CheckpointCorruptError("it is not in the checkpoint store", location)
        content = self.files[location]
        yield content[: len(content) // 2]
        yield content[len(content) // 2 :]

    def missing(self, locations: Collection[str]) -> set[str]:
        """Those that are not there."""
        self._check()
        return {location for location in locations if location not in self.files}

    def unknown_files(
        self,
        group: int,  # noqa: ARG002 - as the port has it
        folder: str,
        known: Collection[str],
    ) -> list[tuple[str, str]]:
        """(Name, location) of what is stored under `<folder>/` and is not among `known`."""
        self._check()
        return [
            (location.removeprefix(SCHEME), location)
            for location in self.files
            if location.startswith(f"{SCHEME}{folder}/") and location not in known
        ]

    def delete(self, locations: Collection[str]) -> None:
        """Delete stored files."""
        self._check()
        for location in locations:
            self.files.pop(location, None)

    def close(self) -> None:
        """What is stored stays."""

    def corrupt(self, location: str) -> None:
        """Damage a stored file."""
        self.files[location] = b"?" + self.files[location][1:]

    def _check(self) -> None:
        if self.is_away:
            raise CheckpointStoreError("the checkpoint store does not answer")

"""Named places where a crash test may end the process: before and after everything that is written.

`with around("lineage.segment.append"):` encloses one operation. Armed by the environment variable
`KSTASH_FAIL_POINT=<name>.before` or `<name>.after`, with `:<nth>` for a later time than the first,
the process ends there at once: no buffer is flushed, no destructor runs, no other thread goes on.
A point that is not armed costs a function call; there is one for each batch, none for a record.

Not a setting: nothing but a crash test sets it, so `Config` does not know it. `kstash.core` has no
points, since it does nothing that a crash could interrupt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from kstash.errors import ConfigError

VARIABLE = "KSTASH_FAIL_POINT"

EXIT_FAILED = 86
"""Exit code of a process that ended at its point; no other cause gives it."""

_ACK = "it is in the topic; the callback has not run (after: has run)"

POINTS: Mapping[str, str] = {
    "topics.create": "missing topics are created at the first start",
    "folder.metadata.fsync": "the new state folder's metadata is synced",
    "folder.metadata.rename": "it gets its name",
    "folder.metadata.sync": "the folder with that name is synced",
    "lineage.config.append": "CONFIG, the first record of a new lineage partition",
    "lineage.config.ack": _ACK,
    "lineage.claim.append": "CLAIM of a task group",
    "lineage.claim.ack": _ACK,
    "fence.append": "FENCE to one partition of an internal topic",
    "fence.ack": _ACK,
    "sink.initialise": "`init_transactions`, which fences the predecessor's sinks",
    "lineage.seal.append": "SEAL after the fences",
    "lineage.seal.ack": _ACK,
    "lineage.run.append": "RUN of a bounded run",
    "lineage.run.ack": _ACK,
    "lineage.start.append": "START of the incarnation",
    "lineage.start.ack": _ACK,
    "restore.assemble": "a remote checkpoint's files are linked and fetched",
    "state.live.delete": "live files of a predecessor are deleted",
    "state.live.create": "the base's files are linked and copied to the live folder",
    "state.live.open": "RocksDB opens the live folder",
    "frame.append": "the frames of one batch to an internal partition",
    "frame.ack": "the last of them is acknowledged",
    "sink.append": "the records of one batch to a sink's partition",
    "sink.ack": "the last of them is acknowledged",
    "lineage.segment.append": "a segment of lineage",
    "lineage.segment.ack": _ACK,
    "lineage.hint.append": "a HINT",
    "lineage.hint.ack": _ACK,
    "sink.flush": "the records of a transaction are awaited",
    "sink.offsets": "the committed position is sent into the transaction",
    "sink.commit": "the transaction is committed",
    "inputs.commit": "input offsets are committed for lag tools",
    "state.write": "dirty state is written to RocksDB",
    "checkpoint.create": "RocksDB flushes and links its files to a partial checkpoint",
    "checkpoint.fsync": "one of the partial checkpoint's small files is synced",
    "checkpoint.sync": "the folder of the partial checkpoint is synced",
    "checkpoint.rename": "the checkpoint gets its name: it is whole",
    "checkpoint.rename.sync": "the folder with that name is synced",
    "lineage.checkpoint.append": "CKPT, the commit of a checkpoint",
    "lineage.checkpoint.ack": _ACK,
    "upload.put": "a new file of the checkpoint is put into the checkpoint store",
    "upload.delete": "files that no retained checkpoint names are deleted there",
    "checkpoint.delete": "a checkpoint folder that is no longer needed is deleted",
    "lineage.tombstone.append": "a tombstone of lineage that a remote checkpoint covers",
    "internal.purge": "internal topics are purged of what no recovery needs",
    "end.append": "END of a bounded run to an internal partition",
    "end.ack": _ACK,
    "lineage.flush": "lineage is awaited in an orderly stop",
    "lineage.release.append": "RELEASE of the group",
    "lineage.release.ack": _ACK,
    "state.live.close": "live files are deleted as the task is given up",
}
"""Every point, in the order in which an incarnation passes them, with what is done there."""


class _Nothing:
    """Encloses an operation none of whose points is armed."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, *_: object) -> None:
        """Do nothing."""


class _Armed(_Nothing):
    """The one armed point: counts how often it was reached."""

    __slots__ = ("_is_before", "_left", "name", "specification")

    def __init__(self, name: str, *, is_before: bool, nth: int, specification: str) -> None:
        self.name = name
        self.specification = specification
        self._is_before = is_before
        self._left = nth

    def __enter__(self) -> None:
        if self._is_before:
            self._reach()

    def __exit__(self, kind: object, *_: object) -> None:
        if not self._is_before and kind is None:
            self._reach()

    def _reach(self) -> None:
        self._left -= 1
        if not self._left:
            os._exit(EXIT_FAILED)


_NOTHING = _Nothing()
_armed: _Armed | None = None
_COUNT = re.compile(r"(?:0*[1-9][0-9]{0,8})?")


def around(name: str) -> _Nothing:
    """Enclose one operation, as a context manager; its "after" is passed when nothing was raised.

    Args:
        name: one of `POINTS`.
    """
    if _armed is None or _armed.name != name:
        return _NOTHING
    return _armed


def arm(specification: str | None) -> None:
    """Arm the point `<name>.before` or `<name>.after`, with `:<nth>` or not; None disarms.

    Raises:
        ConfigError: there is no such point.
    """
    global _armed
    if specification is None:
        _armed = None
        return
    place, _, nth = specification.partition(":")
    name, _, side = place.rpartition(".")
    is_count = _COUNT.fullmatch(nth) is not None
    if name not in POINTS or side not in ("before", "after") or not is_count:
        raise ConfigError(
            f"{VARIABLE}={specification}: there is no such point; one of "
            "kstash.failpoints.POINTS, followed by .before or .after, and :<nth> or not"
        )
    _armed = _Armed(
        name, is_before=side == "before", nth=int(nth or 1), specification=specification
    )


def armed() -> str | None:
    """What `arm` was given last; None: no point is armed."""
    return None if _armed is None else _armed.specification


arm(os.environ.get(VARIABLE))

"""State folders of an application on this machine, for those who delete them."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from kstash.core.manifest import Manifest
from kstash.errors import StateError, WireCorruptError
from kstash.settings.config import Config
from kstash.state.folder import LOCK_FILE, METADATA_FILE, io_error, open_file, refuse_link


def folders_of(config: Config) -> list[Path]:
    """State folders here, those of supervised workers too; none of them may be in use."""
    parent, name = Path(config.state_dir), quote(config.application_id, safe="")
    found = [parent / name, *sorted(parent.glob(f"worker-*/{name}"))]
    for path in found:
        refuse_link(path)
    found = [path for path in found if path.is_dir()]
    for folder in found:
        _check_unused(folder)
    return found


def _check_unused(folder: Path) -> None:
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise io_error(folder, f"opening {LOCK_FILE}", error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StateError("the folder is in use: stop the worker", str(folder)) from None
    finally:
        os.close(descriptor)


def folder_program(folder: Path) -> Manifest | None:
    """The program that used a state folder last; None where its metadata cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, WireCorruptError):
        with open_file(folder / METADATA_FILE) as file:
            metadata = json.loads(file.read())
        return Manifest.decode(json.dumps(metadata["program"]))
    return None

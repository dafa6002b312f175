"""The files of the status page, which are part of the package (`kstash/observe/page/`)."""

from __future__ import annotations

from importlib.resources import files

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
"""Fixed, since the machine's own types may be wrong, and browsers would refuse the files then."""


def page_files() -> dict[str, tuple[bytes, str]]:
    """Content and type of each file by its name; some hundred kilobytes in all."""
    found: dict[str, tuple[bytes, str]] = {}
    for entry in files("kstash.observe").joinpath("page").iterdir():
        dot, ending = entry.name.rpartition(".")[1:]
        if dot + ending in TYPES:
            found[entry.name] = entry.read_bytes(), TYPES[dot + ending]
    return found

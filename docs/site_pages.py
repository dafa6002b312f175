"""Hooks of mkdocs: pages of the project outside docs/ are on the site too, and links find them.

The documents link to each other as files of the repository, so that they can be read there. Here a
link to a page becomes one to its place on the site; what is no page (a script, a folder, a file of
the chart) is named and not linked, since the site stands without the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "helm/kstash/README.md": "project/chart.md",
    "apps/demo/README.md": "project/apps/demo.md",
    "apps/keyword_count/README.md": "project/apps/keyword_count.md",
    "apps/log_count/README.md": "project/apps/log_count.md",
    "apps/word_count/README.md": "project/apps/word_count.md",
    "README.md": "index.md",
}
"""Where pages of the repository are on the site."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^ *```.*?^ *```|``[^`]+``|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """The pages from outside docs/."""
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def _source(place: str) -> str:
    """Where a page of the site is in the repository."""
    return next((path for path, there in OUTSIDE.items() if there == place), f"docs/{place}")


def _place(path: str) -> str | None:
    """Where a file of the repository is on the site, or None."""
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    return None


def _transitions(found: re.Match[str]) -> str:
    """A drawing of states as a table: drawing it takes a script that is megabytes."""
    names = dict(re.findall(r"^ *(\w+): (.+)$", found[1], re.MULTILINE))
    rows = [
        f"| {names.get(source, source)} | {event} | {effect} | {names.get(target, target)} |"
        for source, target, event, effect in re.findall(
            r"^ *(\w+) --> (\w+): (\w+)(?: / (.+))?$", found[1], re.MULTILINE
        )
    ]
    return "\n".join(["| in | event | effect | then |", "|---|---|---|---|", *rows])


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Links as they are on the site; code is left alone."""
    here = page.file.src_uri
    folder = posixpath.dirname(_source(here))

    def relinked(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        path, anchor_mark, anchor = target.partition("#")
        if not path or re.match(r"\w+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, path))
        place = _place(path)
        if place is None or files.get_file_from_path(place) is None:
            if not (ROOT / path).exists():
                return found[0]  # mkdocs reports it
            return text
        link = posixpath.relpath(place, posixpath.dirname(here) or ".")
        return f"{mark}[{text}]({link}{anchor_mark}{anchor})"

    if here == "reference.md":  # wide tables, and alone in its section
        page.meta["hide"] = ["navigation"]
    markdown = re.sub(r"```mermaid\n(.*?)\n```", _transitions, markdown, flags=re.DOTALL)
    markdown = re.sub(r"^```(\w+) .+$", r"```\1", markdown, flags=re.MULTILINE)  # a test's mark
    parts = CODE.split(markdown)
    whole = "\0".join(part if i % 2 == 0 else f"\1{i}\1" for i, part in enumerate(parts))
    whole = LINK.sub(relinked, whole.replace("\0", ""))
    return re.sub(r"\x01(\d+)\x01", lambda found: parts[int(found[1])], whole)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The theme's script of another host is one of ours (`site.js`)."""
    folders = page.file.dest_uri.count("/")
    return output.replace("https://unpkg.com/iframe-worker/shim", "../" * folders + "site.js")


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """The same for the page of what is not found, which may be shown at any path."""
    return output_content.replace("https://unpkg.com/iframe-worker/shim", "/site.js")

"""The documentation as a site: it builds, its links lead somewhere, it needs no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.chromium import chromium

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "docs").rglob("*.md"))


class Page(HTMLParser):
    """What a page can be linked by, what it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of all elements `id`, `href` and `src` count."""
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if href := found.get("href"):
            (self.links if tag == "a" else self.loads).append(href)
        if src := found.get("src"):
            self.loads.append(src)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: each warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """All pages of the site by their path."""
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def local(pages: dict[Path, Page], site: Path) -> Iterator[tuple[Path, str, Path, str]]:
    """Page, link, file and anchor of each link that stays on the site."""
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            start = site if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            yield path, link, target, unquote(parts.fragment)


def test_each_document_is_a_page(site: Path, pages: dict[Path, Page]) -> None:
    """Those of docs/, and the pages of the project that lie elsewhere."""
    expected = {
        site / path.relative_to(ROOT / "docs").with_suffix(".html")
        for path in SOURCES
        if path.name != "README.md"
    }
    assert expected <= set(pages)
    named = ("index", "internals/decisions/index", "project/security", "project/chart")
    assert {site / f"{name}.html" for name in named} <= set(pages)


def test_links_of_the_site_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    """Each link to a file of the site leads to one, and its anchor to an element there."""
    broken = defaultdict(set)
    for path, link, target, anchor in local(pages, site):
        if target.is_dir():
            target /= "index.html"
        is_there = target.is_file() and target.is_relative_to(site.resolve())
        if not is_there or (anchor and anchor not in pages[target].anchors):
            broken[str(path.relative_to(site))].add(link)
    assert not broken


def test_nothing_of_markdown_is_left(site: Path, pages: dict[Path, Page]) -> None:
    """No fence, table, link or list that the site's parser takes for text."""
    left = defaultdict(set)
    for path in pages:
        article = (
            path.read_text(encoding="utf-8").partition("<article")[2].partition("</article")[0]
        )
        text = re.sub(r"<(pre|code|script).*?</\1>", "", article, flags=re.DOTALL)
        marks = re.findall(
            r"```.*|^\|.*|\]\([\w./#-]+\)|<p>[^<]*\n *(?:[-*]|\d+\.) ", text, re.MULTILINE
        )
        left[str(path.relative_to(site))].update(marks)
    assert not {path: marks for path, marks in left.items() if marks}


def test_no_page_loads_anything_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    """No script, style, font or picture: the site works from a disk."""
    outside = {load for page in pages.values() for load in page.loads if urlsplit(load).netloc}
    assert not outside
    for style in site.rglob("*.css"):
        fetched = re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text())
        assert not fetched, style


def test_the_search_works_from_a_disk(site: Path) -> None:
    """A page that is opened as a file finds a setting, and asks nobody for anything."""
    asked: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "operating" / "running.html").as_uri())
        page.locator(".md-search__input").click()
        page.keyboard.type("sink_commit_interval_ms")
        found = page.locator(".md-search-result__item")
        found.first.wait_for()
        assert "reference.html" in " ".join(
            link.get_attribute("href") or "" for link in found.locator("a").all()
        )
    assert not [url for url in asked if url.startswith(("http:", "https:"))]

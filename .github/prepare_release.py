"""Makes the working tree fit for a release: `prepare_release.py REPOSITORY_URL TAG`.

Checks that tag, version and changelog agree; tells the package where its repository is, and turns
links of the README that lead into the repository into whole ones, as an index shows it elsewhere.
Prints the section of the changelog. No address stands in the repository itself: a fork releases
under its own.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def prepared(root: Path, repository: str, tag: str) -> str:
    """Change README.md and pyproject.toml below a folder; return the notes of the release.

    Raises:
        SystemExit: tag, version and changelog do not agree; says how.
    """
    project = root / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    version = tomllib.loads(text)["project"]["version"]
    if tag != f"v{version}":
        sys.exit(f"the tag is {tag}, and pyproject.toml says {version}: tag v{version}")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(
        rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)\n(.*?)(?=^## |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if found is None:
        sys.exit(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)': name it so")
    blob = f"{repository}/blob/{tag}"
    urls = {
        "Repository": repository,
        "Documentation": f"{blob}/README.md",
        "Changelog": f"{blob}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    project.write_text(f"{text}\n[project.urls]\n{lines}", encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(whole_links(readme.read_text(encoding="utf-8"), repository, tag))
    return found[1].strip() + "\n"


def whole_links(text: str, repository: str, tag: str) -> str:
    """Markdown whose links and pictures do not rest on where it lies."""

    def whole(match: re.Match[str]) -> str:
        mark, label, target = match.groups()
        kind = "raw" if mark else "blob"
        return f"{mark}[{label}]({repository}/{kind}/{tag}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)", whole, text)


if __name__ == "__main__":
    print(prepared(ROOT, *sys.argv[1:]), end="")

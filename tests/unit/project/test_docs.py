"""What the documents say exists: links, files, commands, settings, metrics, log lines, guards."""

from __future__ import annotations

import inspect
import re
import runpy
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from kstash import KeyedStream, Record
from kstash.cli.main import app as command_line
from kstash.observe.catalog import METRIC_PREFIX, METRICS, OF_SUPERVISOR
from kstash.process.seat import EXIT_ORPHANED
from kstash.process.supervisor import EXIT_FENCED
from kstash.settings.config import Config
from kstash.startup.topic_settings import internal_topic_config, lineage_topic_config
from kstash.surface.words import STATE_VERBS
from kstash.testing import OutputRecord, TestDriver
from tests.simulation.mutants import MUTANTS

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
BESIDE = [path for name in ("apps", "benchmarks", "helm") for path in (ROOT / name).rglob("*.md")]
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *BESIDE])
WRAPPED = [page for page in PAGES if page.parent.name != "decisions" or page.name >= "0055"]
"""All but the first records of decisions, which stay as they were written."""
COLUMNS = 100
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
TOPICS = (DOCS / "operating" / "topics.md").read_text(encoding="utf-8")
PROTOCOL = (DOCS / "internals" / "protocol.md").read_text(encoding="utf-8")
GUIDE = (DOCS / "guide.md").read_text(encoding="utf-8")
TESTING = (DOCS / "testing.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

MADE: dict[str, Any] = runpy.run_path(str(DOCS / "make_reference.py"))
"""The script that makes the tables of the reference."""


def name_of(path: Path) -> str:
    """A page's path from the root, for test ids."""
    return str(path.relative_to(ROOT))


def table(page: str, heading: str) -> Iterator[list[str]]:
    """Cells of each row of the tables in one section, heads left out."""
    section = re.split(rf"^#+ {heading}\n", page, flags=re.MULTILINE)[1]
    lines = re.split(r"^#", section, flags=re.MULTILINE)[0].splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not line.startswith("|---") and following[:4] != "|---":
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def anchors(page: Path) -> set[str]:
    """What a page's headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {text.strip().replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project leads to a file, and its anchor to a heading."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(found), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    """A path in backticks that begins with a folder of the project is there."""
    text = page.read_text(encoding="utf-8")
    folders = "kstash|tests|apps|docs|benchmarks|connectors"
    for name in re.findall(rf"`((?:{folders})/[\w./*-]*)(?:::\w+)?`", text):
        if name.startswith("benchmarks/results/"):  # made by a run
            continue
        assert list(ROOT.glob(name.rstrip("/"))), f"there is no {name}"


@pytest.mark.parametrize("page", WRAPPED, ids=name_of)
def test_lines_of_documents_are_short(page: Path) -> None:
    """Prose has 100 columns, as code has; tables, code, headings and pictures are as they are."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]+`", lambda code: code[0].replace(" ", "_"), text)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "#", "!", "    "))]
    long = [line for line in prose if len(line) > COLUMNS and " " in line.strip().lstrip("-> ")]
    assert not long, f"more than {COLUMNS} columns; wrap: {long[0][:60]}…"


def test_the_file_map_is_complete() -> None:
    """Each module of the package's top, each subpackage and each runtime module is on the map."""
    text = (DOCS / "internals" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "kstash"
    modules = [f"kstash/{path.name}" for path in package.glob("*.py")]
    folders = [
        f"{path.parent.relative_to(ROOT)}/"
        for path in package.rglob("__init__.py")
        if path.parent not in (package, package / "runtime")
    ]
    runtime = [path.name for path in (package / "runtime").glob("[a-z]*.py")]
    missing = [name for name in [*modules, *folders, *runtime] if name not in text]
    assert not missing, f"not on the map: {missing}"


def test_every_decision_is_complete_and_listed() -> None:
    """A record has its number, a status and all parts, and stands in the index."""
    index = (DOCS / "internals" / "decisions" / "README.md").read_text(encoding="utf-8")
    records = sorted((DOCS / "internals" / "decisions").glob("[0-9]*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert len(set(numbers)) == len(numbers), "a number is given once; some were never used"
    parts = ["Context", "Decision", "Alternatives", "Consequences", "How tested"]
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        assert re.search(r"^(\*\*Status\*\*|Status): \w", text, re.MULTILINE), path.name
        found = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert [part for part in found if part in parts] == parts, path.name
        assert f"({path.name})" in index, f"{path.name} is not in the index"


# --- the reference, and what is compared with the code elsewhere ---------------------------------


def test_the_reference_is_up_to_date() -> None:
    """Its tables are what the code says now; else run docs/make_reference.py."""
    assert MADE["page"]() == REFERENCE


def test_settings_are_all_there_as_they_are() -> None:
    """The table has every setting, with its default, its range and what it does, and no other."""
    found = list(table(REFERENCE, "Settings"))
    rows = [(f"`{name}`", *MADE["default_and_range"](name)) for name in Config.model_fields]
    assert [tuple(row[:3]) for row in found] == rows
    assert all(row[3] for row in found)


def test_metrics_are_all_there_as_they_are() -> None:
    """The table has every metric, with its type, its labels and its text, and no other."""
    found = [(row[0].strip("`"), row[1], row[3]) for row in table(REFERENCE, "Metrics")]
    ends = {"counter": "_total"}
    assert found == [
        (f"{METRIC_PREFIX}{spec.name}{ends.get(spec.kind, '')}", spec.kind, spec.text.rstrip("."))
        for spec in (*METRICS, *OF_SUPERVISOR)
    ]


def test_topic_settings_are_all_there() -> None:
    """Every setting that kstash gives its topics is listed with its value."""
    for config in (lineage_topic_config(), internal_topic_config()):
        for name, value in config.items():
            assert f"`{name}={value}`" in TOPICS, f"{name}={value} is not listed"


def test_exit_codes_are_listed() -> None:
    """The table of exit codes has those of a worker that lost its membership, or its supervisor."""
    codes = [row[0] for row in table(REFERENCE, "Exit codes")]
    assert codes == ["0", "1", "2", str(EXIT_FENCED), str(EXIT_ORPHANED), "130, 143"]


def test_commands_are_listed() -> None:
    """The table of commands has each that there is, and no other, with its options."""
    found: dict[str, Any] = {}
    groups: list[tuple[str, Any]] = [("", get_command(command_line))]
    for prefix, group in groups:
        for word, command in group.commands.items():
            if hasattr(command, "commands"):
                groups.append((f"{word} ", command))
            else:
                found[prefix + word] = {o for p in command.params for o in p.opts}
    listed = {row[0].strip("`"): row[2] for row in table(REFERENCE, "Command line")}
    assert set(listed) == set(found)
    for name, shown in listed.items():
        for option in ("--json", "--dry-run", "--once"):
            assert (option in shown) == (option in found[name]), f"{name} {option}"


def test_log_lines_are_explained() -> None:
    """Each line that a worker may log stands in the table with what it means, and no other."""
    found = list(table(REFERENCE, "Log lines"))
    assert {row[0].strip("`") for row in found} == set(MADE["log_lines"]())
    assert all(row[2] for row in found)


def calls(cell: str) -> list[tuple[str, list[str]]]:
    """(function, names of its arguments) of each call in backticks."""
    return [
        (
            name,
            [part.partition("=")[0].strip(" *") for part in re.split(r",(?: \*,)?", inner) if part],
        )
        for name, inner in re.findall(r"`(\w+)\(([^`()]*)\)`", cell)
    ]


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of a method's arguments."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_verbs_are_called_as_they_are() -> None:
    """The tables of the guide have their arguments by name and in order; each of state is there."""
    shown: set[str] = set()
    for heading in ("One record at a time", "State"):
        for row in table(GUIDE, heading):
            for name, arguments in calls(row[0]):
                known = parameters(getattr(KeyedStream, name))
                is_whole = name != "key_by"  # of which one argument is meant
                assert arguments == (known if is_whole else known[: len(arguments)]), name
                shown.add(name)
            for name, arguments in calls(row[1]):
                if name == "Record":
                    assert arguments == list(Record.__annotations__)
    assert shown >= STATE_VERBS
    there = " ".join(row[0] for row in table(README, "What is there, and what is not"))
    assert set(re.findall(r"\w+", there)) >= STATE_VERBS


def test_calls_of_the_test_driver_are_as_they_are() -> None:
    """The table has each, with its arguments, and all that an output record has."""
    rows = list(table(TESTING, "`TestDriver`"))
    shown = {name: arguments for row in rows for name, arguments in calls(row[0])}
    known = {name: getattr(TestDriver, name) for name in vars(TestDriver) if name[0] != "_"}
    known = {name: each for name, each in known.items() if callable(each)}
    assert shown == {name: parameters(function) for name, function in known.items()}
    (read,) = [row[1] for row in rows if row[0].startswith("`read(")]
    assert set(re.findall(r"`(\w+)`", read)) - {"read", "advance"} == {
        field.name for field in fields(OutputRecord)
    }


# --- the protocol -------------------------------------------------------------------------------


def holes() -> dict[str, str]:
    """What guards each hole, by its number."""
    headings = ("9. Holes, and the rule that closes each", "Found by attacking it")
    rows = [row for heading in headings for row in table(PROTOCOL, heading)]
    return {number: guard for number, _, _, guard in rows}


def test_all_holes_are_listed_and_every_mutant_named() -> None:
    """H1 to H40 and later ones stand there in order; those that the simulator removes say so."""
    guards = holes()
    numbers = [int(hole.removeprefix("H")) for hole in guards]
    assert numbers[:40] == list(range(1, 41))
    assert numbers == sorted(numbers)
    removed = {re.sub(r"[a-z]$", "", mutant.hole) for mutant in MUTANTS}
    holes_removed = {hole for hole in removed if hole.startswith("H")}
    assert {hole for hole, guard in guards.items() if "mutant" in guard} == holes_removed
    found = {number for number, _, _ in table(PROTOCOL, "Found by this project's simulator")}
    assert found == removed - holes_removed


@pytest.mark.parametrize(("hole", "guard"), holes().items(), ids=list(holes()))
def test_guards_of_holes_exist(hole: str, guard: str) -> None:
    """A named test function exists; a test file that is named whole mentions the hole."""
    for path, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", guard):
        text = (ROOT / path).read_text(encoding="utf-8")
        if function:
            assert f"def {function}(" in text, f"{path} has no {function}"
        else:
            assert re.search(rf"\b{hole}\b", text), f"{path} says nothing of {hole}"
    assert guard, f"nothing guards {hole}"


def test_sections_that_code_cites_exist() -> None:
    """Code that names a section of the protocol finds it."""
    for path in sorted((ROOT / "kstash").rglob("*.py")):
        for number in re.findall(r"[Pp]rotocol, section (\d+)", path.read_text(encoding="utf-8")):
            assert f"\n## {number}. " in PROTOCOL, f"{path}: no section {number}"


# --- commands and programs ----------------------------------------------------------------------


def commands() -> list[tuple[str, str]]:
    """(page, command) of each line after a `$` in a console block."""
    return [
        (name_of(page), line[2:].split("#")[0].strip())
        for page in PAGES
        for block in re.findall(
            r"^```console\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        for line in re.sub(r"\\\n\s*", "", block).splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_exist(page: str, command: str) -> None:
    """A documented command is a target of the Makefile, or a `kstash` command with its options."""
    words = [word for word in command.rstrip(" &").split() if "=" not in word or "-" in word[:2]]
    program, *arguments = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), f"{page}: {command}"
        return
    options = set(re.findall(r"(?<= )--?[a-z][a-z-]*", command))
    known: set[str] = set()
    if program.endswith("kstash"):
        group: Any = get_command(command_line)
        for word in arguments:
            if word in getattr(group, "commands", {}):
                group = group.commands[word]
        known = {option for parameter in group.params for option in parameter.opts}
        assert not hasattr(group, "commands"), f"{page}: {command} names no command"
    elif "-m" in arguments and arguments[1].startswith("kstash.apps."):
        assert (ROOT / "apps" / arguments[1].split(".")[2]).is_dir(), f"{page}: {command}"
        known = {"-m", *re.findall(r"--[a-z-]+", (ROOT / "apps/options.py").read_text())}
        known |= {p.replace("_", "-") for p in map("--{}".format, Config.model_fields)}
        known |= {"--keyword", "--until"}
    else:
        return
    assert options <= known, f"{page}: {command}: unknown {options - known}"


def test_the_programs_of_the_readme_run() -> None:
    """The Python blocks run in one namespace; the program then counts what it is sent."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    with TestDriver(namespace["app"]) as driver:
        driver.send("sentences", "to be or not to be")
        counts = [(record.key, record.value) for record in driver.read("word-counts")]
    assert counts[-2:] == [("to", 2), ("be", 2)]


def test_the_glossary_has_each_word_once() -> None:
    """One word, one meaning."""
    rows = re.findall(r"^\| ([^|]+) \|", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    words = [word for row in rows if row != "word" for word in row.split(", ")]
    assert len(words) > 50
    assert sorted(set(words)) == sorted(words)

"""The alert rules: each is valid, fires when it should and only then, and has its section."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.promql import asked, check_expression, exposed, grouped, promtool

ROOT = Path(__file__).parents[3]
RULES = ROOT / "helm" / "kstash" / "files" / "alerts.yaml"
PROMTOOL_S_MAX = 600
"""It takes a second; on a machine that runs everything else at once, a minute and more."""
CASES = ROOT / "deploy" / "prometheus" / "alerts_test.yaml"
RUNBOOK = ROOT / "docs/operating/runbook.md"

Rule = dict[str, Any]


def rules() -> list[Rule]:
    """All alert rules."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules()}


def sections() -> dict[str, str]:
    """Sections of the runbook by what they are linked by."""
    text = RUNBOOK.read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip((name.lower() for name in parts[::2]), parts[1::2], strict=True))


def run_cases(folder: Path, text: str, name: str = "") -> subprocess.CompletedProcess[str]:
    """`promtool test rules` with other rules in the place of ours, for the cases of one alert."""
    (folder / "alerts.yaml").write_text(text, encoding="utf-8")
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    cases["tests"] = [test for test in cases["tests"] if name in test["name"]]
    cases["rule_files"] = ["alerts.yaml"]
    (folder / "cases.yaml").write_text(yaml.safe_dump(cases), encoding="utf-8")
    return subprocess.run(
        [promtool(), "test", "rules", "cases.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PROMTOOL_S_MAX,
        check=False,
    )


def test_each_alert_is_there_once() -> None:
    """Names are unique, and say whose they are."""
    assert len(rules()) == len(ALERTS)
    assert all(re.fullmatch(r"Kstash[A-Za-z]+", name) for name in ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_must(name: str) -> None:
    """Severity, summary, description, and a runbook section with what to do and what not."""
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = notes["runbook_url"].partition("#")
    assert ROOT / page == RUNBOOK
    section = sections()[anchor]
    assert name in section or name.lower() == anchor, "the section names the alert"
    for part in ("**Means**", "**Check**", "**Mend**", "**Do not**"):
        assert part in section, f"{anchor}: {part} is missing"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_what_is_exposed(name: str) -> None:
    """Every metric of its expression is one of ours or the client library's, with these labels."""
    check_expression(ALERTS[name]["expr"])


@pytest.mark.parametrize("name", ALERTS)
def test_texts_use_labels_that_the_alert_has(name: str) -> None:
    """A label that the expression has grouped away would be empty in the message."""
    rule = ALERTS[name]
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = grouped(rule["expr"])
    if any(metric == "up" for metric, _ in asked(rule["expr"])):
        kept |= {"job", "instance", "worker"}
    assert used <= kept, used - kept


def test_runbook_names_metrics_that_exist() -> None:
    """Queries of the runbook are of metrics that are exposed."""
    text = RUNBOOK.read_text(encoding="utf-8")
    for code in re.findall(r"`([^`]+)`", text):
        if re.fullmatch(r"(kstash|process|python)_\w+", code):
            assert {code, f"{code}_count", f"{code}_bucket"} & exposed().keys(), code
        elif re.match(r"(rate\(|deriv\()?(kstash|process|python)_\w+", code):
            check_expression(code)


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_cases_of_both_kinds(name: str) -> None:
    """One in which it fires, one in which it is silent; their names say of which alert they are."""
    tests = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    names = [test["name"] for test in tests]
    assert any(re.match(rf".*\b{name}\b.* (fires|after it)", text) for text in names)
    assert any(re.match(rf".*\b{name}\b.* (is|are) silent", text) for text in names) or any(
        re.match(rf"{name} fires .* and for no other", text) for text in names
    )


def test_the_rules_pass_their_cases(tmp_path: Path) -> None:
    """`promtool check rules` and `promtool test rules` find nothing."""
    text = RULES.read_text(encoding="utf-8")
    checked = subprocess.run(
        [promtool(), "check", "rules", RULES],
        capture_output=True,
        text=True,
        timeout=PROMTOOL_S_MAX,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = run_cases(tmp_path, text)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.prove
@pytest.mark.parametrize("name", ALERTS)
def test_the_cases_miss_an_alert_that_is_gone(name: str, tmp_path: Path) -> None:
    """Each alert's cases fail without it, and when it fires whatever there is."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: install the package prometheus")
    text = RULES.read_text(encoding="utf-8")
    without = yaml.safe_load(text)
    always = yaml.safe_load(text)
    for rule in without["groups"][0]["rules"]:
        if rule["alert"] == name:
            rule["expr"] = "vector(1) > 2"
    assert run_cases(tmp_path, yaml.safe_dump(without), name).returncode != 0
    for rule in always["groups"][0]["rules"]:
        if rule["alert"] == name:
            rule["expr"] = "vector(1)"
    assert run_cases(tmp_path, yaml.safe_dump(always), name).returncode != 0

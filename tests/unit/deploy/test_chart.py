"""The chart as Helm renders it, in six sets of values and with every switch the other way round.

Each object is checked against the schemas of Kubernetes and of the operators. The tools are built
by `make chart`; without them these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.make_chart import CHART, default
from deploy.values import VALUES
from kstash.settings.config import Config

pytestmark = pytest.mark.prove

SETS = sorted((CHART / "ci").glob("*-values.yaml"))
KUBERNETES = ("1.27.0", "1.37.0")
"""The oldest that Chart.yaml lets in, and the newest that there are schemas for."""

CUSTOM = ("PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject")

NEEDED = {
    "autoscaling.enabled": (
        "partitions=4",
        "metrics.monitor=pod",
        "autoscaling.prometheusAddress=http://prometheus",
    ),
    "drain.enabled": ("replicaCount=0",),
    "cleanup.enabled": ("replicaCount=0", "applicationId=shop"),
    "cleanup.dryRun": ("replicaCount=0", "applicationId=shop", "cleanup.enabled=true"),
    "networkPolicy.egress.enabled": ("networkPolicy.egress.extra[0].ports[0].port=443",),
    "serviceAccount.create": ("serviceAccount.name=shop",),
}
"""What a switch needs beside it."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tools:
    """What `make chart` has built.

    Attributes:
        folder: where.
        schemas: of Kubernetes, by version, as kubeconform takes them.
    """

    folder: Path
    schemas: Path

    def run(self, name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of them."""
        return subprocess.run(
            [self.folder / "bin" / name, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def render(self, *arguments: str | Path, version: str = KUBERNETES[-1]) -> str:
        """The objects of a release `shop` in the namespace `shops`, as YAML.

        Raises:
            AssertionError: Helm refused, with what it said.
        """
        named = ("template", "shop", CHART, "--namespace", "shops", "--kube-version", version)
        done = self.run("helm", *named, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(self, *arguments: str | Path) -> dict[tuple[str, str], Object]:
        """What is rendered, by kind and name."""
        text = self.render(*arguments)
        found = [item for item in yaml.safe_load_all(text) if item is not None]
        return {(item["kind"], item["metadata"]["name"]): item for item in found}

    def refusal(self, *arguments: str) -> str:
        """What Helm says of values that it refuses."""
        with pytest.raises(AssertionError) as caught:
            self.render(*arguments)
        return str(caught.value)


def _kubernetes_schemas(target: Path) -> None:
    """Copies of what kubernetes-validate ships, with references that lead to the file beside."""
    package = pytest.importorskip("kubernetes_validate")
    for version in KUBERNETES:
        source = (
            Path(package.__file__).parent / "kubernetes-json-schema" / f"v{version}-local-strict"
        )
        (target / version).mkdir()
        for path in source.glob("*.json"):
            text = path.read_text(encoding="utf-8")
            schema = json.loads(text.replace('"/api/_definitions.json#', '"_definitions.json#'))
            schema.pop("$id", None)  # references would be fetched from a website
            (target / version / path.name).write_text(json.dumps(schema), encoding="utf-8")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """The tools; skipped where nobody has built them, but not in CI on a machine that could."""
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    folder = Path(os.environ.get("KSTASH_TOOLS", f"{cache}/kstash/chart-tools"))
    names = ("helm", "kubeconform", "kube-score", "helm-unittest")
    if not all((folder / "bin" / name).exists() for name in names):
        assert os.environ.get("CI") != "true" or not shutil.which("go"), "run: make chart"
        pytest.skip("helm and its kin are missing: make chart builds them, and needs Go")
    schemas = tmp_path_factory.mktemp("schemas")
    _kubernetes_schemas(schemas)
    return Tools(folder, schemas)


def switches() -> Iterator[tuple[str, ...]]:
    """Every switch the other way round, and every other choice, each with what it needs."""
    for value in VALUES:
        now = default(value.path)
        if value.schema.get("type") == "boolean":
            others = [str(not now).lower()]
        else:
            others = [choice for choice in value.schema.get("enum", []) if choice != now]
        for other in others:
            yield (f"{value.path}={other}", *NEEDED.get(value.path, ()))


def _conform(tools: Tools, folder: Path, version: str) -> None:
    """All files of a folder are objects that Kubernetes takes, and the operators."""
    done = tools.run(
        "kubeconform",
        "-strict",
        "-schema-location",
        f"{tools.schemas / version}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json",
        "-skip",
        ",".join(CUSTOM),
        *sorted(folder.iterdir()),
    )
    assert done.returncode == 0, done.stdout
    objects = [
        item
        for path in sorted(folder.iterdir())
        for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if item is not None and item["kind"] in CUSTOM
    ]
    checked = _check_custom(tools, objects)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _check_custom(tools: Tools, objects: list[Object]) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    if node is None or not (tools.folder / "node_modules").exists():
        pytest.skip("Node is missing: custom objects are not checked")
    return subprocess.run(
        [node, CHART.parents[1] / "deploy" / "check_crds.mjs", tools.folder],
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("path", [None, *SETS], ids=lambda path: path.name if path else "defaults")
def test_helm_lints_nothing(tools: Tools, path: Path | None) -> None:
    """Strictly, with the defaults and with each set."""
    values: list[str | Path] = [] if path is None else ["--values", path]
    done = tools.run("helm", "lint", "--strict", "--kube-version", KUBERNETES[-1], CHART, *values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_object_is_noticed(tools: Tools, tmp_path: Path) -> None:
    """The checks above would see it: of each kind of schema, one fault."""
    (tmp_path / "service.yaml").write_text(
        tools.render().replace("publishNotReadyAddresses: true", "publishNotReadyAddresses: often")
    )
    with pytest.raises(AssertionError, match="publishNotReadyAddresses"):
        _conform(tools, tmp_path, KUBERNETES[-1])
    sets: list[tuple[str, ...]] = [
        ("metrics.monitor=pod",),
        ("metrics.monitor=service",),
        ("prometheusRule.enabled=true",),
    ]
    sets.append(("autoscaling.enabled=true", *NEEDED["autoscaling.enabled"]))
    for kind, switch in zip(CUSTOM, sets, strict=True):
        (broken,) = [o for (k, _), o in tools.objects(*_set(switch)).items() if k == kind]
        assert _check_custom(tools, [broken]).returncode == 0
        del broken["spec"][
            {"PrometheusRule": "groups", "ScaledObject": "triggers"}.get(kind, "selector")
        ]
        broken["spec"]["groups"] = "none"
        found = _check_custom(tools, [broken])
        assert (found.returncode, found.stdout[: len(kind)]) == (1, kind), found.stderr


@pytest.mark.parametrize("version", KUBERNETES)
def test_each_set_is_what_kubernetes_takes(tools: Tools, version: str, tmp_path: Path) -> None:
    """In the oldest and in the newest version."""
    assert len(SETS) == 6
    for path in SETS:
        text = tools.render("--values", path, version=version)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    _conform(tools, tmp_path, version)


def test_each_switch_is_what_kubernetes_takes(tools: Tools, tmp_path: Path) -> None:
    """One after the other, the other way round; and each one makes a difference."""
    plain = {needed: tools.render(*_set(needed)) for needed in {(), *(s[1:] for s in switches())}}
    for number, switch in enumerate(switches()):
        text = tools.render(*_set(switch))
        changed = text != plain[switch[1:]]
        # Of an object that is not there by default a choice is seen in the sets.
        assert changed or not default(switch[0].split("=")[0].split(".")[0]), switch
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
    _conform(tools, tmp_path, KUBERNETES[-1])


def _set(values: tuple[str, ...]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def test_kube_score_finds_nothing(tools: Tools, tmp_path: Path) -> None:
    """Of an application as it should be run in production."""
    file = tmp_path / "production.yaml"
    file.write_text(tools.render("--values", CHART / "ci" / "production-values.yaml"))
    done = tools.run("kube-score", "score", "--kubernetes-version", "v1.34", file)
    assert done.returncode == 0, done.stdout


def test_the_chart_passes_its_own_tests(tools: Tools) -> None:
    """The suites in helm/kstash/tests, by helm-unittest."""
    done = tools.run("helm-unittest", CHART)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed" not in done.stdout.replace("0 failed", "")


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.name)
def test_a_worker_is_given_settings_that_exist(tools: Tools, path: Path) -> None:
    """Each variable of ours is a setting; a secret is in none but by reference."""
    for (kind, _), item in tools.objects("--values", path).items():
        if kind not in ("StatefulSet", "Job"):
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                name = variable["name"]
                if name.startswith("KSTASH_KAFKA__"):
                    assert "PASSWORD" not in name or name.endswith("_FILE")
                elif name.startswith("KSTASH_"):
                    setting = name.removeprefix("KSTASH_").removesuffix("_FILE").lower()
                    assert setting in Config.model_fields, name
                    assert setting != "http_token" or name.endswith("_FILE")


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.name)
def test_mounts_have_volumes_and_each_file_is_mounted(tools: Tools, path: Path) -> None:
    """What a variable names as a file lies below a mount, and each mount has its volume."""
    for (kind, _), item in tools.objects("--values", path).items():
        if kind not in ("StatefulSet", "Job"):
            continue
        pod = item["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {v["metadata"]["name"] for v in item["spec"].get("volumeClaimTemplates", [])}
        worker = pod["containers"][0]
        mounts = {mount["mountPath"] for mount in worker["volumeMounts"]}
        assert {mount["name"] for mount in worker["volumeMounts"]} == volumes
        for variable in worker["env"]:
            value = str(variable.get("value", ""))
            if value.startswith("/run/"):
                assert str(Path(value).parent) in mounts, variable

"""docker-compose.yml, and what Prometheus and Grafana are given in it."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import load
from deploy.make_dashboard import TARGET
from kstash.broker.jars import KAFKA_VERSION
from kstash.process.supervisor import STOP_GRACE_S
from kstash.settings.config import Config
from tests.unit.deploy_files import ROOT, VARIABLES, compose, services, stages
from tests.unit.promql import promtool

PROMETHEUS = ROOT / "deploy" / "prometheus" / "prometheus.yml"
GRAFANA = ROOT / "deploy" / "grafana" / "provisioning"
WORKERS = ("worker-1", "worker-2")


def mounts(service: str) -> dict[str, str]:
    """Files and folders of the project that a service sees, by their place there."""
    found = {}
    for volume in services()[service].get("volumes", []):
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            found[target] = source
    return found


def test_it_follows_the_specification() -> None:
    """The JSON schema of the compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    found = subprocess.run(
        [*command, ROOT / "docker-compose.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_kafka_can_be_had_alone() -> None:
    """`docker compose up -d kafka` starts nothing else, and is reached from this machine."""
    kafka = services()["kafka"]
    assert "depends_on" not in kafka
    assert "PLAINTEXT://localhost:9092" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.parametrize("name", services())
def test_a_service_is_for_this_machine_and_of_a_fixed_version(name: str) -> None:
    """Ports are bound to 127.0.0.1; images have a version, but for our own."""
    service = services()[name]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert service.get("build") or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    for source in mounts(name).values():
        assert (ROOT / source).exists(), source


@pytest.mark.parametrize("name", services())
def test_settings_are_settings(name: str) -> None:
    """A variable that no setting has would end the start."""
    for variable in services()[name].get("environment", {}):
        if variable.startswith(VARIABLES):
            assert variable.removeprefix(VARIABLES).lower() in Config.model_fields, variable


def test_workers_have_names_and_folders_of_their_own() -> None:
    """A restart under the same name has its tasks back at once."""
    workers = [services()[name] for name in WORKERS]
    assert [w["environment"]["KSTASH_INSTANCE_ID"] for w in workers] == list(WORKERS)
    state = stages()[-1].environment()["KSTASH_STATE_DIR"]
    assert [w["volumes"] for w in workers] == [[f"{name}:{state}"] for name in WORKERS]
    assert set(WORKERS) <= compose()["volumes"].keys()


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_has_time_to_stop(name: str) -> None:
    """A kill comes after the orderly stop had its time; nothing is needed but the volume."""
    worker = services()[name]
    grace = float(worker["stop_grace_period"].removesuffix("s"))
    timeout = Config.model_fields["shutdown_timeout_ms"].default
    assert grace > timeout / 1000 + STOP_GRACE_S
    assert worker["read_only"]
    assert worker["cap_drop"] == ["ALL"]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """Nothing is wrong; the workers are services of the file, on the image's port."""
    config = yaml.safe_load(PROMETHEUS.read_text("utf-8"))
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"{name}:{stages()[-1].last('EXPOSE')}" for name in WORKERS]
    found = mounts("prometheus")
    assert found["/etc/prometheus/prometheus.yml"] == "./deploy/prometheus/prometheus.yml"
    config["rule_files"] = [str(ROOT / found[path]) for path in config["rule_files"]]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    checked = subprocess.run(
        [promtool(), "check", "config", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_grafana_finds_source_and_dashboard() -> None:
    """The folder that it reads is where the dashboard is mounted, and Prometheus is there."""
    provider = yaml.safe_load((GRAFANA / "dashboards" / "kstash.yaml").read_text("utf-8"))
    folder = provider["providers"][0]["options"]["path"]
    found = mounts("grafana")
    boards = {p: s for p, s in found.items() if p.startswith(f"{folder}/")}
    assert [(ROOT / source).resolve() for source in boards.values()] == [TARGET]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert [home] == list(boards)
    sources = yaml.safe_load((GRAFANA / "datasources" / "prometheus.yaml").read_text("utf-8"))
    (source,) = sources["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    kinds = json.loads(TARGET.read_text("utf-8"))["templating"]["list"][0]["query"]
    assert source["type"] == kinds == "prometheus"


def test_the_load_is_even() -> None:
    """As many lines as the time that has passed asks for, and no burst after a pause."""
    assert load.due(1.0, rate=500, sent=0) == 500
    assert load.due(1.0, rate=500, sent=480) == 20
    assert load.due(1.0, rate=500, sent=600) == 0
    assert load.due(3600.0, rate=500, sent=0) == 1000
    some = list(itertools.islice(load.lines(), 20_000))
    assert all(line.strip() for line in some)
    assert len(set(some)) < len(some), "the book begins again"

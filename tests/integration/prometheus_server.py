"""A real Prometheus for a test: scrapes every two seconds; the alert rules with shorter times."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.chaos.harness import wait_until

START_S_MAX = 60.0
ALERT_S_MAX = 120.0

WINDOWS = {
    "30m:30s": "40s:1s",
    "30m": "40s",
    "10m": "15s",
    "15m": "20s",
    "5m": "10s",
    "2m": "5s",
    "1d": "1d",
}
"""Ranges of the rules, and what a test takes in their place."""

SHORTER = 15.0
LEAST_S = 2.0
"""Bounds in seconds are that many times smaller, but not below this: the machine is shared."""


def shortened(rules: str) -> dict[str, Any]:
    """The alert rules with a `for` of four seconds, and shorter ranges and bounds."""
    found: dict[str, Any] = yaml.safe_load(rules)
    for rule in found["groups"][0]["rules"]:
        if "for" in rule:
            rule["for"] = "4s"
        expression = re.sub(r"\[([\w:]+)\]", lambda match: f"[{WINDOWS[match[1]]}]", rule["expr"])
        if "_seconds)" in expression and "changes(process" not in expression:
            expression = re.sub(
                r"> (\d{2,})",
                lambda match: f"> {max(LEAST_S, int(match[1]) / SHORTER):g}",
                expression,
            )
        rule["expr"] = expression
    return found


class Prometheus:
    """A context manager: the process, and what it answers.

    Args:
        folder: for its configuration and data.
        port: where it listens, on this machine.
        targets: addresses to scrape, by job.
        rules: alert rules.
    """

    def __init__(
        self, folder: Path, port: int, targets: Mapping[str, list[str]], rules: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        config = {
            "global": {
                "scrape_interval": "2s",
                "scrape_timeout": "2s",
                "evaluation_interval": "1s",
            },
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": addresses}]}
                for job, addresses in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        program = shutil.which("prometheus")
        assert program is not None
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, START_S_MAX, "Prometheus answers")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()[-2000:]
        try:
            return self.query("vector(1)") != []
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP API."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series of an expression as of now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def has_had(self, expression: str, since: float, until: float) -> bool:
        """Whether an expression has given anything between two Unix times, in steps of 2 s."""
        span = {"start": f"{since:.3f}", "end": f"{until:.3f}", "step": "2"}
        return bool(self.ask("query_range", query=expression, **span)["result"])

    def firing(self) -> set[tuple[str, str]]:
        """Alerts that are raised now, each with the instance that it is about."""
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def wait_firing(self, name: str, instance: str = "") -> None:
        """Wait until an alert is raised, about that instance where one is named."""
        wait_until(
            lambda: any(n == name and instance in ("", i) for n, i in self.firing()),
            ALERT_S_MAX,
            f"{name} is raised",
        )

    def wait_scraped(self, addresses: Collection[str]) -> None:
        """Wait until these answer and have been scraped once since they began.

        An alert about one that is gone is raised only where it was seen while it was there.
        """
        seen = "kstash_build_info and on (instance) (up == 1)"
        wait_until(
            lambda: set(addresses) <= {s["metric"]["instance"] for s in self.query(seen)},
            ALERT_S_MAX,
            "a scrape of each worker",
        )

    def wait_quiet(self) -> None:
        """Wait until no alert is raised."""

        def is_quiet() -> bool:
            return not self.firing()

        try:
            wait_until(is_quiet, ALERT_S_MAX, "all alerts are cleared")
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(self.firing())}") from None

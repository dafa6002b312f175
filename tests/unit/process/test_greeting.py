"""What a worker says first."""

from __future__ import annotations

import platform
from typing import Any

import confluent_kafka
import pytest
from structlog.testing import capture_logs

import kstash
from kstash import failpoints
from kstash.process.greeting import greet
from kstash.settings.config import Config


def _lines(*, workers: int | None = None, **settings: Any) -> list[dict[str, Any]]:
    config = Config.load(application_id="hello", **settings)
    with capture_logs() as lines:
        greet(config, workers=workers)
    return [dict(line) for line in lines]


def test_it_says_what_runs_and_where() -> None:
    """Application, version, guarantee, brokers, folder, name, and what it runs on."""
    (line,) = _lines(
        guarantee="write_first",
        bootstrap_servers="one:1,two:2",
        state_dir="/state",
        instance_id="a",
    )
    assert line["event"] == "starting"
    assert (line["application"], line["guarantee"]) == ("hello", "write_first")
    assert (line["brokers"], line["state_dir"], line["instance_id"]) == (
        "one:1,two:2",
        "/state",
        "a",
    )
    assert (line["kstash"], line["python"]) == (kstash.__version__, platform.python_version())
    assert confluent_kafka.__version__ in line["client"]
    assert confluent_kafka.libversion()[0] in line["client"]
    assert "workers" not in line


def test_a_supervisor_says_how_many_it_has() -> None:
    """A worker of it says nothing of others."""
    assert _lines(workers=3)[0]["workers"] == 3


def test_what_is_not_set_is_not_said() -> None:
    """A worker without a name of its own has none in the line."""
    assert None not in _lines()[0].values()


def test_no_secret_of_the_client_is_said() -> None:
    """Its settings are not in the line."""
    lines = _lines(kafka={"sasl.password": "hunter2", "sasl.username": "me"})
    assert "hunter2" not in str(lines)


def test_what_is_for_tests_only_is_warned_of() -> None:
    """Each by its name, with what it does; and not in a worker that has neither."""
    try:
        failpoints.arm("sink.commit.before:3")
        _, point, delay = _lines(lineage_ack_delay_ms=100)
    finally:
        failpoints.arm(None)
    assert point["log_level"] == delay["log_level"] == "warning"
    assert (point["variable"], point["point"]) == ("KSTASH_FAIL_POINT", "sink.commit.before:3")
    assert (delay["setting"], delay["milliseconds"]) == ("lineage_ack_delay_ms", 100)
    assert "for tests only" in point["event"]
    assert "for tests only" in delay["event"]


@pytest.mark.parametrize("specification", ["sink.commit.before", "sink.commit.after:2"])
def test_a_fail_point_is_reported_as_it_was_given(specification: str) -> None:
    """Until it is disarmed."""
    try:
        failpoints.arm(specification)
        assert failpoints.armed() == specification
    finally:
        failpoints.arm(None)
    assert failpoints.armed() is None

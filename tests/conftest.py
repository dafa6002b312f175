"""What all tests share: Hypothesis profiles, a marker by folder, and which tests are proofs."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Other work shares the machine's two cores: a slow example is no finding here.
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _COMMON, max_examples=100)
settings.register_profile("ci", _COMMON, max_examples=500)
settings.register_profile("nightly", _COMMON, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

_MARKED_FOLDERS = ("integration", "chaos", "simulation")

_BROKER_FOLDERS = ("integration", "chaos")

FIND_MOST = (
    "chaos/test_checkers.py",
    "chaos/test_kills.py::test_order_of_inputs_survives_kills[1000]",
    "chaos/test_mixed_sinks.py::test_both_deliveries_survive_kills",
    "chaos/test_proxy.py",
    "chaos/test_storm.py::test_a_short_storm",
    "chaos/test_storm.py::test_a_seed_repeats_its_plan",
    "chaos/test_storm.py::test_a_victim_has_one_fault_at_a_time",
    "chaos/test_tower_checks.py",
    "chaos/test_tower_in_memory.py",
    "integration/test_bounded.py",
    "integration/test_chained.py",
    "integration/test_guarantees.py",
    "integration/test_kafka_adapters.py",
    "integration/test_kafka_writers.py",
    "integration/test_moves.py",
    "integration/test_ports_contract.py",
    "integration/test_secured_rights.py::test_the_documented_rights_are_enough",
    "integration/test_transactional.py",
    "integration/test_workers.py",
)
"""Tests of the folders with a broker that `make test` runs: those that find most in the few minutes
it has for them. All others there are proofs (`make prove`), and so is what is marked `prove`."""


def pytest_configure() -> None:
    """A run that is ended by a signal stops what it has started, as one that is interrupted."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # One that was started in the background of a shell without jobs ignores it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    """Each test begins without a set-up of logs, whatever the test before has run."""
    structlog.reset_defaults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the folder it lies in, and as a proof when `make test` leaves it out.

    So `-m "not prove"` is `make test`, and `-m prove` all the rest.
    """
    root = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(root):
            continue
        path = item.path.relative_to(root)
        folder = path.parts[0]
        if folder in _MARKED_FOLDERS:
            item.add_marker(folder)
        if folder in _BROKER_FOLDERS and not finds_most(f"{path.as_posix()}::{item.name}"):
            item.add_marker("prove")


def finds_most(test: str) -> bool:
    """Whether `FIND_MOST` has a test, by its name or its file's."""
    return test in FIND_MOST or test.split("::")[0] in FIND_MOST

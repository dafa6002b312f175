"""A seed is all that a run depends on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SEEDS = 60

PROGRAM = f"""
from tests.simulation.schedule import run_seed
print([run_seed(seed).digest for seed in range({SEEDS})])
"""


def digests(hash_seed: str) -> str:
    """Run the sample in a process of its own with this hash seed."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


@pytest.mark.simulation
def test_runs_do_not_depend_on_the_hash_seed() -> None:
    """The same seeds under two hash seeds leave the same logs, byte for byte."""
    assert digests("1") == digests("2")

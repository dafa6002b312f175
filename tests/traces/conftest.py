"""The flag that rewrites the traces: `pytest tests/traces --update-traces`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag."""
    parser.addoption(
        "--update-traces", action="store_true", help="rewrite what the traces expect by what is"
    )

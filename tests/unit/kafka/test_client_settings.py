"""Settings of the clients that bound memory; a user's own go before them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kstash.kafka import client_settings as settings
from kstash.settings.config import Config

READERS: dict[str, Callable[[Config], settings.ClientSettings]] = {
    "reader": settings.reader,
    "scanner": settings.scanner,
    "checkpoints": settings.checkpoint_reader,
}


@pytest.mark.parametrize("name", READERS)
def test_an_answer_is_bounded(name: str) -> None:
    """Of the broker, as it comes: the client unpacks it as a whole."""
    assert READERS[name](Config.load(application_id="app"))["fetch.max.bytes"] == 8 << 20
    own = Config.load(application_id="app", kafka={"fetch.max.bytes": 1_000_000})
    assert READERS[name](own)["fetch.max.bytes"] == 1_000_000

"""What the tools make of a cluster that gives no answer; no broker."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from kstash.errors import KafkaUnavailableError
from kstash.kafka.tools import KafkaTools
from kstash.ports import NewTopic


def test_a_topic_that_is_not_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own answer may not come at all: an error with the address, and no traceback."""
    tools = KafkaTools("127.0.0.1:9", deadline_s=0)
    unanswered: dict[str, Future[Any]] = {"t": Future()}
    answers = SimpleNamespace(create_topics=lambda _: unanswered)
    monkeypatch.setattr(tools, "_admin", answers)
    monkeypatch.setattr(tools, "_connect", lambda: None, raising=False)
    with pytest.raises(KafkaUnavailableError, match=r"127.0.0.1:9.* create a topic"):
        tools.create([NewTopic("t", 1, 1, {})])
